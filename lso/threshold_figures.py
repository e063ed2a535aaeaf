"""Charts of searches read off at stopping thresholds: gap, distances and steps, one line a model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lso.figures import bottom_legend, canvas, look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20.0  # largest median over smallest from which an axis is logarithmic


@styled
def thresholds(panels: Mapping[str, Mapping[str, tuple[Sequence[float], Tensor]]]) -> "Figure":
    """One panel a measure; thresholds tighten to the right; median over targets and the middle half.

    Args:
        panels: measure -> model -> thresholds and values ``(k, T)``.
    Returns:
        The figure.
    """
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = canvas(rows, columns, 2.7 * rows + 0.6)
    flat = list(axes.flatten())
    for axis, (measure, lines) in zip(flat, panels.items(), strict=False):
        for index, (name, (levels, values)) in enumerate(lines.items()):
            _line(axis, levels, values, index, name)
        last = axis in flat[-columns:]
        axis.set(title=measure, xlabel="stopping threshold" if last else "")
        axis.tick_params(labelbottom=last)
        medians = np.concatenate([np.median(values.numpy(), axis=1) for _, values in lines.values()])
        if medians.max() > WIDE * max(float(medians.min()), 0.0):
            positive = medians[medians > 0]
            axis.set_yscale("symlog", linthresh=float(positive.min()) / 10 if positive.size else 1.0)
        axis.set_ylim(bottom=0)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    bottom_legend(figure, axes[0])
    return figure


def _line(axis: "Axes", levels: Sequence[float], values: Tensor, index: int, name: str) -> None:
    low, middle, high = np.quantile(values.numpy(), [0.25, 0.5, 0.75], axis=1)
    places = np.arange(len(levels))
    style = look(index)
    axis.plot(places, middle, linewidth=1.5, markersize=5, label=name, **style)
    axis.fill_between(places, low, high, alpha=0.15, linewidth=0, color=style["color"])
    axis.set_xticks(places, [f"{level:g}" for level in levels])
