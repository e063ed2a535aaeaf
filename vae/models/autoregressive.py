"""Autoregressive sampling of images in raster order, with a cache for each layer.

The contribution of the rows above is computed for a whole row at once; each pixel adds its own to those on its right.
The number of the row is kept on the device and nothing else differs between rows, so that on a GPU the first row is
run, the second captured as a CUDA graph, and the graph replayed for the others.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.distributed import use_threads
from lso.vae.distributions.pixels import Head


class RowCache:
    """The rows above the current one that a convolution sees, padded with zeros, and the current one as it grows.

    Args:
        like: tensor whose batch size, device and dtype are taken.
        channels: of the feature maps.
        rows: number of rows above that the convolution sees.
        width: of the image.
        reach: number of columns that it sees to either side.
    """

    def __init__(self, like: Tensor, channels: int, rows: int, width: int, reach: int) -> None:
        self.inside = slice(reach, reach + width)
        self.rows = like.new_zeros(len(like), rows, width + 2 * reach, channels)
        self.line = like.new_zeros(len(like), width, channels)

    def advance_row(self) -> Float[Tensor, "batch channels rows padded"]:
        """Move on by a row: the current one becomes the lowest of those above, which are returned."""
        self.rows[:, :-1] = self.rows[:, 1:].clone()
        self.rows[:, -1, self.inside] = self.line
        return self.rows.permute(0, 3, 1, 2)


class CausalRowConv:
    """A causal convolution along a row: each pixel, once known, adds its part to the sums at the pixels after it.

    Args:
        weight: ``(out, inputs, taps)`` of a convolution along the row; the last tap sees ``shift`` pixels to the left.
        shift: 0 where a pixel sees itself, else 1.
    """

    def __init__(self, weight: Float[Tensor, "out inputs taps"], shift: int) -> None:
        self.taps, self.shift = weight.shape[2], shift
        self.weight = weight.flip(2).permute(1, 2, 0).flatten(1)  # (inputs, taps * out), nearest pixel first
        self.sums = weight  # of the current row, (batch, columns, out)

    def start_row(self, start: Float[Tensor, "batch out 1 width"]) -> None:
        """Begin a row with the sums of all else, e.g. of the rows above."""
        beyond = (0, 0, 0, self.taps - 1 + self.shift)  # the last pixels add to places that are never read
        self.sums = F.pad(start[:, :, 0].transpose(1, 2).contiguous(), beyond)

    def push(self, column: int, value: Float[Tensor, "batch inputs"]) -> None:
        """Add the part of one pixel to the pixels after it."""
        first, out = column + self.shift, self.sums.shape[2]
        self.sums.flatten(1)[:, first * out : (first + self.taps) * out].addmm_(value, self.weight)

    def read(self, column: int) -> Float[Tensor, "batch out"]:
        """The sums at a pixel, once all pixels that it sees have been pushed."""
        return self.sums[:, column]


class Conv1x1Cache:
    """A 1x1 convolution whose last ``maps`` input channels are maps of z: their part is computed for a whole row."""

    def __init__(self, convolution: nn.Conv2d, maps: int = 0) -> None:
        assert convolution.bias is not None
        weight, inputs = convolution.weight.flatten(1), convolution.in_channels - maps
        self.weight, self.opened = weight[:, :inputs].T.contiguous(), weight[:, inputs:].T
        self.bias = self.start = convolution.bias.detach()

    def start_row(self, maps: Float[Tensor, "batch maps 1 width"] | None) -> None:
        """Begin a row, given its maps of z."""
        if maps is not None:
            self.start = (maps[:, :, 0].transpose(1, 2) @ self.opened + self.bias).transpose(
                0, 1
            )  # (width, batch, out)

    def __call__(self, x: Float[Tensor, "batch inputs"], column: int = 0) -> Float[Tensor, "batch out"]:
        """The convolution at a pixel."""
        return torch.addmm(self.start if self.start.ndim == 1 else self.start[column], x, self.weight)


# Images drawn together on a CPU: with 100 an image took 1.1 to 1.7 times as long as with 400, and memory needs a bound.
MAX_IMAGES_CPU = 400


@runtime_checkable
class ImageColumns(Protocol):
    """An autoregressive network in the middle of drawing images: all layers at the pixels drawn so far."""

    def start_row(self, row: Int[Tensor, "1"]) -> None:
        """Begin a row once all pixels of the row before have been pushed; ``row`` is its number, on the device."""
        ...

    def read(self, column: int) -> Float[Tensor, "batch channels"]:
        """The network's raw output for the next pixel of the row, once all earlier ones have been pushed."""
        ...

    def push(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Feed the value of that pixel to the network."""
        ...


def draw_images(
    start: Callable[[Tensor], ImageColumns],
    head: Head,
    shape: tuple[int, ...],
    noise: Float[Tensor, "batch channels height width"] | None,
    z: Float[Tensor, "batch latent"],
) -> Float[Tensor, "batch channels height width"]:
    """Draw images pixel after pixel, each given those before it; the channels of a pixel are drawn together.

    Args:
        start: makes the network, before the first pixel, for the images of some codes.
        head: makes a likelihood of raw output.
        shape: ``(channels, height, width)`` of a datum.
        noise: uniforms in [0, 1), one for each value; None takes the likeliest values.
        z: ``(batch, latent)`` codes, whose device and dtype the images have.
    """
    if z.device.type != "cpu":
        return _draw_images(start(z), head, shape, noise, z)
    codes = torch.split(z, MAX_IMAGES_CPU)
    parts = [None] * len(codes) if noise is None else torch.split(noise, MAX_IMAGES_CPU)
    # The matrix products of a pixel are too small to be split: on a busy machine two threads, which wait for each
    # other, were up to 20 times slower than one.
    with use_threads(1):
        return torch.cat(
            [_draw_images(start(part), head, shape, u, part) for part, u in zip(codes, parts, strict=True)]
        )


def _draw_images(columns: ImageColumns, head: Head, shape: tuple[int, ...], noise: Tensor | None, z: Tensor) -> Tensor:
    images, row = z.new_zeros(len(z), *shape), torch.zeros(1, dtype=torch.long, device=z.device)

    def draw_row() -> None:
        columns.start_row(row)
        u = None if noise is None else noise.index_select(2, row)
        pixels = []
        for column in range(shape[2]):
            likelihood = head(columns.read(column)[:, :, None, None])
            pixels.append(likelihood.mode if u is None else likelihood.sample(u[..., column : column + 1]))
            columns.push(column, pixels[-1][:, :, 0, 0])
        images.index_copy_(2, row, torch.cat(pixels, -1))
        row.add_(1)

    draw_row()
    next_row = _capture_graph(draw_row) if z.device.type == "cuda" else draw_row
    for _ in range(shape[1] - 1):
        next_row()
    return images


def _capture_graph(step: Callable[[], None]) -> Callable[[], None]:
    """A step as a CUDA graph, or the step itself where it cannot be captured; capturing does not run it."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError:
        return step
    return graph.replay
