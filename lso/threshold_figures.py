"""Charts of searches read off at stopping thresholds: gap, distances and steps, one line a model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lso.figures import DARK, bottom_legend, canvas, look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20.0  # largest median over smallest from which an axis is logarithmic


Line = tuple[Sequence[float], Tensor, Tensor]  # thresholds, values (k, T), whether the threshold was met (k, T)


@styled
def thresholds(panels: Mapping[str, Mapping[str, Line]]) -> "Figure":
    """One panel a measure; thresholds tighten to the right; median and middle half over the targets that met each.

    A marker is hollow where some target did not meet the threshold, and missing where none did. A line without any
    value is left out.

    Args:
        panels: measure -> model -> thresholds, values ``(k, T)`` and whether each was met ``(k, T)``.
    Returns:
        The figure.
    """
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = canvas(rows, columns, 2.7 * rows + 0.6)
    flat = list(axes.flatten())
    for axis, (measure, lines) in zip(flat, panels.items(), strict=False):
        middle = (len(lines) - 1) / 2
        drawn = [
            _line(axis, *line, index, name, 0.03 * (index - middle))  # beside one another where they are equal
            for index, (name, line) in enumerate(lines.items())
        ]
        last = axis in flat[-columns:]
        axis.set(title=measure, xlabel="stopping threshold" if last else "")
        axis.tick_params(labelbottom=last)
        medians = np.concatenate(drawn)
        medians = medians[np.isfinite(medians)]
        if medians.size and medians.max() > WIDE * max(float(medians.min()), 0.0):
            positive = medians[medians > 0]
            axis.set_yscale("symlog", linthresh=float(positive.min()) / 10 if positive.size else 1.0)
        else:
            axis.set_ylim(top=1.04 * axis.get_ylim()[1])
        axis.set_ylim(bottom=0)
        if not medians.size:
            axis.set_yticks([])
            axis.text(0.5, 0.5, "not met" if axis.lines else "none", transform=axis.transAxes, ha="center", color=DARK)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    bottom_legend(figure, flat)
    return figure


def _line(
    axis: "Axes", levels: Sequence[float], values: Tensor, met: Tensor, index: int, name: str, shift: float
) -> np.ndarray:
    """The medians that were drawn, NaN where there is none."""
    quartiles = np.full((3, len(levels)), np.nan)
    for k, (row, there) in enumerate(zip(values.numpy(), met.numpy(), strict=True)):
        good = row[there & np.isfinite(row)]
        if good.size:
            quartiles[:, k] = np.quantile(good, [0.25, 0.5, 0.75])
    low, middle, high = quartiles
    places, style = np.arange(len(levels)) + shift, look(index)
    axis.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    axis.set_xlim(-0.3, len(levels) - 0.7)
    if not bool(values.isnan().all()):
        part = (~met.all(1)).numpy()
        axis.plot(places, middle, linewidth=1.5, markersize=5, markevery=~part, label=name, **style)
        axis.plot(places[part], middle[part], linestyle="", markersize=5, markerfacecolor="white", **style)
        axis.fill_between(places, low, high, alpha=0.15, linewidth=0, color=style["color"])
    return middle
