"""Image files made for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def shade(height: int = 40, width: int = 30, channels: int = 0, seed: int = 0) -> np.ndarray:
    """A smooth picture with a bright top left corner; with channels its colours differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    phases = rng.uniform(0.6, 1.0, max(channels, 1))
    planes = [255 * np.exp(-((x * a) ** 2 + y**2 / a) * 3) * (a if channels else 1) for a in phases]
    picture = np.stack(planes, axis=-1).round().astype(np.uint8)
    return picture if channels else picture[..., 0]


def photo(seed: int, side: int = 48) -> Image.Image:
    """A coloured scene: sky, ground and a disc, all by the seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    sky, ground, disc = rng.integers(0, 256, (3, 3))
    picture = np.where((y > rng.uniform(0.4, 0.8))[..., None], ground, sky)
    centre, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.3)
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    return Image.fromarray(np.where(inside[..., None], disc, picture).astype(np.uint8))


def folder_of_digits(folder: Path, n: int = 12, side: int = 20) -> Path:
    """Grey PNG files with a bright shape on black."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(np.roll(shade(side, side, seed=i), i, axis=1)).save(folder / f"{i:03}.png")
    return folder
