"""Sections of a comparison of searches: what each of them found, and how many dimensions its model has alive."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lso.analysis.latent_dimensions import WEAK_BELOW
from lso.reports.plots import add_guide_line, bottom_legend, canvas, log_scale, series_style, use_chart_style
from lso.reports.report import Chart, Note, Part, Section, TextLine, Texts, Tile, TileRow, Tiles
from lso.reports.shared_sections import ranked_text, ranked_tile
from lso.reports.tables import percent
from lso.vae.metrics.active_units import THRESHOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

SHOWN = 5  # best objects of each search
FLOOR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSearches:
    """What a comparison of searches is made from, by name of the search.

    Args:
        folders: their run folders.
        numbers: the contents of their report.json.
    """

    folders: Mapping[str, Path]
    numbers: Mapping[str, Mapping[str, Any]]


def compared_objects(about: ComparedSearches) -> Section | None:
    """The best distinct objects of each black-box search, one row for each, as pictures or texts."""
    rows: list[TileRow] = []
    texts: list[Part] = []
    for name, numbers in about.numbers.items():
        best = list(enumerate(numbers.get("top", ())[:SHOWN], start=1))
        lines = [_text_line(rank, found) for rank, found in best if found.get("text") is not None]
        tiles = [_tile(about.folders[name], name, rank, found) for rank, found in best]
        if lines:
            texts.append(Texts(title=name, lines=lines))
        elif shown := [tile for tile in tiles if tile is not None]:
            rows.append(TileRow(name=name, tiles=shown))
    parts: list[Part] = [Tiles(rows=rows)] if rows else []
    if not (parts + texts):
        return None
    note = Note("The best distinct objects of each search, best first, with value and percentile of the code's norm.")
    return Section("Best objects", [note, *parts, *texts])


def _text_line(rank: int, found: Mapping[str, Any]) -> TextLine:
    return ranked_text(rank, found["value"], str(found["text"]), "" if found["typical"] else "atypical")


def _tile(folder: Path, name: str, rank: int, found: Mapping[str, Any]) -> Tile | None:
    image = _read_image(folder, found)
    if image is None:
        return None
    tile = ranked_tile(image, rank, found["value"], percent(found["percentile"]), found["typical"])
    return replace(tile, alt=f"{name}: {tile.alt}")


def _read_image(folder: Path, found: Mapping[str, Any]) -> "Tensor | None":
    """The picture of one of the best objects from the files of its search; None where there is none.

    A search of several seeds has the files of each below ``seed-N``; calls of a retraining count from 0 in each round.
    """
    from PIL import Image, UnidentifiedImageError

    tables = [part / "results" / "best.csv" for part in (folder, folder / f"seed-{found.get('seed')}")]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        return None
    with table.open(encoding="utf-8", newline="") as file:
        calls = [(row.get("call"), row.get("round")) for row in csv.DictReader(file)]
    sought = str(found["call"]), str(found["round"]) if "round" in found else None
    if sought not in calls:
        return None
    try:
        with Image.open(table.parent / "images" / f"{calls.index(sought):04d}_best.png") as picture:
            pixels = np.asarray(picture, dtype=np.float32) / 255
    except (OSError, UnidentifiedImageError):
        return None
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[:3])


def compared_activity(about: ComparedSearches) -> Section | None:
    """How active the dimensions are that each search moved in; a weighted retraining changes them, and has no row."""
    measured = {name: found for name, numbers in about.numbers.items() if (found := _dimensions(numbers)) is not None}
    if not measured:
        return None
    caption = (
        "One line for each search, dimensions sorted. Left: variance of the encoder's posterior means; those below the "
        "line carry nothing about the data. Right: how strongly the decoder reacts, as a share of the dimension that "
        "it reacts to most. A dimension that is dead in the model cannot be searched."
    )
    return Section("Activity per dimension", [Chart(_draw_activity(measured), "Activity per dimension", caption)])


def _dimensions(numbers: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (numbers["groups"][0] if "groups" in numbers else numbers).get("dimensions")
    return found


@use_chart_style
def _draw_activity(found: Mapping[str, Mapping[str, Any]]) -> "Figure":
    figure, axes = canvas(1, 2, 2.9)
    for place, (name, dimensions) in enumerate(found.items()):
        effect = np.array(dimensions["sensitivity"], dtype=float)
        values: Sequence[Any] = (dimensions["variance"], effect / max(float(effect.max()), np.finfo(float).tiny))
        options: dict[str, Any] = {"linewidth": 1.2, "markersize": 3.5, "label": name, **series_style(place)}
        for axis, value in zip(axes[0], values, strict=True):
            if value is not None:
                ordered = np.sort(np.array(value, dtype=float))[::-1].clip(FLOOR)
                axis.plot(range(1, len(ordered) + 1), ordered, **options)
    add_guide_line(axes[0, 0], THRESHOLD, "active from here up", right=True)
    add_guide_line(axes[0, 1], WEAK_BELOW, "active from here up", right=True)
    axes[0, 0].set(title="Encoder: variance of posterior means", ylabel=f"variance (floor {FLOOR:g})")
    axes[0, 1].set(title="Decoder: squared effect of a dimension", ylabel="share of the largest")
    for axis in axes[0]:
        axis.set_xlabel("dimension, sorted within each model")
        log_scale(axis)
    bottom_legend(figure, [axes[0, 1]])
    return figure
