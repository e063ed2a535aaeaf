"""Sheets: rows of images with labels and headings."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lso.pictures import enlarged, gap_of, grid

LABEL = 13  # text height, pixels
APART = 8  # pixels between rows that take several lines


def sheet(
    images: Float[Tensor, "row step channels height width"],
    labels: Sequence[str],
    heads: Sequence[str] = (),
    at_least: int = 40,
    widest: int = 0,
) -> np.ndarray:
    """Rows of images with a label before each row and a heading above the columns that have one.

    Args:
        images: ``(rows, steps, C, H, W)``.
        labels: one a row.
        heads: one a column; empty ones are left out. Not for rows of several lines.
        at_least: least height of an image, pixels.
        widest: pixels after which a row goes on in another line, the lines of one length if may be; 0 never breaks.
    Returns:
        ``(H, W, 3)`` bytes.
    """
    steps, pad = images.shape[1], 2
    cell = enlarged(images.shape[3], at_least) * images.shape[4] + pad
    lines = _lines(steps, steps * cell / widest) if widest else 1
    gap = gap_of(images)
    rows = [grid(row, ceil(steps / lines), at_least=at_least, pad=pad, gap=gap) for row in images]
    height = rows[0].shape[0]
    if lines > 1:
        rows = [np.pad(row, ((0, APART), (0, 0), (0, 0)), constant_values=255) for row in rows]
    body = np.concatenate(rows)
    left = max(_width(text) for text in labels) + 12 if labels else 0
    top = LABEL + 10 if any(heads) else 0
    whole = np.full((top + body.shape[0], left + body.shape[1], 3), 255, dtype=np.uint8)
    whole[top:, left:] = body
    pitch, apart = body.shape[1] / ceil(steps / lines), rows[0].shape[0]
    texts = [(left - 6, top + i * apart + height / 2, "rm", text) for i, text in enumerate(labels)]
    texts += [(left + (i + 0.5) * pitch, top / 2, "mm", text) for i, text in enumerate(heads) if text]
    return _written(whole, texts)


def _lines(steps: int, least: float) -> int:
    """Lines for a row: the fewest that are as long as each other, unless that needs twice as many as would do."""
    fewest = max(1, ceil(least))
    return next((lines for lines in range(fewest, 2 * fewest) if steps % lines == 0), fewest)


def _font() -> object:
    from PIL import ImageFont

    return ImageFont.load_default(LABEL)


def _width(text: str) -> int:
    from PIL import Image, ImageDraw

    return round(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(text, font=_font()))  # type: ignore[arg-type]


def _written(pixels: np.ndarray, texts: Sequence[tuple[float, float, str, str]]) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y, anchor, text in texts:
        draw.text((x, y), text, fill=(60, 66, 74), font=_font(), anchor=anchor)  # type: ignore[arg-type]
    return np.asarray(image)
