"""Autoregressive sampling in raster order, with a cache for each layer.

What the rows above add is found for a whole row at once, what pixels to the left add is handed on by each of them. All
that differs between the rows of an image is a number kept on the device, so that on a GPU the first row is run, the
second captured as a CUDA graph, and the graph replayed for the others."""

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

    def advance_row(self) -> Float[Tensor, "batch channels rows padded"]:
        """The current row becomes the lowest of those above."""
        self.rows[:, :-1] = self.rows[:, 1:].clone()
        self.rows[:, -1, self.inside] = self.line
        return self.rows.permute(0, 3, 1, 2)


class CausalRowConv:
    """Sums at the pixels of a row, to which each pixel adds its part of those after it as soon as it is known.

    Args:
        weight: ``(out, inputs, taps)`` of a convolution along the row; the last tap sees ``shift`` pixels to the left.
        shift: 0 where a pixel sees itself, else 1.
    """

    def __init__(self, weight: Float[Tensor, "out inputs taps"], shift: int) -> None:
        self.taps, self.shift = weight.shape[2], shift
        self.weight = weight.flip(2).permute(1, 2, 0).flatten(1)  # (inputs, taps * out), nearest pixel first
        self.sums = weight  # of the current row, (batch, columns, out)

    def start_row(self, start: Float[Tensor, "batch out 1 width"]) -> None:
        """Go on to the next row."""
        beyond = (0, 0, 0, self.taps - 1 + self.shift)  # what the last pixels add to is never read
        self.sums = F.pad(start[:, :, 0].transpose(1, 2).contiguous(), beyond)

    def push(self, column: int, value: Float[Tensor, "batch inputs"]) -> None:
        """Take in one pixel."""
        first, out = column + self.shift, self.sums.shape[2]
        self.sums.flatten(1)[:, first * out : (first + self.taps) * out].addmm_(value, self.weight)

    def read(self, column: int) -> Float[Tensor, "batch out"]:
        """The sums at a pixel, once all that it sees was put."""
        return self.sums[:, column]


class Conv1x1Cache:
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

    def start_row(self, maps: Float[Tensor, "batch maps 1 width"] | None) -> None:
        """Go on to the next row."""
        if maps is not None:
            self.start = (maps[:, :, 0].transpose(1, 2) @ self.opened + self.bias).transpose(
                0, 1
            )  # (width, batch, out)

    def __call__(self, x: Float[Tensor, "batch inputs"], column: int = 0) -> Float[Tensor, "batch out"]:
        """Apply it at a pixel."""
        return torch.addmm(self.start if self.start.ndim == 1 else self.start[column], x, self.weight)


# Images drawn together on a CPU: 100 took 1.1 to 1.7 times as long for each as 400, and memory should have a bound.
MAX_IMAGES_CPU = 400


@runtime_checkable
class ImageColumns(Protocol):
    """An autoregressive network in the middle of an image: all layers at the pixels done so far."""

    def start_row(self, row: Int[Tensor, "1"]) -> None:
        """Go on to the next row, once all pixels of the row before were put; anew where it is captured."""
        ...

    def read(self, column: int) -> Float[Tensor, "batch channels"]:
        """Raw output of the network for the next pixel of the row, once all earlier ones were put."""
        ...

    def push(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Take in the value of that pixel."""
        ...


def generate(
    start: Callable[[Tensor], ImageColumns],
    head: Head,
    shape: tuple[int, ...],
    noise: Float[Tensor, "batch channels height width"] | None,
    z: Float[Tensor, "batch latent"],
) -> Float[Tensor, "batch channels height width"]:
    """Images drawn pixel after pixel, each given those before it; the channels of a pixel are drawn together.

    Args:
        start: the network before the first pixel of the images of some codes.
        head: turns raw output into a likelihood.
        shape: ``(channels, height, width)`` of a datum.
        noise: uniforms in [0, 1), one for each value; None takes the likeliest values.
        z: ``(batch, latent)`` codes; give device and dtype.
    Returns:
        The images, a function of the arguments.
    """
    if z.device.type != "cpu":
        return _draw_images(start(z), head, shape, noise, z)
    codes = torch.split(z, MAX_IMAGES_CPU)
    parts = [None] * len(codes) if noise is None else torch.split(noise, MAX_IMAGES_CPU)
    # The products of a pixel are too small to share: waiting for each other, two threads were up to 20 times slower
    # than one on a busy machine.
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
    again = _capture_graph(draw_row) if z.device.type == "cuda" else draw_row
    for _ in range(shape[1] - 1):
        again()
    return images


def _capture_graph(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph, or itself where it cannot be captured: capturing runs nothing."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError:
        return step
    return graph.replay
