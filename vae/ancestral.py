"""Ancestral generation in raster order, from a network that answers for one pixel at a time.

All that differs between the rows of an image is a number kept on the device, so that on a GPU the first row is run, the
second captured as a CUDA graph, and the graph replayed for the others.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.likelihoods import Head
from lso.vae.threads import threads

# Images drawn together on a CPU: 100 took 1.1 to 1.7 times as long for each as 400, and memory should have a bound.
CHUNK = 400


@runtime_checkable
class Columns(Protocol):
    """An autoregressive network in the middle of an image: all layers at the pixels done so far."""

    def begin(self, row: Int[Tensor, "1"]) -> None:
        """Go on to the next row, once all pixels of the row before were put; anew where it is captured.

        Args:
            row: its number, on the device.
        """
        ...

    def at(self, column: int) -> Float[Tensor, "batch channels"]:
        """Raw output of the network for the next pixel of the row, once all earlier ones were put.

        Args:
            column: of the pixel.
        Returns:
            ``(batch, channels)``.
        """
        ...

    def put(self, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Take in the value of that pixel.

        Args:
            column: of the pixel.
            pixel: ``(batch, channels)``.
        """
        ...


def generate(
    start: Callable[[Tensor], Columns],
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
        return _drawn(start(z), head, shape, noise, z)
    codes = torch.split(z, CHUNK)
    parts = [None] * len(codes) if noise is None else torch.split(noise, CHUNK)
    # The products of a pixel are too small to share: waiting for each other, two threads were up to 20 times slower
    # than one on a busy machine.
    with threads(1):
        return torch.cat([_drawn(start(part), head, shape, u, part) for part, u in zip(codes, parts, strict=True)])


def _drawn(columns: Columns, head: Head, shape: tuple[int, ...], noise: Tensor | None, z: Tensor) -> Tensor:
    images, row = z.new_zeros(len(z), *shape), torch.zeros(1, dtype=torch.long, device=z.device)

    def draw_row() -> None:
        columns.begin(row)
        u = None if noise is None else noise.index_select(2, row)
        pixels = []
        for column in range(shape[2]):
            likelihood = head(columns.at(column)[:, :, None, None])
            pixels.append(likelihood.mode if u is None else likelihood.sample(u[..., column : column + 1]))
            columns.put(column, pixels[-1][:, :, 0, 0])
        images.index_copy_(2, row, torch.cat(pixels, -1))
        row.add_(1)

    draw_row()
    again = _captured(draw_row) if z.device.type == "cuda" else draw_row
    for _ in range(shape[1] - 1):
        again()
    return images


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph, or itself where it cannot be captured: capturing runs nothing."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError:
        return step
    return graph.replay
