"""Chart of what happens to the information in the codes while a model trains."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from lso.figures import BOTTOM, COLOURS, bottom_legend, canvas, only_mixed, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Key in metrics.jsonl, name, line. KL = MI + KL of the aggregate, up to the estimates.
TERMS = (
    ("kl", "KL(q(z|x) || p(z))", "-"),
    ("mi", "mutual information of x and z", "--"),
    ("aggregate_kl", "KL(q(z) || p(z))", ":"),
)
ACROSS, PANEL = 3, 2.3  # panels in a row, and the height of one in inches
TITLE = 100  # letters in the titles of one row


@styled
def information(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """KL to the prior, mutual information and KL of the aggregated posterior over training, one panel a run.

    As in figure 5 of He et al. (2019), arXiv:1901.05534. The epochs of aggressive training are shaded.

    Args:
        rows: run name -> rows of metrics.jsonl.
    Returns:
        One panel a run, three in a row.
    """
    columns = min(ACROSS, len(rows))
    lines = ceil(len(rows) / columns)
    figure, axes = canvas(lines, columns, PANEL * lines + BOTTOM, sharex=True)
    for axis, (name, table) in zip(axes.flat, rows.items(), strict=False):
        _panel(axis, table)
        axis.set_title(_short(name, TITLE // columns))
    for axis in axes.flat[len(rows) :]:
        axis.set_visible(False)
    for axis in axes.flat[len(rows) - columns : len(rows)]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("epoch")
    for axis in axes[:, 0]:
        axis.set_ylabel("nats")
    bottom_legend(figure, axes.flat[: len(rows)])
    return figure


def _panel(axis: "Axes", table: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    mixed = only_mixed(table)
    for number, (key, name, line) in enumerate(TERMS):
        if mixed and key == "mi":
            key, name = "mi_mixed", f"{name}, mixed lengths"
        known = [row for row in table if row.get(key) is not None]
        x, y = [row["epoch"] for row in known], [row[key] for row in known]
        axis.plot(x, y, line, color=COLOURS[number], linewidth=1.6, label=name)
    for row in table:
        if row.get("inner_steps"):
            axis.axvspan(row["epoch"] - 1, row["epoch"], color="#000000", alpha=0.07, linewidth=0, label="aggressive")
    axis.set_ylim(*_limits(table))
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _limits(table: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Of all epochs but the untrained one, whose KL can be hundreds, where there are others."""
    trained = [row for row in table if row["epoch"] > 0] or table
    keys = [*(key for key, _, _ in TERMS), *(["mi_mixed"] if only_mixed(table) else [])]
    values = [row[key] for row in trained for key in keys if row.get(key) is not None] or [0.0]
    low, high = min(0.0, *values), max(*values, 1e-3)
    return low - 0.03 * (high - low), high + 0.05 * (high - low)


def _short(name: str, most: int) -> str:
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
