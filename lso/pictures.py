"""Images as bytes: grids, enlarged pixels, PNG. Torch, numpy and Pillow only; charts are in `figures`."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 255  # grey level between the images of a grid
BINARY_GAP = 150  # where they are black and white alone, whose edges would be lost in either


def is_image(event_shape: Sequence[int]) -> bool:
    """Whether a datum can be shown as a picture: ``(1 or 3, height, width)``.

    Args:
        event_shape: of one datum.
    Returns:
        True for images.
    """
    return len(event_shape) == 3 and event_shape[0] in (1, 3)


def to_bytes(images: Shaped[Tensor, "*batch channels height width"]) -> UInt8[Tensor, "*batch height width colour"]:
    """Pixels as RGB bytes: bytes pass, floats in [0, 1] are scaled; floats that reach below -0.1 are read as [-1, 1].

    Args:
        images: ``(..., 1 or 3, H, W)``.
    Returns:
        ``(..., H, W, 3)``; what is not finite becomes 0, what is out of range is clipped.
    """
    if images.dtype != torch.uint8:
        x = images.detach().cpu().double().nan_to_num(nan=0.0, posinf=1.0, neginf=0.0)
        if x.numel() and float(x.min()) < -0.1:
            x = (x + 1) / 2
        images = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    shape = (*images.shape[:-3], 3, *images.shape[-2:])
    return images.cpu().expand(shape).movedim(-3, -1)


def enlarged(side: int, at_least: int) -> int:
    """Whole factor that brings an image side to at least so many pixels.

    Args:
        side: of the image.
        at_least: wanted.
    Returns:
        1 or more.
    """
    return max(1, ceil(at_least / max(1, side)))


def grid(
    images: Shaped[Tensor, "n channels height width"],
    columns: int = 8,
    *,
    at_least: int = 32,
    pad: int = 2,
    gap: int | None = None,
) -> np.ndarray:
    """Images side by side, row by row, each pixel enlarged by one whole factor.

    Args:
        images: ``(n, 1 or 3, H, W)``.
        columns: images in a row.
        at_least: least height of an image in the grid, pixels.
        pad: pixels between images.
        gap: their grey level; None is white, or grey between images that are black and white alone.
    Returns:
        ``(rows, columns, 3)`` bytes.
    """
    pixels = to_bytes(images)
    factor = enlarged(pixels.shape[1], at_least)
    pixels = pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    columns = max(1, min(columns, len(pixels)))
    rows = ceil(len(pixels) / columns)
    height, width = pixels.shape[1] + pad, pixels.shape[2] + pad
    level = gap_of(pixels) if gap is None else gap
    sheet = torch.full((rows * columns, height, width, 3), level, dtype=torch.uint8)
    sheet[: len(pixels), pad:, pad:] = pixels
    sheet[len(pixels) :] = GAP
    whole = sheet.reshape(rows, columns, height, width, 3).transpose(1, 2).reshape(rows * height, columns * width, 3)
    return np.pad(whole.numpy(), ((0, pad), (0, pad), (0, 0)), constant_values=level)


def gap_of(images: Shaped[Tensor, "*batch channels height width"]) -> int:
    """Grey level that sets images apart.

    Args:
        images: floats in [0, 1] or bytes.
    Returns:
        White, or grey where the images are black and white alone.
    """
    most = 255 if images.dtype == torch.uint8 else 1
    return BINARY_GAP if bool(((images == 0) | (images == most)).all()) else GAP


def png(pixels: np.ndarray, colours: int = 0) -> bytes:
    """Bytes of a PNG file.

    Args:
        pixels: ``(H, W, 3)`` bytes; grey ones are stored as grey.
        colours: size of a palette, for charts; 0 keeps all.
    Returns:
        The file.
    """
    from PIL import Image

    grey = bool((pixels == pixels[..., :1]).all())
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    if colours and not grey:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def image_png(image: Float[Tensor, "channels height width"]) -> bytes:
    """One image as a PNG at its own size (a page enlarges it).

    Args:
        image: ``(1 or 3, H, W)``.
    Returns:
        The file.
    """
    return png(to_bytes(image).numpy())


def figure_png(figure: "Figure", dpi: int = 130) -> bytes:
    """A chart as a small PNG: rendered by Agg, 128 colours.

    Args:
        figure: of matplotlib.
        dpi: dots an inch.
    Returns:
        The file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return png(np.asarray(canvas.buffer_rgba())[..., :3], colours=128)  # type: ignore[no-untyped-call]


def data_uri(content: bytes) -> str:
    """A PNG as text that an HTML page can hold.

    Args:
        content: of the file.
    Returns:
        ``data:image/png;base64,...``.
    """
    return "data:image/png;base64," + b64encode(content).decode("ascii")
