"""The gated two-stack PixelCNN decoders of Kim et al. (2018) and Dieng et al. (2019), and their cached sampling."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import Architecture
from lso.vae.distributions.pixels import Head
from lso.vae.models import autoregressive
from lso.vae.models.autoregressive import CausalRowConv, Conv1x1Cache, RowCache
from lso.vae.models.pixelcnn import ZMaps, require_data
from lso.vae.protocols import Likelihood


def gate(x: Float[Tensor, "batch two_width ..."]) -> Float[Tensor, "batch width ..."]:
    """The gated activation: tanh of the first half of the channels times the logistic function of the second half."""
    s, t = x.chunk(2, 1)
    return torch.tanh(s) * torch.sigmoid(t)


class LayerColumn:
    """A layer of both stacks with the caches for sampling.

    Args:
        layer: the layer.
        maps: ``(batch, z_maps, height, width)`` of z that enter it.
    """

    def __init__(self, layer: "Gated", maps: Tensor) -> None:
        self.layer, self.maps, self.opened = layer, maps, layer.open_terms(maps)
        wide, reach = layer.above.in_channels, layer.reach
        self.above = RowCache(maps, wide, reach + 1, maps.shape[-1], reach)
        self.left = CausalRowConv(layer.left.weight[:, :, 0], shift=int(layer.first))
        self.residual = Conv1x1Cache(layer.residual)
        self.project = None if layer.project is None else Conv1x1Cache(layer.project)
        self.own = maps[:0]
        bias = layer.left.bias
        assert bias is not None
        self.bias = bias[:, None, None].repeat(1, 1, maps.shape[-1])  # (2 width, 1, width)
        if layer.first and not layer.border_bias:
            self.bias[..., 0] = 0

    def start_row(self, row: Int[Tensor, "1"]) -> Float[Tensor, "batch two_width 1 width"]:
        """Begin a row, given its number, and return a_l of that row: the vertical stack before the gate."""
        up, left = (part if isinstance(part, float) else part.index_select(2, row) for part in self.opened)
        seen = self.layer.above(self.above.advance_row())
        a: Tensor = (seen if self.layer.border_bias else seen * (row > 0)) + up
        self.left.start_row(self.layer.across(a) + left + self.bias)
        self.own = self.maps.index_select(2, row)
        return a

    def push_vertical(self, v: Float[Tensor, "batch inside 1 width"]) -> None:
        """Store the vertical stack's input of the current row, which the rows below see."""
        self.above.line.copy_(self.layer.append_masked_maps(v, self.own)[:, :, 0].transpose(1, 2))

    def conv_input(self, column: int, h: Float[Tensor, "batch inside"]) -> Float[Tensor, "batch wide"]:
        """The input of the convolutions at a pixel: h, with the maps of z appended where they are masked."""
        return self.layer.append_masked_maps(h, self.own[:, :, 0, column])

    def __call__(self, column: int, h: Tensor | None) -> Float[Tensor, "batch width"]:
        """h_l at a pixel from that of the layer before, which is None in the first layer: it does not see the pixel."""
        if h is None:
            return self.residual(gate(self.left.read(column)))
        wide = self.conv_input(column, h)
        self.left.push(column, wide)
        out = self.residual(gate(self.left.read(column)))
        return out.add_(h if self.project is None else self.project(wide))


class GatedColumns:
    """A gated PixelCNN in the middle of drawing images, see `autoregressive.ImageColumns`."""

    def __init__(self, decoder: "GatedPixelCnnDecoder", z: Float[Tensor, "batch latent"]) -> None:
        self.layers = [
            LayerColumn(layer, make(z))  # type: ignore[arg-type]
            for layer, make in zip(decoder.layers, decoder.maps, strict=False)  # the last maps may be the output's
        ]
        self.output = Conv1x1Cache(decoder.output, decoder.output_maps)
        self.maps = decoder.maps[-1](z) if decoder.output_maps else None

    def start_row(self, row: Int[Tensor, "1"]) -> None:
        """Begin a row of all layers."""
        v: Tensor | None = None  # the first layer's input is the row itself, which is still to be drawn
        for layer in self.layers:
            a = layer.start_row(row)
            if v is not None:
                layer.push_vertical(v)
            v = gate(a)
        self.output.start_row(None if self.maps is None else self.maps.index_select(2, row))

    def read(self, column: int) -> Float[Tensor, "batch channels"]:
        """The raw output at the next pixel."""
        h: Tensor | None = None
        for layer in self.layers:
            h = layer(column, h)
        assert h is not None
        return self.output(h, column)

    def push(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Feed the pixel's value to the first layer."""
        first = self.layers[0]
        wide = first.conv_input(column, pixel)
        first.above.line[:, column] = wide
        first.left.push(column, wide)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """The sizes in which the published networks differ."""

    kernels: tuple[int, ...]  # side of each layer's window
    z_maps: int  # number of maps of z, at each place where z enters
    projected: bool  # whether a layer's input passes a 1x1 convolution before it is added to the output


KIM2018 = Stacks(kernels=(9,) * 3 + (7,) * 3 + (5,) * 3 + (3,) * 3, z_maps=4, projected=False)
DIENG2019 = Stacks(kernels=(3,) * 8, z_maps=1, projected=True)


class GatedPixelCnnDecoder(nn.Module):
    """p(x|z) with each pixel given z and the pixels before it, by two stacks.

    A vertical stack sees the rows above a pixel, a horizontal one the pixels to its left and the vertical stack:

        v_l = gate(a_l), a_l = V_l v_{l-1} (rows above);  h_l = R_l gate(H_l h_{l-1} (to the left) + P_l a_l) + h_{l-1},
        gate([s, t]) = tanh(s) sigmoid(t);

    in the first layer H excludes the pixel itself and nothing is added. As published, V sees rows strictly above in
    every layer, so that the far right of the row just above a pixel is not seen. Maps of z, linear in it, enter the
    first layer; with ``skip``, every layer and the output have maps of their own (Dieng et al. 2019). They are added to
    both gates, each number at its own pixel, so that every pixel sees z. With ``masked_z`` they are further input
    channels of V and H instead, as published, and pass the causal masks: then pixel (0, 0) sees no z.

    V of every layer and H of the first are shifted by a pixel; the first row or column, where they see nothing, is 0
    without a bias.

    At 28x28, ``masked_z`` and the published latents there are 744,801 parameters for `KIM2018` (32 latents), as
    published, and for `DIENG2019` (20 latents) 317,874 with skip, 182,353 without. The published counts of 301,506 and
    297,697 leave out the output's map of z (16,464 parameters) and include layers that are never used: a 1x1
    convolution (96), and without skip seven maps of z (115,248).

    Args:
        shape: ``(channels, height, width)`` of a datum.
        architecture: size of z, 0 for none; width, the feature maps of each stack; likelihood of pixels; edition: 1 is
            the authors' code. In edition 0, that of version 0.1, the output shares the map of z of the last layer
            (301,410 parameters), and the first row or column of a shifted convolution is its bias.
        skip: whether z enters every layer and the output.
        stacks: `KIM2018` or `DIENG2019`.
        masked_z: whether maps of z pass the causal masks.
    Source: Kim et al. (2018), arXiv:1802.02550; Dieng et al. (2019), arXiv:1807.04863; authors' code of both.
        Deviations: logits instead of clamped probabilities; open maps of z by default.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        architecture: Architecture,
        skip: bool = False,
        stacks: Stacks = KIM2018,
        masked_z: bool = False,
    ) -> None:
        super().__init__()
        latent_dim, width, edition = architecture.latent_dim, architecture.width, architecture.edition
        self.shape = shape
        maps = stacks.z_maps if latent_dim else 0
        own = [maps if skip or i == 0 else 0 for i in range(len(stacks.kernels))]
        self.output_maps = maps if skip else 0
        # The output's own maps stand after those of the layers.
        last = [self.output_maps] if self.output_maps and edition else []
        self.maps = nn.ModuleList(ZMaps(latent_dim, count, shape) for count in own + last)
        for made in self.maps.modules():
            if isinstance(made, nn.Linear):
                nn.init.kaiming_normal_(made.weight)
        inputs = [shape[0], *[width] * (len(stacks.kernels) - 1)]
        self.layers = nn.ModuleList(
            Gated(
                a,
                width,
                kernel,
                z_maps=count,
                masked_z=masked_z,
                projected=stacks.projected,
                first=i == 0,
                border_bias=edition == 0,
            )
            for i, (a, kernel, count) in enumerate(zip(inputs, stacks.kernels, own, strict=True))
        )
        self.output = nn.Conv2d(width + self.output_maps, shape[0], 1)
        self.head = Head(architecture.likelihood, shape[0])

    def forward(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """The likelihood p(x|z) of a batch of codes, teacher-forced on data x in [0, 1], without which it raises."""
        v = h = require_data(x)
        maps = [make(z) for make in self.maps]
        for layer, own in zip(self.layers, maps, strict=False):  # the last maps may be the output's
            a = layer.vertical(v, own)  # type: ignore[operator]
            v, h = gate(a), layer.horizontal(h, a, own)  # type: ignore[operator]
        likelihood: Likelihood = self.head(self.output(torch.cat([h, maps[-1]], 1) if self.output_maps else h))
        return likelihood

    @torch.no_grad()
    def generate(
        self, z: Float[Tensor, "batch latent"], noise: Tensor | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Draw images in raster order, each pixel at the cost of one column of the network.

        ``noise`` are uniforms ``(batch, channels, height, width)``, or one image of them for all codes; None takes the
        likeliest value of each pixel.
        """
        drawn = None if noise is None else noise.to(z).expand(len(z), *self.shape)
        return autoregressive.draw_images(partial(GatedColumns, self), self.head, self.shape, drawn, z)


kim2018_decoder = partial(GatedPixelCnnDecoder, stacks=KIM2018)
kim2018_masked_decoder = partial(GatedPixelCnnDecoder, stacks=KIM2018, masked_z=True)
dieng2019_decoder = partial(GatedPixelCnnDecoder, stacks=DIENG2019)
dieng2019_masked_decoder = partial(GatedPixelCnnDecoder, stacks=DIENG2019, masked_z=True)


class Gated(nn.Module):
    """A layer of both stacks. Its convolutions pad nothing, so that rows and pixels can be computed one by one.

    Args:
        inside: number of input channels of both stacks.
        width: number of output channels of both.
        kernel: side of the window.
        z_maps: number of maps of z that enter here.
        masked_z: whether they are input channels of the convolutions.
        projected: whether the layer's input passes a 1x1 convolution before it is added to the output.
        first: whether the pixel itself is excluded, and nothing is added.
        border_bias: whether the first row or column of a shifted convolution, which sees nothing, is the bias or 0.
    """

    def __init__(
        self,
        inside: int,
        width: int,
        kernel: int,
        *,
        z_maps: int,
        masked_z: bool,
        projected: bool,
        first: bool,
        border_bias: bool,
    ) -> None:
        super().__init__()
        self.reach, self.first, self.masked_z, self.border_bias = kernel // 2, first, masked_z, border_bias
        wide = inside + (z_maps if masked_z else 0)
        self.above = nn.Conv2d(wide, 2 * width, (kernel // 2 + 1, kernel))
        self.left = nn.Conv2d(wide, 2 * width, (1, kernel // 2 + 1))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.residual = nn.Conv2d(width, width, 1)
        self.project = nn.Conv2d(wide, width, 1) if projected and not first else None
        self.open_z = nn.Conv2d(z_maps, 4 * width, 1, bias=False) if z_maps and not masked_z else None

    def vertical(self, v: Tensor, maps: Tensor) -> Tensor:
        """a_l, from the rows above."""
        padded = F.pad(self.append_masked_maps(v, maps), (self.reach, self.reach, self.reach + 1, 0))
        seen: Tensor = self.above(padded[:, :, :-1])
        return self.zero_border(seen, 2) + self.open_terms(maps)[0]

    def zero_border(self, seen: Tensor, axis: int) -> Tensor:
        """The output of a shifted convolution with its first row (``axis`` 2) or column (3) set to 0: they see nothing.

        Unless ``border_bias`` leaves the bias there.
        """
        if self.border_bias:
            return seen
        rest = seen.narrow(axis, 1, seen.shape[axis] - 1)
        return F.pad(rest, (0, 0, 1, 0) if axis == 2 else (1, 0))

    def horizontal(self, h: Tensor, a: Tensor, maps: Tensor) -> Tensor:
        """h_l, from the pixels to the left and a_l."""
        wide, shift = self.append_masked_maps(h, maps), int(self.first)
        padded = F.pad(wide, (self.reach + shift, 0))
        seen = self.left(padded[..., : padded.shape[-1] - shift])
        seen = self.zero_border(seen, 3) if self.first else seen
        return self.combine(seen + self.open_terms(maps)[1] + self.across(a), wide)

    def combine(self, gates: Tensor, wide: Tensor) -> Tensor:
        """h_l from the input of its gates ``(batch, 2 width, h, w)`` and the layer's own input, see `conv_input`."""
        out: Tensor = self.residual(gate(gates))
        if self.first:
            return out
        return out + (wide[:, : out.shape[1]] if self.project is None else self.project(wide))

    def append_masked_maps(self, x: Tensor, maps: Tensor) -> Tensor:
        """The input of the convolutions: x, with the maps of z appended where they are masked."""
        return torch.cat([x, maps], 1) if self.masked_z else x

    def open_terms(self, maps: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """The terms of open maps of z in the vertical and the horizontal gate; 0 where the maps are masked."""
        if self.open_z is None:
            return 0.0, 0.0
        up, left = self.open_z(maps).chunk(2, 1)
        return up, left
