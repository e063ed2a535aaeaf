"""Ancestral generation in raster order, from a network that answers for one pixel at a time."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lso.vae.likelihoods import Head


@runtime_checkable
class Columns(Protocol):
    """An autoregressive network in the middle of an image: all layers at the pixels done so far."""

    def at(self, row: int, column: int) -> Float[Tensor, "batch channels"]:
        """Raw output of the network for the next pixel, once all earlier ones were put.

        Args:
            row: of the pixel.
            column: of the pixel.
        Returns:
            ``(batch, channels)``.
        """
        ...

    def put(self, row: int, column: int, pixel: Float[Tensor, "batch channels"]) -> None:
        """Take in the value of that pixel.

        Args:
            row: of the pixel.
            column: of the pixel.
            pixel: ``(batch, channels)``.
        """
        ...


def generate(
    columns: Columns,
    head: Head,
    shape: tuple[int, ...],
    noise: Float[Tensor, "batch channels height width"] | None,
    like: Float[Tensor, "batch latent"],
) -> Float[Tensor, "batch channels height width"]:
    """Images drawn pixel after pixel, each given those before it; the channels of a pixel are drawn together.

    Args:
        columns: the network.
        head: turns raw output into a likelihood.
        shape: ``(channels, height, width)`` of a datum.
        noise: uniforms in [0, 1), one for each value; None takes the likeliest values.
        like: gives batch size, device and dtype.
    Returns:
        The images, a function of the arguments.
    """
    images = like.new_zeros(len(like), *shape)
    for row in range(shape[1]):
        for column in range(shape[2]):
            likelihood = head(columns.at(row, column)[:, :, None, None])
            if noise is None:
                pixel = likelihood.mode[:, :, 0, 0]
            else:
                pixel = likelihood.sample(noise[:, :, row : row + 1, column : column + 1])[:, :, 0, 0]
            images[:, :, row, column] = pixel
            columns.put(row, column, pixel)
    return images
