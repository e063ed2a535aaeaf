"""The residual encoders of He et al. (2019) and Kim et al. (2018), for images of any size."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, PosteriorFamily
from lso.vae.distributions.families import from_output
from lso.vae.models.conv import resolutions
from lso.vae.models.layers import BatchNorm2d
from lso.vae.protocols import Posterior

LAST_WIDTH_FACTOR = 8  # channels of the last convolution of `ResnetEncoder`, as a multiple of those of the blocks


class ResnetEncoder(nn.Module):
    """Residual blocks of stride 2 down to at most 4x4, a convolution over all that is left, and a linear layer.

    28x28 gives three blocks (28, 14, 7, 4), and 752,448 parameters at width 64 and 32 latents.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        architecture: its width is the number of channels of the blocks.
        posterior: family of q(z|x).
    Source: He et al. (2019), arXiv:1901.05534, app. B.1, and the authors' code (initialization). Deviation: as many
        blocks as the size of the image asks for.
    """

    def __init__(
        self, shape: tuple[int, ...], architecture: Architecture, posterior: PosteriorFamily = DiagonalPosterior()
    ) -> None:
        super().__init__()
        self.posterior = posterior
        width = architecture.width
        sides = resolutions(shape[1], shape[2])
        channels = [shape[0], *[width] * (len(sides) - 1)]
        self.blocks = nn.Sequential(*(ResNetBlock(a, width) for a in channels[:-1]))
        self.last = convolution(width, LAST_WIDTH_FACTOR * width, sides[-1])
        self.norm = BatchNorm2d(LAST_WIDTH_FACTOR * width)
        self.output = nn.Linear(LAST_WIDTH_FACTOR * width, posterior.parameters(architecture.latent_dim))
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Posterior:
        """Encode a batch."""
        h = F.elu(self.norm(self.last(self.blocks(x))))  # one value a channel: see `BatchNorm2d` for a single datum
        return from_output(self.posterior, self.output(h.flatten(1)))


class ResNetBlock(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, with a 1x1 convolution of stride 2 as the shortcut."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.first, self.second = convolution(inside, out, (3, 3), 2, 1), convolution(out, out, (3, 3), 1, 1)
        self.shortcut = convolution(inside, out, (1, 1), 2)
        self.norms = nn.ModuleList(BatchNorm2d(out) for _ in range(3))

    def forward(self, x: Float[Tensor, "batch inside height width"]) -> Float[Tensor, "batch out rows columns"]:
        """Apply the block."""
        h = F.elu(self.norms[0](self.first(x)))
        return F.elu(self.norms[1](self.second(h)) + self.norms[2](self.shortcut(x)))


def convolution(inside: int, out: int, kernel: tuple[int, int], stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution without bias, initialized normally with variance 2 / (taps * out)."""
    layer = nn.Conv2d(inside, out, kernel, stride, padding, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (math.prod(kernel) * out)))
    return layer


MAX_LAST_SIDE = 4  # `KimEncoder` halves the sides, rounding down, until none exceeds this
WIDTH_FACTOR = 2  # channels of `KimEncoder`, as a multiple of the decoder's


class KimEncoder(nn.Module):
    """Residual blocks, each followed by a 2x2 convolution of stride 2, then linear layers to mean and log-variance.

    28x28 gives three blocks (28, 14, 7, 3), and 272,448 parameters at the published sizes, 64 channels and 32 latents.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        architecture: its width is that of the decoder; the encoder has twice as many channels.
        posterior: family of q(z|x).
    Source: Kim et al. (2018), arXiv:1802.02550, authors' code. Deviation: as many blocks as the size of the image asks
        for; a side that is 1 already is not halved.
    """

    def __init__(
        self, shape: tuple[int, ...], architecture: Architecture, posterior: PosteriorFamily = DiagonalPosterior()
    ) -> None:
        super().__init__()
        self.posterior = posterior
        channels, (height, breadth), inside = WIDTH_FACTOR * architecture.width, shape[1:], shape[0]
        blocks: list[nn.Module] = []
        halvings: list[nn.Module] = []
        while max(height, breadth) > MAX_LAST_SIDE or not blocks:
            stride = (min(2, height), min(2, breadth))
            blocks.append(KimBlock(inside, channels))
            halvings.append(nn.Conv2d(channels, channels, stride, stride))
            inside, height, breadth = channels, max(1, height // 2), max(1, breadth // 2)
        self.blocks, self.halvings = nn.ModuleList(blocks), nn.ModuleList(halvings)
        latent_dim, features = architecture.latent_dim, math.prod((channels, height, breadth))
        # Two layers, as published: to the mean, and to the other parameters of the family, by default log-variances.
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, posterior.parameters(latent_dim) - latent_dim)
        for linear in (self.mean, self.log_var):
            nn.init.kaiming_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Posterior:
        """Encode a batch."""
        for block, halving in zip(self.blocks, self.halvings, strict=True):
            x = halving(block(x))
        h = x.flatten(1)
        return from_output(self.posterior, torch.cat([self.mean(h), self.log_var(h)], -1))


class KimBlock(nn.Module):
    """Two 3x3 convolutions with batch-norm, added to the input, which a 1x1 convolution widens where it must be."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inside, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.norms = nn.ModuleList(BatchNorm2d(out) for _ in range(2))
        self.widen = nn.Conv2d(inside, out, 1) if inside != out else nn.Identity()

    def forward(self, x: Float[Tensor, "batch inside height width"]) -> Float[Tensor, "batch out height width"]:
        """Apply the block."""
        h = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(h)) + self.widen(x))
