"""One column of the gated PixelCNNs: the vertical stack row by row, the horizontal one pixel by pixel."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.columns import Above, Ahead, Pointwise

if TYPE_CHECKING:
    from lso.vae.gated_pixelcnn import Gated, GatedPixelCnnDecoder


def gate(x: Float[Tensor, "batch two_width ..."]) -> Float[Tensor, "batch width ..."]:
    """tanh of the first half of the channels, times the logistic function of the second.

    Args:
        x: ``(batch, 2 width, ...)``.
    Returns:
        ``(batch, width, ...)``.
    """
    s, t = x.chunk(2, 1)
    return torch.tanh(s) * torch.sigmoid(t)


class LayerColumn:
    """A layer of both stacks.

    Args:
        layer: the layer.
        maps: ``(batch, z_maps, height, width)`` of z that enter it.
    """

    def __init__(self, layer: "Gated", maps: Tensor) -> None:
        self.layer, self.maps, self.opened = layer, maps, layer.opened(maps)
        wide, reach = layer.above.in_channels, layer.reach
        self.above = Above(maps, wide, reach + 1, maps.shape[-1], reach)
        self.left = Ahead(layer.left.weight[:, :, 0], shift=int(layer.first))
        self.residual = Pointwise(layer.residual)
        self.project = None if layer.project is None else Pointwise(layer.project)
        self.own = maps[:0]
        bias = layer.left.bias
        assert bias is not None
        self.bias = bias[:, None, None].repeat(1, 1, maps.shape[-1])  # (2 width, 1, width)
        if layer.first and not layer.border_bias:
            self.bias[..., 0] = 0

    def begin(self, row: Int[Tensor, "1"]) -> Float[Tensor, "batch two_width 1 width"]:
        """Go on to the next row.

        Args:
            row: its number.
        Returns:
            a_l of that row: the vertical stack before the gate.
        """
        up, left = (part if isinstance(part, float) else part.index_select(2, row) for part in self.opened)
        seen = self.layer.above(self.above.turn())
        a: Tensor = (seen if self.layer.border_bias else seen * (row > 0)) + up
        self.left.begin(self.layer.across(a) + left + self.bias)
        self.own = self.maps.index_select(2, row)
        return a

    def below(self, v: Float[Tensor, "batch inside 1 width"]) -> None:
        """Take in the vertical stack's input of the current row, which the rows below see.

        Args:
            v: ``(batch, inside, 1, width)``.
        """
        self.above.line.copy_(self.layer.into(v, self.own)[:, :, 0].transpose(1, 2))

    def wide(self, column: int, h: Float[Tensor, "batch inside"]) -> Float[Tensor, "batch wide"]:
        """Input of the convolutions at a pixel.

        Args:
            column: of the pixel.
            h: ``(batch, inside)``.
        Returns:
            The same with the maps of z where they are masked.
        """
        return self.layer.into(h, self.own[:, :, 0, column])

    def __call__(self, column: int, h: Tensor | None) -> Float[Tensor, "batch width"]:
        """h_l at a pixel.

        Args:
            column: of the pixel.
            h: ``(batch, inside)`` that of the layer before; None in the first layer, which does not see the pixel.
        Returns:
            ``(batch, width)``.
        """
        if h is None:
            return self.residual(gate(self.left.at(column)))
        wide = self.wide(column, h)
        self.left.put(column, wide)
        out = self.residual(gate(self.left.at(column)))
        return out.add_(h if self.project is None else self.project(wide))


class GatedColumns:
    """A gated PixelCNN in the middle of an image (see `ancestral.Columns`).

    Args:
        decoder: the network.
        z: ``(batch, latent)``.
    """

    def __init__(self, decoder: "GatedPixelCnnDecoder", z: Float[Tensor, "batch latent"]) -> None:
        self.layers = [
            LayerColumn(layer, make(z))  # type: ignore[arg-type]
            for layer, make in zip(decoder.layers, decoder.maps, strict=False)  # the output may have one of its own
        ]
        self.output = Pointwise(decoder.output, decoder.beside)
        self.maps = decoder.maps[-1](z) if decoder.beside else None

    def begin(self, row: Int[Tensor, "1"]) -> None:
        """Go on to the next row.

        Args:
            row: its number.
        """
        v: Tensor | None = None  # the first layer's is the row itself, which is still to be drawn
        for layer in self.layers:
            a = layer.begin(row)
            if v is not None:
                layer.below(v)
            v = gate(a)
        self.output.begin(None if self.maps is None else self.maps.index_select(2, row))

    def at(self, column: int) -> Float[Tensor, "batch channels"]:
        """Raw output at the next pixel.

        Args:
            column: of the pixel.
        Returns:
            ``(batch, channels)``.
        """
        h: Tensor | None = None
        for layer in self.layers:
            h = layer(column, h)
        assert h is not None
        return self.output(h, column)

    def put(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Take in the pixel.

        Args:
            column: of the pixel.
            pixel: ``(batch, channels)``.
        """
        first = self.layers[0]
        wide = first.wide(column, pixel)
        first.above.line[:, column] = wide
        first.left.put(column, wide)
