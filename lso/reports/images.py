"""Images as bytes: grids, enlarged pixels, PNG, and labelled rows. Charts are in `plots`."""

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
BINARY_GAP = 150  # between images that are black and white alone, whose edges would be lost in white


def to_rgb_bytes(images: Shaped[Tensor, "*batch channels height width"]) -> UInt8[Tensor, "*batch height width colour"]:
    """Images ``(..., 1 or 3, H, W)`` as RGB bytes ``(..., H, W, 3)``.

    Bytes pass unchanged; floats in [0, 1] are scaled; floats that reach below -0.1 are taken to lie in [-1, 1]. What is
    not finite becomes 0, what is out of range is clipped.
    """
    if images.dtype != torch.uint8:
        x = images.detach().cpu().double().nan_to_num(nan=0.0, posinf=1.0, neginf=0.0)
        if x.numel() and float(x.min()) < -0.1:
            x = (x + 1) / 2
        images = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    shape = (*images.shape[:-3], 3, *images.shape[-2:])
    return images.cpu().expand(shape).movedim(-3, -1)


def enlarge_factor(side: int, at_least: int) -> int:
    """Whole factor that enlarges the side of an image to at least so many pixels."""
    return max(1, ceil(at_least / max(1, side)))


def grid(
    images: Shaped[Tensor, "n channels height width"],
    columns: int = 8,
    *,
    at_least: int = 32,
    pad: int = 2,
    gap: int | None = None,
) -> np.ndarray:
    """Arrange images row by row, each pixel enlarged by one whole factor: ``(rows, columns, 3)`` bytes.

    Args:
        images: ``(n, 1 or 3, H, W)``.
        columns: images in a row.
        at_least: least height of an image in the grid, pixels.
        pad: pixels between images.
        gap: grey level between images; None is white, or grey between images that are black and white alone.
    """
    pixels = to_rgb_bytes(images)
    factor = enlarge_factor(pixels.shape[1], at_least)
    pixels = pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    columns = max(1, min(columns, len(pixels)))
    rows = ceil(len(pixels) / columns)
    height, width = pixels.shape[1] + pad, pixels.shape[2] + pad
    level = gap_level(pixels) if gap is None else gap
    sheet = torch.full((rows * columns, height, width, 3), level, dtype=torch.uint8)
    sheet[: len(pixels), pad:, pad:] = pixels
    sheet[len(pixels) :] = GAP
    whole = sheet.reshape(rows, columns, height, width, 3).transpose(1, 2).reshape(rows * height, columns * width, 3)
    return np.pad(whole.numpy(), ((0, pad), (0, pad), (0, 0)), constant_values=level)


def gap_level(images: Shaped[Tensor, "*batch channels height width"]) -> int:
    """Grey level between images (floats in [0, 1] or bytes): white, or grey where they are black and white alone."""
    most = 255 if images.dtype == torch.uint8 else 1
    return BINARY_GAP if bool(((images == 0) | (images == most)).all()) else GAP


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels as a PNG file."""
    from PIL import Image

    grey = bool((pixels == pixels[..., :1]).all())
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def image_png(image: Float[Tensor, "channels height width"]) -> bytes:
    """One image as a PNG file of its own size (the page enlarges it)."""
    return png(to_rgb_bytes(image).numpy())


CHART_DPI = 223  # two pixels for each of the 1,072 that a page shows of a chart 9.6 inches wide
CHART_COLOURS = 128


def figure_png(figure: "Figure", dpi: int = CHART_DPI) -> bytes:
    """A chart as a small PNG file, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]
    stream = BytesIO()
    # Colours of maximum coverage are found faster than a median cut's, and nearer to the chart's; an octree is faster
    # still and makes white grey. To encode a twelfth smaller (optimize) takes six times as long.
    image.quantize(CHART_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(stream, "PNG")
    return stream.getvalue()


def data_uri(content: bytes) -> str:
    """A PNG file as a data URI that an HTML page can hold."""
    return "data:image/png;base64," + b64encode(content).decode("ascii")


LABEL_HEIGHT = 13  # text height, pixels
ROW_GAP = 8  # pixels between rows that take several lines


def labelled_rows(
    images: Shaped[Tensor, "row step channels height width"],
    labels: Sequence[str],
    heads: Sequence[str] = (),
    at_least: int = 40,
    widest: int = 0,
) -> np.ndarray:
    """Rows of images with a label before each row and a heading above columns: ``(H, W, 3)`` bytes.

    Args:
        images: ``(rows, steps, C, H, W)``.
        labels: one for each row.
        heads: one for each column; empty ones are left out. Not for rows of several lines.
        at_least: least height of an image, pixels.
        widest: width in pixels at which a row is broken into lines, of equal length if possible; 0 never breaks.
    """
    steps, pad = images.shape[1], 2
    cell = enlarge_factor(images.shape[3], at_least) * images.shape[4] + pad
    lines = _count_lines(steps, steps * cell / widest) if widest else 1
    gap = gap_level(images)
    rows = [grid(row, ceil(steps / lines), at_least=at_least, pad=pad, gap=gap) for row in images]
    height = rows[0].shape[0]
    if lines > 1:
        rows = [np.pad(row, ((0, ROW_GAP), (0, 0), (0, 0)), constant_values=255) for row in rows]
    body = np.concatenate(rows)
    left = max(_text_width(text) for text in labels) + 12 if labels else 0
    top = LABEL_HEIGHT + 10 if any(heads) else 0
    whole = np.full((top + body.shape[0], left + body.shape[1], 3), 255, dtype=np.uint8)
    whole[top:, left:] = body
    pitch, apart = body.shape[1] / ceil(steps / lines), rows[0].shape[0]
    texts = [(left - 6, top + i * apart + height / 2, "rm", text) for i, text in enumerate(labels)]
    texts += [(left + (i + 0.5) * pitch, top / 2, "mm", text) for i, text in enumerate(heads) if text]
    return _draw_labels(whole, texts)


def _count_lines(steps: int, least: float) -> int:
    """Number of lines of a row: the fewest of equal length, unless that takes twice as many as needed."""
    fewest = max(1, ceil(least))
    return next((lines for lines in range(fewest, 2 * fewest) if steps % lines == 0), fewest)


def _font() -> object:
    from PIL import ImageFont

    return ImageFont.load_default(LABEL_HEIGHT)


def _text_width(text: str) -> int:
    from PIL import Image, ImageDraw

    return round(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(text, font=_font()))  # type: ignore[arg-type]


def _draw_labels(pixels: np.ndarray, texts: Sequence[tuple[float, float, str, str]]) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y, anchor, text in texts:
        draw.text((x, y), text, fill=(60, 66, 74), font=_font(), anchor=anchor)  # type: ignore[arg-type]
    return np.asarray(image)
