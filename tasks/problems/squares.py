"""The task `squares`: 64x64 images of one square each, to find a larger lit area than any in training.

Source: Tripp et al. (2020), arXiv:2006.09191.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.image_dataset import RawImages
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.goals import Goal
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import Dataset, to_unit
from lso.vae.errors import UsageError
from lso.vae.runs import Run
from lso.vae.utils.random import generator

IMAGE_SIDE, MAX_SIDE, LEFT_COLUMN, REPEATS = 64, 20, 32, 10
HELD_OUT_DIVISOR = 20  # one part of so many validates, and one tests
LIT_THRESHOLD = 0.5
DESCRIPTION = (
    f"squares of side 1 to {MAX_SIDE}, left edge at column {LEFT_COLUMN}, top edge at every row that fits, each "
    f"{REPEATS} times, shuffled with seed 0; the first 5 % validate, as published, the next 5 % are our test part"
)


def draw_squares() -> UInt8[Tensor, "n 1 64 64"]:
    """The distinct pictures: each side from 1 to 20, its left edge at column 32, at every row that it fits.

    Source: the recipe of Tripp et al. (2020), arXiv:2006.09191, as in the authors' published data.
    """
    places = [(side, top) for side in range(1, MAX_SIDE + 1) for top in range(IMAGE_SIDE - side + 1)]
    x = torch.zeros(len(places), 1, IMAGE_SIDE, IMAGE_SIDE, dtype=torch.uint8)
    for i, (side, top) in enumerate(places):
        x[i, 0, top : top + side, LEFT_COLUMN : LEFT_COLUMN + side] = 255
    return x


def load(data: DataConfig, progress: Progress | None = None) -> RawImages:
    """10,900 pictures; as each is there ten times, the held-out ones are hardly new, as published."""
    if data.path:
        raise UsageError(f"task squares is drawn and reads no path, got {data.path}", "Leave --data out.")
    x = draw_squares().repeat(REPEATS, 1, 1, 1)
    x = x[torch.from_numpy(np.random.RandomState(0).permutation(len(x)))]
    part = len(x) // HELD_OUT_DIVISOR
    splits = {"validation": x[:part], "test": x[part : 2 * part], "train": x[2 * part :]}
    return RawImages(
        splits=splits, provenance={"source": "generated", "split": DESCRIPTION, "notes": [f"Generated: {DESCRIPTION}."]}
    )


def score(images: Sequence[Any]) -> list[float | None]:
    """The lit area, to be maximized: how many pixels round to one, as published (one half rounds to zero).

    Args:
        images: arrays ``(1, 64, 64)``, or of any shape.
    Returns:
        Whole numbers; None for what is no array of finite numbers.
    """
    return [_area(image) for image in images]


def _area(image: Any) -> float | None:
    try:
        pixels = np.asarray(image, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return float((pixels > LIT_THRESHOLD).sum()) if pixels.size and np.isfinite(pixels).all() else None


def is_one_square(image: Float[np.ndarray, "*channel height width"]) -> bool:
    """Whether the lit pixels are one filled square, so that the area is what it was meant to measure.

    Args:
        image: ``(1, height, width)`` or ``(height, width)``.
    Returns:
        Whether their bounding box is a square and all of it is lit.
    """
    rows, columns = np.nonzero(image.reshape(image.shape[-2:]) > LIT_THRESHOLD)
    if not len(rows):
        return False
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    return bool(height == width and len(rows) == height * width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SquareGrid:
    """The distinct images found by a search over a grid of codes, the largest area first."""

    z: Float[Tensor, "n 2"]  # one code of each image
    values: Float[Tensor, " n"]  # areas
    images: Bool[Tensor, "n height width"]  # rounded
    square: Bool[Tensor, " n"]  # whether each is one filled square
    evaluations: int  # number of codes whose area was computed


def grid_search(decoder: Decoder, bound: float = 3.0, side: int = 50) -> SquareGrid:
    """The published search: the true area at every point of a grid, which an expensive score would not allow.

    As no optimizer is involved, it compares models alone. Source: Tripp et al. (2020), with
    50 x 50 points of [-3, 3]^2.
    """
    if decoder.latent_dim != 2:
        raise UsageError(f"the grid is of two latents, got {decoder.latent_dim}", "Train with --latent-dim 2.")
    line = torch.linspace(-bound, bound, side)
    z = torch.cartesian_prod(line, line)
    with torch.no_grad():
        lit = torch.cat([decoder(part) > LIT_THRESHOLD for part in torch.split(z, 250)])[:, 0]
    distinct, which = np.unique(lit.numpy().reshape(len(z), -1), axis=0, return_index=True)
    values = torch.from_numpy(distinct.sum(1)).double()
    order = torch.argsort(values, descending=True, stable=True)
    rows = torch.from_numpy(which)[order]
    square = torch.tensor([is_one_square(image) for image in lit[rows].double().numpy()])
    return SquareGrid(z=z[rows], values=values[order], images=lit[rows], square=square, evaluations=len(z))


def goal(run: Run) -> Goal:
    """The goal of maximizing the lit area."""
    data, binarize, seed = run.config.data, run.config.protocol.binarize, run.config.seed
    return Goal(
        name="squares",
        score=score,
        maximize=True,
        best=float(IMAGE_SIDE * IMAGE_SIDE),
        decimals=0,
        known=lambda count, start: known(count, start, load_dataset(data, binarize, seed, trust=run.trust)),
        summary=f"lit pixels of the rounded picture; training pictures have at most {MAX_SIDE**2}",
    )


def known(count: int, seed: int, dataset: Dataset) -> tuple[Float[Tensor, "n 1 64 64"], list[float]]:
    """Initial data of a search: distinct random training images with their areas."""
    x = dataset.pixels("train")
    first: dict[bytes, int] = {}
    for row in torch.randperm(len(x), generator=generator(seed, "squares/known")).tolist():
        if len(first) == count:
            break
        first.setdefault(x[row].numpy().tobytes(), row)
    chosen = to_unit(x[list(first.values())])
    return chosen, chosen.sum((1, 2, 3)).tolist()
