"""The residual encoder of He et al. (2019), for images of any size."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.batch_norm import BatchNorm2d
from lso.vae.conv import resolutions
from lso.vae.gaussian import DiagonalGaussian

WIDENING = 8  # channels of the last convolution, as a multiple of those of the blocks


class ResnetEncoder(nn.Module):
    """Residual blocks of stride 2 down to at most 4x4, a convolution over what is left, and a linear layer.

    28x28 makes three blocks (28, 14, 7, 4), and 752,448 parameters at width 64 and 32 latents.

    Args:
        shape: ``(channels, height, width)`` of a datum.
        latent_dim: size of z.
        width: channels of the blocks.
    Source: He et al. (2019), arXiv:1901.05534, app. B.1, and the authors' code (initialization). Deviation: as many
        blocks as the size of the image asks for.
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int) -> None:
        super().__init__()
        sides = resolutions(shape[1], shape[2])
        channels = [shape[0], *[width] * (len(sides) - 1)]
        self.blocks = nn.Sequential(*(Block(a, width) for a in channels[:-1]))
        self.last = convolution(width, WIDENING * width, sides[-1])
        self.norm = BatchNorm2d(WIDENING * width)
        self.output = nn.Linear(WIDENING * width, 2 * latent_dim)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> DiagonalGaussian:
        """Encode a batch.

        Args:
            x: ``(batch, channels, height, width)`` in [0, 1].
        Returns:
            q(z|x).
        """
        h = F.elu(self.norm(self.last(self.blocks(x))))  # a single datum has one value a channel there
        return DiagonalGaussian(*self.output(h.flatten(1)).chunk(2, dim=-1))


class Block(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, beside a 1x1 convolution of stride 2.

    Args:
        inside: input channels.
        out: output channels.
    """

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.first, self.second = convolution(inside, out, (3, 3), 2, 1), convolution(out, out, (3, 3), 1, 1)
        self.shortcut = convolution(inside, out, (1, 1), 2)
        self.norms = nn.ModuleList(BatchNorm2d(out) for _ in range(3))

    def forward(self, x: Float[Tensor, "batch inside height width"]) -> Float[Tensor, "batch out rows columns"]:
        """Apply the block.

        Args:
            x: ``(batch, inside, height, width)``.
        Returns:
            ``(batch, out, rows, columns)``, half the height and width, rounded up.
        """
        h = F.elu(self.norms[0](self.first(x)))
        return F.elu(self.norms[1](self.second(h)) + self.norms[2](self.shortcut(x)))


def convolution(inside: int, out: int, kernel: tuple[int, int], stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution without bias, normal of variance 2 / (taps * out).

    Args:
        inside: input channels.
        out: output channels.
        kernel: height and width of the window.
        stride: of the window.
        padding: rows and columns of zeros on each side.
    Returns:
        The layer.
    """
    layer = nn.Conv2d(inside, out, kernel, stride, padding, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (math.prod(kernel) * out)))
    return layer
