"""Charts of weighted retraining: the best value so far with the retrainings, and what each of them did to codes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.reports.plots import COLOURS, MARKERS, add_guide_line, bottom_legend, canvas, mark_level, use_chart_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INDEPENDENT_DISTANCE = 2.0  # mean squared distance of two independent draws from the prior, for each dimension


@use_chart_style
def plot_progress(
    values: Sequence[np.ndarray], maximize: bool, of: str, levels: Mapping[str, float | None]
) -> "Figure":
    """Every distinct object in the order of its finding, the best so far, and the moments of retraining.

    Args:
        values: of each round's distinct objects.
        maximize: sense of the values.
        of: what they are of.
        levels: what is marked beside them, such as the best of the training data; None is left out.
    Returns:
        One panel.
    """
    figure, axes = canvas(1, 1, 3.4)
    axis: Axes = axes[0, 0]
    every = np.concatenate([np.zeros(0), *values])
    x, best = np.arange(1, len(every) + 1), (np.maximum if maximize else np.minimum).accumulate(every)
    starts = np.cumsum([0, *map(len, values)])[:-1]
    for number, start in enumerate(starts):
        axis.axvline(start + 0.5, color=COLOURS[3], linewidth=1, alpha=0.8, label="" if number else "retraining")
    axis.plot(x, every, "o", color=COLOURS[6], markersize=3, alpha=0.55, linestyle="", label="an object")
    for start, one in zip(starts, values, strict=True):
        if len(one):
            ends = (start + 0.5, start + len(one) + 0.5)
            axis.plot(
                ends, [np.median(one)] * 2, color=COLOURS[4], linewidth=2, label="" if start else "round's median"
            )
    axis.step(x, best, where="post", color=COLOURS[0], linewidth=2, label="best so far")
    for number, (name, level) in enumerate((key, value) for key, value in levels.items() if value is not None):
        mark_level(axis, level, name, ("--", ":")[number % 2])
    axis.set(title="Best so far", xlabel="distinct valid objects scored", ylabel=of, xlim=(0, len(every) + 1))
    bottom_legend(figure, [axis], columns=6)
    return figure


@use_chart_style
def plot_codes(shares: Mapping[str, Sequence[float | None]], drift: Sequence[float]) -> "Figure":
    """What each retraining did to codes: shares of data that still are what their codes decode to, and drift.

    Args:
        shares: name -> one a round, None where there is none.
        drift: for each round and active dimension.
    Returns:
        Two panels.
    """
    figure, axes = canvas(1, 2, 3.0)
    left, right = axes[0]
    for number, (name, values) in enumerate(shares.items()):
        rounds = [i for i, value in enumerate(values) if value is not None]
        style: dict[str, Any] = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 5}
        left.plot(rounds, [values[i] for i in rounds], label=name, **style)
    left.set(title="Reproduced", xlabel="round", ylabel="share", ylim=(-0.03, 1.03))
    right.bar(range(len(drift)), drift, color=COLOURS[0], width=0.7)
    top = max([*drift, 0.05])
    if top > INDEPENDENT_DISTANCE / 4:
        add_guide_line(right, INDEPENDENT_DISTANCE, "two independent codes: 2", right=True)
        top = max(top, 1.1 * INDEPENDENT_DISTANCE)
    right.set(title="Drift of codes by each retraining", xlabel="round", ylim=(0, 1.08 * top))
    right.set_ylabel("for an active dimension")
    for axis in (left, right):
        axis.set_xlim(-0.6, len(drift) - 0.4)
        axis.xaxis.get_major_locator().set_params(integer=True)
    bottom_legend(figure, [left], columns=3)
    return figure
