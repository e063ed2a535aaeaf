"""One column of the residual PixelCNN: all its layers at one pixel, from what they were at the pixels before.

With batch-norms folded into the weights a column is a chain of small matrix products.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lso.vae.columns import Above, Ahead, Pointwise

if TYPE_CHECKING:
    from lso.vae.masked import MaskedConv2d
    from lso.vae.pixelcnn import Block, PixelCnnDecoder


class MaskedColumn:
    """A masked convolution.

    Args:
        masked: the convolution, of a side of at least 3.
        width: of the image.
        like: gives batch size, device and dtype.
    """

    def __init__(self, masked: "MaskedConv2d", width: int, like: Tensor) -> None:
        half = masked.kernel // 2
        weight, self.bias = masked.live(), masked.bias
        self.upper = weight[:, :, :-1].contiguous(memory_format=torch.channels_last)
        self.above = Above(like, masked.causal, half, width, half)
        self.ahead = Ahead(weight[:, :, -1, : half + 1], shift=0)  # the pixel's own tap is 0 where it sees not itself

    def begin(self, opened: Float[Tensor, "batch out 1 width"] | float = 0.0) -> None:
        """Go on to the next row.

        Args:
            opened: what open channels add there.
        """
        self.ahead.begin(F.conv2d(self.above.turn(), self.upper, self.bias) + opened)

    def put(self, column: int, value: Float[Tensor, "batch inputs"]) -> None:
        """Take in one pixel.

        Args:
            column: of the pixel.
            value: ``(batch, inputs)``.
        """
        self.above.line[:, column] = value
        self.ahead.put(column, value)


class BlockColumn:
    """A block at one pixel, that of ``column``.

    Args:
        block: the block.
        width: of the image.
        like: gives batch size, device and dtype.
    """

    def __init__(self, block: "Block", width: int, like: Tensor) -> None:
        maps = block.down.in_channels - block.up.out_channels
        self.down, self.up = Pointwise(block.down, maps), Pointwise(block.up)
        self.masked = MaskedColumn(block.masked, width, like)
        self.column = 0

    def begin(self, maps: Tensor | None) -> None:
        """Go on to the next row.

        Args:
            maps: ``(batch, maps, 1, width)`` of z in that row, where there are some.
        """
        self.down.begin(maps)
        self.masked.begin()

    def __call__(self, x: Float[Tensor, "batch width"], maps: list[Tensor]) -> Float[Tensor, "batch width"]:
        """The block's output.

        Args:
            x: ``(batch, width)`` its input there.
            maps: none: they were given for the row.
        Returns:
            ``(batch, width)``.
        """
        self.masked.put(self.column, F.elu(self.down(x, self.column), inplace=True))
        h = F.elu(self.masked.ahead.at(self.column))
        return F.elu(self.up(h).add_(x), inplace=True)


class PixelCnnColumns:
    """A residual PixelCNN in the middle of an image (see `ancestral.Columns`).

    Args:
        decoder: the network, folded.
        z: ``(batch, latent)``.
    """

    def __init__(self, decoder: "PixelCnnDecoder", z: Float[Tensor, "batch latent"]) -> None:
        width = decoder.shape[2]
        self.first = MaskedColumn(decoder.first, width, z)
        self.opened = decoder.first.over(decoder.input(z)) if decoder.input.maps else None
        self.blocks, self.skips = (
            [BlockColumn(block, width, z) for block in group]  # type: ignore[arg-type]
            for group in (decoder.blocks, decoder.skips)
        )
        self.maps = [edge(z) for edge in decoder.edges]
        self.mix = Pointwise(decoder.mix, maps=decoder.mix.in_channels - decoder.mix.out_channels)
        self.output = decoder.output.weight.flatten(1).T.contiguous()

    def begin(self, row: Int[Tensor, "1"]) -> None:
        """Go on to the next row.

        Args:
            row: its number.
        """
        self.first.begin(0.0 if self.opened is None else self.opened.index_select(2, row))
        layers = [*self.blocks, *self.skips, self.mix]
        maps = [m.index_select(2, row) for m in self.maps] or [None] * len(layers)
        for layer, own in zip(layers, maps, strict=True):
            layer.begin(own)  # type: ignore[attr-defined]

    def at(self, column: int) -> Float[Tensor, "batch channels"]:
        """Raw output at the next pixel.

        Args:
            column: of the pixel.
        Returns:
            ``(batch, channels)``.
        """
        for block in chain(self.blocks, self.skips):
            block.column = column
        h = wire(self.blocks, self.skips, F.elu(self.first.ahead.at(column)), [])
        return F.elu(self.mix(h, column), inplace=True) @ self.output

    def put(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Take in the pixel.

        Args:
            column: of the pixel.
            pixel: ``(batch, channels)``.
        """
        self.first.put(column, pixel)


Layer = Callable[[Tensor, list[Tensor]], Tensor]


def wire(blocks: Iterable[Layer], skips: Iterable[Layer], h: Tensor, maps: list[Tensor]) -> Tensor:
    """Blocks one after another, each also hearing, through a long skip, what went into the layer two before it.

    Args:
        blocks: the layers after the first.
        skips: one less.
        h: output of the first layer.
        maps: of z, those of the blocks, then those of the skips; or none.
    Returns:
        Output of the last block and the last skip, of the shape of ``h``.
    """
    chain, bridges = list(blocks), list(skips)
    own = [maps[i : i + 1] for i in range(len(chain) + len(bridges))]
    hs = [h]
    for i, block in enumerate(chain):
        into = hs[-1] if i < 2 else hs[-1] + bridges[i - 2](hs[i - 2], own[len(chain) + i - 2])
        hs.append(block(into, own[i]))
    return hs[-1] + bridges[-1](hs[-3], own[-1]) if bridges else hs[-1]
