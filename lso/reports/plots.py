"""Charts of the training reports, and the style that all charts share, as matplotlib figures drawn by Agg.

Colours are Okabe and Ito's (2008), told apart under the common colour-vision deficiencies; none is relied on alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np

from lso.vae.checkpoint import Codes
from lso.vae.metrics.active_units import THRESHOLD, mean_variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


P = ParamSpec("P")
T = TypeVar("T")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DARK = "#444444"
WIDTH = 9.6  # inches, like all sizes below
TOP, RIGHT, BOTTOM = 0.3, 0.18, 0.5  # margins around the panels
GAP, LEGEND_LINE = 0.12, 0.19  # between rows of panels without tick labels; height of a line of a legend
STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "axes.edgecolor": "#666666",
    "font.family": "DejaVu Sans",
}


def use_chart_style(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that it draws in the style that all charts share."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def canvas(rows: int, columns: int, height: float, *, left: float = 0.75, **options: Any) -> tuple["Figure", Any]:
    """A figure of the common width with its axes at fixed places: layout engines take longer than the drawing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    inner = (WIDTH - left * columns - RIGHT) / columns, (height - (TOP + GAP) * rows) / rows  # of one panel, about
    edges = {"left": left / WIDTH, "right": 1 - RIGHT / WIDTH, "top": 1 - TOP / height, "bottom": BOTTOM / height}
    gaps = {"wspace": left / inner[0], "hspace": (TOP + GAP) / inner[1]}
    figure.subplots_adjust(**edges, **gaps)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def wants_log(values: np.ndarray, ratio: float = 20.0) -> bool:
    """Whether positive values span so much that a log axis reads better."""
    good = values[np.isfinite(values)]
    return bool(good.size and good.min() > 0 and good.max() / good.min() > ratio)


def log_scale(axis: "Axes", which: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic with plain numbers as labels; call it when everything is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axis, f"set_{which}scale")("log")
    line = getattr(axis, f"{which}axis")
    low, high = line.get_view_interval()
    decades = np.log10(high / low) if 0 < low < high else 0.0
    line.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.5 else (1.0,), numticks=6))
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    line.set_minor_formatter(NullFormatter())


def bottom_legend(figure: "Figure", axes: Any, columns: int = 4, labels: float = BOTTOM) -> None:
    """One legend below all panels."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    count = min(columns, max(1, len(found)))
    rows = -(-len(found) // count)
    figure.subplots_adjust(bottom=(labels + 0.08 + LEGEND_LINE * rows) / figure.get_figheight())
    figure.legend(found.values(), found.keys(), loc="lower center", ncols=count, handlelength=1.5, borderaxespad=0.2)


def add_guide_line(axis: "Axes", level: float, text: str = "", *, vertical: bool = False, right: bool = False) -> None:
    """Draw a dashed line with a word on it."""
    (axis.axvline if vertical else axis.axhline)(level, color=DARK, linestyle="--", linewidth=1)
    if text:
        where: dict[str, Any] = {"bbox": {"facecolor": "white", "alpha": 0.7, "pad": 0.8, "linewidth": 0}} | {
            "x": 0.985 if right else 0.015,
            "y": level,
            "ha": "right" if right else "left",
            "va": "bottom",
        }
        axis.text(s=text, transform=axis.get_yaxis_transform(), fontsize=7, color=DARK, **where)


def mark_level(axis: "Axes", level: float, name: str, linestyle: str = "--") -> None:
    """Draw a line named in the legend; if it lay far off the data, the legend alone gives its value."""
    low, high = axis.dataLim.intervaly
    if low - (high - low) <= level <= high + (high - low):
        axis.axhline(level, color=DARK, linestyle=linestyle, linewidth=1, label=name)
    else:
        axis.plot([], [], color=DARK, linestyle=linestyle, linewidth=1, label=f"{name}: {level:.4g}, off the chart")


CURVES = (
    ("neg_elbo", "-ELBO", "nats"),
    ("kl", "KL to the prior", "nats"),
    ("mi", "Mutual information", "nats"),
    ("active_units", "Active units", "dimensions"),
    ("aggregate_kl", "KL of the aggregated posterior", "nats"),
    ("reconstruction", "Reconstruction", "nats"),
)
MIXED = ("mi_mixed", "Mutual information, mixed lengths", "nats")  # all that old runs on sequences recorded of it
NOT_MEASURED = "measured when the training has ended"
# Panels that reach from 0 to at least here, so that the noise of a collapsed run looks small.
MIN_TOP = {"kl": 0.1, "mi": 0.1, "mi_mixed": 0.1, "active_units": 1.0, "aggregate_kl": 0.1}
REENCODING = (
    ("reencoding_error", "Sampled code to sampled re-encoding"),
    ("reencoding_error_mean", "Mean code to mean re-encoding"),
)


@use_chart_style
def training(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """Validation metrics over training, one line a run, the kept epoch marked."""
    every = [row for table in rows.values() for row in table]
    curves = [MIXED if curve[0] == "mi" and only_mixed(every) else curve for curve in CURVES]
    curves = [curve for curve in curves if any(row.get(curve[0]) is not None for row in every)]
    figure, axes = canvas(2, 3, 5.0, sharex=True) if len(curves) > 3 else canvas(1, len(curves), 2.9)
    for axis, (key, title, unit) in zip(axes.flat, curves, strict=False):
        _draw_metric(axis, rows, key)
        axis.set(title=title, ylabel=unit)
        if key in MIN_TOP:
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, -0.05 * MIN_TOP[key]), max(high, MIN_TOP[key]))
    _elbo_limits(axes[0, 0], rows)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    bottom_legend(figure, [axes[0, 0]])
    return figure


def only_mixed(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether mutual information is known only within batches of mixed lengths."""
    return all(row.get("mi") is None for row in rows) and any(row.get("mi_mixed") is not None for row in rows)


@use_chart_style
def reencoding(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """Re-encoding error over training, sampled and mean, in two panels; a run without rows keeps its colour free."""
    figure, axes = canvas(1, 2, 2.9)
    for axis, (key, title) in zip(axes[0], REENCODING, strict=True):
        _draw_metric(axis, rows, key)
        axis.set(title=title, xlabel="epoch", ylabel="squared error per dimension", ylim=(0, None))
    axes[0, 0].set_ylim(top=max(2.2, axes[0, 0].get_ylim()[1]))
    add_guide_line(axes[0, 0], 2.0, "full collapse: 2", right=True)
    bottom_legend(figure, [axes[0, 0]])
    return figure


def series_style(number: int) -> dict[str, Any]:
    """Colour and marker of the n-th series."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _draw_metric(axis: "Axes", rows: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for number, (name, table) in enumerate(rows.items()):
        known = [row for row in table if row.get(key) is not None]
        if not known:
            continue
        x, y = [row["epoch"] for row in known], [row[key] for row in known]
        kept = [i for i, row in enumerate(known) if row.get("best")][-1:]
        style = "-" if number < len(COLOURS) else "--"
        axis.plot(
            x, y, linewidth=1.5, linestyle=style, markevery=kept, markersize=6, label=name, **series_style(number)
        )
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _elbo_limits(axis: "Axes", rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Limit the axis to the trained epochs: beside the untrained epoch 0 no difference could be seen."""
    known = [row for table in rows.values() for row in table if row["epoch"] > 0]
    values = [row["neg_elbo"] for row in known if row.get("neg_elbo") is not None]
    if values:
        low, high = min(values), max(values)
        axis.set_ylim(low - 0.05 * (high - low) - 0.05, high + 0.05 * (high - low) + 0.05)  # at least a tenth of a nat


@use_chart_style
def dimensions_across(codes: Mapping[str, Codes | None]) -> "Figure":
    """Sorted variance of posterior means and sorted decoder use, one line a model.

    A run without codes keeps its colour free, so that colours agree between charts.
    """
    figure, axes = canvas(1, 2, 2.9)
    for number, (name, found) in enumerate(codes.items()):
        if found is None:
            continue
        variance = mean_variance(found.mean).sort(descending=True).values.clamp_min(1e-6)
        rank, options = (
            range(1, len(variance) + 1),
            {"linewidth": 1.2, "markersize": 3.5, "label": name, **series_style(number)},
        )
        axes[0, 0].plot(rank, variance.numpy(), **options)
        if found.decoder_use is not None:
            axes[0, 1].plot(
                rank, found.decoder_use.double().sort(descending=True).values.clamp_min(1e-4).numpy(), **options
            )
    add_guide_line(axes[0, 0], THRESHOLD, "active from here up", right=True)  # sorted, the lines fall from the left
    axes[0, 0].set(title="Encoder: variance of posterior means", ylabel="variance (floor 1e-6)")
    axes[0, 1].set(title="Decoder: loss when a dimension is redrawn", ylabel="nats (floor 1e-4)")
    for axis in axes[0]:
        axis.set_xlabel("dimension, sorted within each model")
        log_scale(axis)
    if not axes[0, 1].lines:
        axes[0, 1].set(xticks=[], yticks=[])
        axes[0, 1].text(0.5, 0.5, NOT_MEASURED, transform=axes[0, 1].transAxes, ha="center", color=DARK)
    bottom_legend(figure, axes[0])
    return figure


@use_chart_style
def searches(found: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Searches side by side: best ends, median value per step, distance of the codes of two starts by dimension."""
    figure, axes = canvas(1, 3, 3.2)
    for number, (name, numbers) in enumerate(found.items()):
        steps, colour = numbers["convergence"], series_style(number)
        best = _array(steps["best"])
        axes[0, 0].scatter(number + np.linspace(-0.25, 0.25, len(best)), best, s=14, alpha=0.7, linewidths=0, **colour)
        axes[0, 0].hlines(_median(best), number - 0.35, number + 0.35, color="black", linewidth=1.5)
        medians = [_median(row) for row in _array(steps["trace"])]  # of (k, T, S)
        axes[0, 1].plot(
            steps["trace_steps"], medians, markersize=4, markevery=0.15, label=f"{number + 1}: {name}", **colour
        )
        at = np.arange(2) + (number - (len(found) - 1) / 2) * 0.8 / len(found)
        axes[0, 2].bar(at, np.maximum(_per_dimension(numbers), 1e-9), 0.75 / len(found), color=colour["color"])
    axes[0, 0].set(title="Best end of each target", ylabel="value", xlabel="search")
    axes[0, 0].set_xticks(range(len(found)), [str(i + 1) for i in range(len(found))])
    axes[0, 1].set(title="Median over targets and starts", xlabel="step", ylabel="value")
    axes[0, 2].set(title="Between the codes of two starts", ylabel="squared distance per dim")
    axes[0, 2].set_xticks([0, 1], ["active dims", "weak and dead"])
    axes[0, 2].set_xlim(-0.55, 1.55)  # also where no search has weak ones
    if wants_log(np.concatenate([_array(numbers["convergence"]["best"]).ravel() for numbers in found.values()])):
        log_scale(axes[0, 0])
    if wants_log(np.concatenate([_array(line.get_ydata()) for line in axes[0, 1].lines])):
        log_scale(axes[0, 1])
    log_scale(axes[0, 2])
    low, high = axes[0, 2].get_ylim()
    axes[0, 2].set_ylim(min(1.0, low), max(8.0, high))
    add_guide_line(axes[0, 2], 2.0, "two prior draws: 2")
    bottom_legend(figure, [axes[0, 1]], columns=2)
    return figure


def _array(value: Any) -> np.ndarray:
    return np.array(value, dtype=float)  # null becomes NaN


def _median(value: np.ndarray) -> float:
    good = value[np.isfinite(value)]
    return float(np.median(good)) if good.size else float("nan")


def _per_dimension(numbers: Mapping[str, Any]) -> list[float]:
    """Mean squared distance per active dimension, and per other dimension."""
    per, status = _array(numbers["sensitivity"]["per_dimension"]), np.array(numbers["dimensions"]["status"])
    groups = (per[status == "active"], per[status != "active"])
    return [float(np.nan_to_num(group).mean()) if group.size else float("nan") for group in groups]


# Key in metrics.jsonl, name, line. KL = MI + KL of the aggregate, up to the estimates.
TERMS = (
    ("kl", "KL(q(z|x) || p(z))", "-"),
    ("mi", "mutual information of x and z", "--"),
    ("aggregate_kl", "KL(q(z) || p(z))", ":"),
)
PANELS_PER_ROW, PANEL_HEIGHT = 3, 2.3  # panels in a row, and the height of one in inches
TITLE_LETTERS = 100  # letters in all titles of one row


@use_chart_style
def information(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """KL to the prior, mutual information and KL of the aggregated posterior over training, one panel a run.

    As in figure 5 of He et al. (2019), arXiv:1901.05534. The epochs of aggressive training are shaded.
    """
    columns = min(PANELS_PER_ROW, len(rows))
    lines = ceil(len(rows) / columns)
    figure, axes = canvas(lines, columns, PANEL_HEIGHT * lines + BOTTOM, sharex=True)
    for axis, (name, table) in zip(axes.flat, rows.items(), strict=False):
        _draw_information(axis, table)
        axis.set_title(_shorten(name, TITLE_LETTERS // columns))
    for axis in axes.flat[len(rows) :]:
        axis.set_visible(False)
    for axis in axes.flat[len(rows) - columns : len(rows)]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("epoch")
    for axis in axes[:, 0]:
        axis.set_ylabel("nats")
    bottom_legend(figure, axes.flat[: len(rows)])
    return figure


def _draw_information(axis: "Axes", table: Sequence[Mapping[str, Any]]) -> None:
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
    """Limits over all epochs but the untrained one, whose KL can be hundreds."""
    trained = [row for row in table if row["epoch"] > 0] or table
    keys = [*(key for key, _, _ in TERMS), *(["mi_mixed"] if only_mixed(table) else [])]
    values = [row[key] for row in trained for key in keys if row.get(key) is not None] or [0.0]
    low, high = min(0.0, *values), max(*values, 1e-3)
    return low - 0.03 * (high - low), high + 0.05 * (high - low)


def _shorten(name: str, most: int) -> str:
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
