"""Charts of the space of posterior means: each datum's true mean against the encoder's (He et al. 2019, sec. 3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lso.figures import COLOURS, DARK, canvas, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REACH = 3.0  # of the axes, as the paper's
LEFT, BELOW = 0.5, 0.62  # inches: beside each panel, below all of them


@styled
def posterior_space(rows: Mapping[str, Sequence[tuple[str, Tensor, Tensor]]]) -> "Figure":
    """One row a training, one panel a stage, one cross a datum; on the dashed line the encoder is right on average.

    Args:
        rows: training -> stages: title, true means ``(n,)``, the encoder's ``(n,)``.
    Returns:
        The figure.
    """
    columns = max(len(stages) for stages in rows.values())
    side = (9.6 - LEFT * columns) / columns
    figure, axes = canvas(len(rows), columns, (side + 0.42) * len(rows) + BELOW, left=LEFT)
    for line, (name, stages) in zip(axes, rows.items(), strict=True):
        for axis in line[len(stages) :]:
            axis.set_visible(False)
        for axis, (title, true, encoder) in zip(line, stages, strict=False):
            _frame(axis, REACH)
            inside = ((true.abs() <= REACH) & (encoder.abs() <= REACH)).numpy()
            axis.plot(*(v.numpy()[inside] for v in (true, encoder)), "x", color=COLOURS[1], markersize=3.2, mew=0.7)
            axis.set_title(title)
            if outside := int((~inside).sum()):
                axis.text(0.03, 0.96, f"{outside} outside", transform=axis.transAxes, va="top", fontsize=7, color=DARK)
        line[0].set_ylabel(f"{name}\nencoder's mean")
    for axis in axes[:-1].flat:
        axis.tick_params(labelbottom=False)  # as below
    for axis in axes[-1]:
        axis.set_xlabel("true posterior mean")
    figure.subplots_adjust(left=(LEFT + 0.18) / 9.6)
    return figure


@styled
def paths(panels: Mapping[str, tuple[Tensor, Tensor]]) -> "Figure":
    """The way of one datum, step after step, one panel a training on axes of one scale.

    Args:
        panels: training -> true means ``(steps,)`` and the encoder's ``(steps,)``.
    Returns:
        The figure.
    """
    figure, axes = canvas(1, len(panels), 3.9, left=0.7)
    reach = 1.15 * max(float(v.abs().max()) for both in panels.values() for v in both)
    for axis, (name, (true, encoder)) in zip(axes[0], panels.items(), strict=True):
        _frame(axis, reach or 1.0)
        _way(axis, true.numpy(), encoder.numpy())
        axis.set(title=name, xlabel="true posterior mean")
        axis.set_aspect("equal")
    axes[0, 0].legend(loc="upper left")
    axes[0, 0].set_ylabel("encoder's mean")
    return figure


def _way(axis: "Axes", x: np.ndarray, y: np.ndarray) -> None:
    """Arrows from place to place, early ones pale."""
    from matplotlib.colors import to_rgba

    ages = np.linspace(0.35, 1.0, len(x) - 1)
    colours = [to_rgba(COLOURS[2], age) for age in ages]
    axis.quiver(
        x[:-1],
        y[:-1],
        np.diff(x),
        np.diff(y),
        color=colours,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.007,
        zorder=3,
    )
    axis.plot(x[0], y[0], "o", color=COLOURS[1], markersize=7, mfc="white", label="first", linestyle="", zorder=4)
    axis.plot(x[-1], y[-1], "s", color=COLOURS[1], markersize=7, label="last", linestyle="", zorder=4)


def _frame(axis: "Axes", reach: float) -> None:
    """Both axes of one reach, the origin and the dashed diagonal."""
    for line in (axis.axhline, axis.axvline):
        line(0, color="#b0b0b0", linewidth=0.8)
    axis.axline((0, 0), slope=1, linestyle="--", linewidth=1, color=DARK)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
