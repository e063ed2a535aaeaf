"""Small convolutional encoder and decoder for images of any size from 8x8 to 64x64."""

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, PosteriorFamily
from lso.vae.distributions.families import from_output
from lso.vae.distributions.pixels import Head
from lso.vae.protocols import Likelihood, Posterior

MAX_LAST_SIDE = 4  # sides of the feature maps are halved until none exceeds this


def resolutions(height: int, width: int) -> list[tuple[int, int]]:
    """The resolutions of the stages: both sides halved, rounding up, until neither exceeds 4."""
    sides = [(height, width)]
    while max(sides[-1]) > MAX_LAST_SIDE:
        h, w = sides[-1]
        sides.append((-(-h // 2), -(-w // 2)))
    return sides


def stage_channels(stages: int, width: int) -> list[int]:
    """The channels after each halving: ``width`` after the first, twice that after the others."""
    return [width if i == 0 else 2 * width for i in range(stages)]


class ConvEncoder(nn.Module):
    """3x3 convolutions of stride 2 with ELU down to at most 4x4, then a linear layer.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        architecture: its width is the channels of the first stage.
        posterior: family of q(z|x).
    """

    def __init__(
        self, shape: tuple[int, ...], architecture: Architecture, posterior: PosteriorFamily = DiagonalPosterior()
    ) -> None:
        super().__init__()
        self.posterior = posterior
        sides = resolutions(shape[1], shape[2])
        channels = [shape[0], *stage_channels(len(sides) - 1, architecture.width)]
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.output = nn.Linear(channels[-1] * math.prod(sides[-1]), posterior.parameters(architecture.latent_dim))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Posterior:
        """Encode a batch."""
        for stage in self.stages:
            x = F.elu(stage(x))
        return from_output(self.posterior, self.output(x.flatten(1)))


class ConvDecoder(nn.Module):
    """The encoder's pyramid upwards: a linear layer to the smallest stage, then 4x4 transposed convolutions of stride 2
    with ELU.

    With ``skip``, every convolution's output gets U_l z added, one number a channel at all positions, so that z enters
    every layer (Dieng et al. 2019, arXiv:1807.04863, eq. 7). Deviation: theirs are fully connected or autoregressive
    decoders.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        architecture: sizes, its width the channels of the last hidden stage, and the likelihood of pixels.
        skip: whether z enters every layer after the first, which sees nothing else.
    """

    def __init__(self, shape: tuple[int, ...], architecture: Architecture, skip: bool = False) -> None:
        super().__init__()
        latent_dim, width = architecture.latent_dim, architecture.width
        self.sides = resolutions(shape[1], shape[2])[::-1]
        channels = [*stage_channels(len(self.sides) - 1, width)[::-1], shape[0]]
        self.first = (channels[0], *self.sides[0])
        self.input = nn.Linear(latent_dim, math.prod(self.first))
        self.stages = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels))
        self.edges = nn.ModuleList(nn.Linear(latent_dim, b, bias=False) for b in channels[1:] if skip)
        self.head = Head(architecture.likelihood, shape[0])

    def forward(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """Decode a batch of codes."""
        h: Tensor = self.input(z).unflatten(1, self.first)
        for i, (stage, (height, width)) in enumerate(zip(self.stages, self.sides[1:], strict=True)):
            h = stage(F.elu(h))[..., :height, :width]  # a doubled side is one too long where halving rounded up
            if self.edges:
                h = h + self.edges[i](z)[:, :, None, None]
        likelihood: Likelihood = self.head(h)
        return likelihood
