"""The layers of an autoregressive network taken pixel by pixel: what the rows above add is found for a whole row at
once, what pixels to the left add is handed on by each of them.

Nothing depends on the number of the row but what is given for it, and what lasts from row to row is changed in place.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Above:
    """The rows above the current one that a convolution sees, padded with zeros, and the current one as it grows.

    Args:
        like: gives batch size, device and dtype.
        channels: of the maps.
        rows: seen.
        width: of the image.
        reach: columns seen to either side.
    """

    def __init__(self, like: Tensor, channels: int, rows: int, width: int, reach: int) -> None:
        self.inside = slice(reach, reach + width)
        self.rows = like.new_zeros(len(like), rows, width + 2 * reach, channels)
        self.line = like.new_zeros(len(like), width, channels)

    def turn(self) -> Float[Tensor, "batch channels rows padded"]:
        """The current row becomes the lowest of those above.

        Returns:
            The rows above, channels last in memory.
        """
        self.rows[:, :-1] = self.rows[:, 1:].clone()
        self.rows[:, -1, self.inside] = self.line
        return self.rows.permute(0, 3, 1, 2)


class Ahead:
    """Sums at the pixels of a row, to which each pixel adds its part of those after it as soon as it is known.

    Args:
        weight: ``(out, inputs, taps)`` of a convolution along the row; the last tap sees ``shift`` pixels to the left.
        shift: 0 where a pixel sees itself, else 1.
    """

    def __init__(self, weight: Float[Tensor, "out inputs taps"], shift: int) -> None:
        self.taps, self.shift = weight.shape[2], shift
        self.weight = weight.flip(2).permute(1, 2, 0).flatten(1)  # (inputs, taps * out), nearest pixel first
        self.sums = weight  # of the current row, (batch, columns, out)

    def begin(self, start: Float[Tensor, "batch out 1 width"]) -> None:
        """Go on to the next row.

        Args:
            start: all that does not come from its own pixels.
        """
        beyond = (0, 0, 0, self.taps - 1 + self.shift)  # what the last pixels add to is never read
        self.sums = F.pad(start[:, :, 0].transpose(1, 2).contiguous(), beyond)

    def put(self, column: int, value: Float[Tensor, "batch inputs"]) -> None:
        """Take in one pixel.

        Args:
            column: of the pixel.
            value: ``(batch, inputs)``.
        """
        first, out = column + self.shift, self.sums.shape[2]
        self.sums.flatten(1)[:, first * out : (first + self.taps) * out].addmm_(value, self.weight)

    def at(self, column: int) -> Float[Tensor, "batch out"]:
        """The sums at a pixel, once all that it sees was put.

        Args:
            column: of the pixel.
        Returns:
            ``(batch, out)``.
        """
        return self.sums[:, column]


class Pointwise:
    """A 1x1 convolution, of which the part of maps of z beside its input is known for a whole row.

    Args:
        convolution: with a bias.
        maps: how many.
    """

    def __init__(self, convolution: nn.Conv2d, maps: int = 0) -> None:
        assert convolution.bias is not None
        weight, inputs = convolution.weight.flatten(1), convolution.in_channels - maps
        self.weight, self.opened = weight[:, :inputs].T.contiguous(), weight[:, inputs:].T
        self.bias = self.start = convolution.bias.detach()

    def begin(self, maps: Float[Tensor, "batch maps 1 width"] | None) -> None:
        """Go on to the next row.

        Args:
            maps: of z in that row, where there are some.
        """
        if maps is not None:
            self.start = (maps[:, :, 0].transpose(1, 2) @ self.opened + self.bias).transpose(
                0, 1
            )  # (width, batch, out)

    def __call__(self, x: Float[Tensor, "batch inputs"], column: int = 0) -> Float[Tensor, "batch out"]:
        """Apply it at a pixel.

        Args:
            x: ``(batch, inputs)``.
            column: of the pixel.
        Returns:
            ``(batch, out)``.
        """
        return torch.addmm(self.start if self.start.ndim == 1 else self.start[column], x, self.weight)
