"""One column of the residual PixelCNN: all its layers at one pixel, from what they were at the pixels before.

Batch-norm in eval mode is affine, so it is folded into the weights once, and a column is a chain of small matrix
products. Each masked layer keeps its input maps, padded with zeros, and sees the window that ends at the pixel.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from lso.vae.masked import MaskedConv2d
    from lso.vae.pixelcnn import Block, PixelCnnDecoder

Affine = tuple[Tensor, Tensor]  # (inputs, outputs) weight and (outputs,) bias


def folded(weight: Float[Tensor, "out inputs"], norm: nn.BatchNorm2d) -> Affine:
    """A linear map followed by a batch-norm with its running statistics.

    Args:
        weight: ``(out, inputs)``.
        norm: over the outputs.
    Returns:
        Weight ``(inputs, out)`` and bias ``(out,)`` of the one linear map that they are.
    """
    assert norm.running_mean is not None
    scale = _scale(norm)
    return (weight * scale[:, None]).T.contiguous(), norm.bias - scale * norm.running_mean


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.weight / torch.sqrt(norm.running_var + norm.eps)


class Window:
    """Maps as far as they are known, and the part of them that a masked convolution sees from a pixel.

    Args:
        masked: the convolution.
        size: height and width of the image.
        like: gives batch size, device and dtype.
    """

    def __init__(self, masked: "MaskedConv2d", size: tuple[int, ...], like: Tensor) -> None:
        self.half = masked.kernel // 2
        self.weight = masked.live().permute(0, 2, 3, 1).flatten(1)  # (out, rows * columns * channels)
        height, width = size[0] + self.half, size[1] + 2 * self.half
        self.maps = like.new_zeros(len(like), height, width, masked.causal)

    def put(self, row: int, column: int, value: Float[Tensor, "batch channels"]) -> None:
        """Set one pixel.

        Args:
            row: of the pixel.
            column: of the pixel.
            value: ``(batch, channels)``.
        """
        self.maps[:, row + self.half, column + self.half] = value

    def at(self, row: int, column: int) -> Float[Tensor, "batch taps"]:
        """The window that ends at a pixel, in the order of ``weight``.

        Args:
            row: of the pixel.
            column: of the pixel.
        Returns:
            ``(batch, rows * columns * channels)``.
        """
        return self.maps[:, row : row + self.half + 1, column : column + 2 * self.half + 1].flatten(1)


class BlockColumn:
    """A block at one pixel.

    Args:
        block: the block.
        size: height and width of the image.
        like: gives batch size, device and dtype.
    """

    def __init__(self, block: "Block", size: tuple[int, ...], like: Tensor) -> None:
        norms = list(block.norms)
        self.window = Window(block.masked, size, like)
        self.down, self.up = (folded(c.weight.flatten(1), n) for c, n in ((block.down, norms[0]), (block.up, norms[2])))  # type: ignore[arg-type]
        self.middle = folded(self.window.weight, norms[1])  # type: ignore[arg-type]
        self.place = (0, 0)

    def __call__(self, x: Float[Tensor, "batch width"], maps: list[Tensor]) -> Float[Tensor, "batch width"]:
        """The block's output at ``place``.

        Args:
            x: ``(batch, width)`` its input there.
            maps: one of ``(batch, maps)``, or none.
        Returns:
            ``(batch, width)``.
        """
        wide = torch.cat([x, *maps], 1) if maps else x
        self.window.put(*self.place, F.elu(_affine(wide, self.down), inplace=True))
        h = F.elu(_affine(self.window.at(*self.place), self.middle), inplace=True)
        return F.elu(_affine(h, self.up).add_(x), inplace=True)


def _affine(x: Tensor, by: Affine) -> Tensor:
    return torch.addmm(by[1], x, by[0])


class PixelCnnColumns:
    """A residual PixelCNN in the middle of an image (see `ancestral.Columns`).

    Args:
        decoder: the network; its running statistics are used.
        z: ``(batch, latent)``.
    """

    def __init__(self, decoder: "PixelCnnDecoder", z: Float[Tensor, "batch latent"]) -> None:
        size = decoder.shape[1:]
        self.window = Window(decoder.first, size, z)
        self.first = folded(self.window.weight, decoder.norm)
        opened = decoder.first.over(decoder.input(z)) if decoder.input.maps else z.new_zeros(1, 1, *size)
        self.opened = opened * _scale(decoder.norm)[:, None, None]
        self.blocks, self.skips = (
            [BlockColumn(block, size, z) for block in group]  # type: ignore[arg-type]
            for group in (decoder.blocks, decoder.skips)
        )
        self.maps = [edge(z) for edge in decoder.edges]
        self.mix = folded(decoder.mix.weight.flatten(1), decoder.mix_norm)
        self.output = decoder.output.weight.flatten(1).T.contiguous()

    def at(self, row: int, column: int) -> Float[Tensor, "batch channels"]:
        """Raw output at the next pixel.

        Args:
            row: of the pixel.
            column: of the pixel.
        Returns:
            ``(batch, channels)``.
        """
        for block in (*self.blocks, *self.skips):
            block.place = (row, column)
        maps = [m[:, :, row, column] for m in self.maps]
        h = F.elu(_affine(self.window.at(row, column), self.first) + self.opened[:, :, row, column])
        h = wire(self.blocks, self.skips, h, maps)
        wide = torch.cat([h, *maps[-1:]], 1) if maps else h
        return F.elu(_affine(wide, self.mix), inplace=True) @ self.output

    def put(self, row: int, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Take in the pixel.

        Args:
            row: of the pixel.
            column: of the pixel.
            pixel: ``(batch, channels)``.
        """
        self.window.put(row, column, pixel)


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
