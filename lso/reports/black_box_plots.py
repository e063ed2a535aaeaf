"""Charts of the reports on black-box searches, as matplotlib figures drawn by Agg."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lso.analysis.black_box_groups import Group
from lso.analysis.black_box_summary import BlackBoxSummary
from lso.analysis.black_box_traces import progress_axis
from lso.analysis.start_sensitivity import Sensitivity
from lso.analysis.surrogate_calibration import Calibration, coverage
from lso.analysis.verdict import ATYPICAL_BEST
from lso.reports import search_plots as search_figures
from lso.reports.plots import (
    COLOURS,
    DARK,
    add_guide_line,
    bottom_legend,
    canvas,
    log_scale,
    mark_level,
    series_style,
    use_chart_style,
    wants_log,
)
from lso.space import MAX_TYPICAL_PERCENTILE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"calls": "calls", "unique": "distinct valid objects scored", "seconds": "seconds"}
INTERVAL = 1.96  # half the width of a 95 % interval, in standard deviations


@use_chart_style
def progress(summary: BlackBoxSummary) -> "Figure":
    """Best value so far against calls, distinct objects and seconds: a line a search, median and band of each group.

    Calls and objects share a panel where no call was wasted.
    """
    wasted = any(group.total("calls") != group.total("unique") for group in summary.groups)
    axes_of = ("calls", "unique", "seconds") if wasted else ("calls", "seconds")
    figure, axes = canvas(1, len(axes_of), 3.3)
    for axis, over in zip(axes[0], axes_of, strict=True):
        for number, group in enumerate(summary.groups):
            _best_so_far(axis, group, over, number)
        if summary.best_possible is not None:
            mark_level(axis, summary.best_possible, "best attainable")
        label = LABELS[over] if wasted or over != "calls" else "calls, each a distinct valid object"
        axis.set(xlabel=label, xlim=(0, None))
    longest = np.array([float(group.bands["seconds"].x[-1]) for group in summary.groups])
    if wants_log(longest):  # a random search is over before the first model is fitted
        axes[0, -1].set_xlim(left=longest.min() / 10)
        log_scale(axes[0, -1], "x")
    axes[0, 0].set(title="Best so far", ylabel=group_value_label(summary))
    bottom_legend(figure, [axes[0, 0]])
    return figure


def _best_so_far(axis: "Axes", group: Group, over: str, number: int) -> None:
    colour, found = series_style(number)["color"], group.bands[over]
    for trace in group.traces:
        axis.step(progress_axis(trace, over), trace.best_so_far, where="post", color=colour, linewidth=0.6, alpha=0.5)
    many = len(group.traces) > 1
    if many:
        axis.fill_between(found.x, found.low, found.high, step="post", color=colour, alpha=0.18, linewidth=0)
    label = f"{group.name}: median of {len(group.traces)}" if many else group.name
    style: dict[str, Any] = {"where": "post", "linewidth": 2, "markevery": max(1, len(found.x) // 6), "markersize": 5}
    axis.step(found.x, found.median, label=label, **style, **series_style(number))


def group_value_label(summary: BlackBoxSummary) -> str:
    """Axis label of a value."""
    objective = summary.main.objective
    return f"{objective.name} ({'maximized' if objective.maximize else 'minimized'})"


@use_chart_style
def calibration_figure(found: Calibration) -> "Figure":
    """Leave-one-out predictions against values, and the share of values that each interval covers."""
    figure, axes = canvas(1, 2, 3.3, width_ratios=(1.4, 1))
    left, right = axes[0]
    observed, mean, half = (x.numpy() for x in (found.observed, found.mean, INTERVAL * found.deviation))
    inside = np.abs(observed - mean) <= half
    for number, (chosen, name) in enumerate(((inside, "inside its 95 % interval"), (~inside, "outside"))):
        if chosen.any():
            style: dict[str, Any] = {"color": COLOURS[number], "markersize": 3.5, "elinewidth": 0.5, "alpha": 0.6}
            fmt = "o^"[number]
            left.errorbar(observed[chosen], mean[chosen], half[chosen], fmt=fmt, linestyle="", label=name, **style)
    ends = [min(observed.min(), mean.min()), max(observed.max(), mean.max())]
    left.plot(ends, ends, color=DARK, linewidth=1, linestyle="--", label="exact")
    left.set(title="Left-out values", xlabel="value", ylabel="predicted from the others")
    levels = np.linspace(0.02, 0.98, 49)
    right.plot(
        levels, [coverage(found, float(level)) for level in levels], color=COLOURS[0], linewidth=2, label="found"
    )
    right.plot([0, 1], [0, 1], color=DARK, linewidth=1, linestyle="--")
    right.set(title="Intervals", xlabel="level", ylabel="share of values covered", xlim=(0, 1), ylim=(0, 1.02))
    bottom_legend(figure, [left])
    return figure


@use_chart_style
def typicality(summary: BlackBoxSummary) -> "Figure":
    """Value against norm percentile, and against re-encoding error, one mark for each call with a value.

    Where over a tenth of the calls are atypical, their percentiles all but coincide, and the norm is shown instead.
    """
    known = summary.main.best_reencoding is not None
    figure, axes = canvas(1, 2 if known else 1, 3.3)
    typical = torch.cat([group.joined("typical") for group in summary.groups])
    apart = float(typical.double().mean()) < 1 - ATYPICAL_BEST.care
    for number, group in enumerate(summary.groups):
        _draw_calls(axes[0, 0], group, group.joined("norm" if apart else "percentile"), number)
        if known:
            _draw_calls(axes[0, 1], group, group.joined("reencoding"), number)
    label = "norm over active dims" if apart else "norm percentile under the prior"
    axes[0, 0].set(title="Value and norm", xlabel=label, ylabel=group_value_label(summary))
    axes[0, 0].set_xlim((0, None) if apart else (-0.03, 1.03))
    last = (
        search_figures.prior_shell(int(summary.main.objective.space.active.sum()))[1]
        if apart
        else MAX_TYPICAL_PERCENTILE
    )
    axes[0, 0].axvline(last, color=DARK, linestyle="--", linewidth=1, label="typical up to here")
    if known:
        _reencoding(axes[0, 1], summary.main)
    bottom_legend(figure, axes[0], columns=4)
    return figure


def _draw_calls(axis: "Axes", group: Group, x: Tensor, number: int) -> None:
    value, good = group.joined("value"), torch.isfinite(group.joined("value"))
    style: dict[str, Any] = {"s": 11, "alpha": 0.45, "linewidths": 0, **series_style(number)}
    axis.scatter(x[good], value[good], label=f"{group.name}: {int(good.sum())} values", **style)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.9, "s": 48}
    ends = torch.cumsum(torch.tensor([0, *[trace.calls for trace in group.traces]]), 0)
    best = [
        int(start) + trace.best_call for start, trace in zip(ends, group.traces, strict=False) if trace.best_call >= 0
    ]
    axis.scatter(x[best], value[best], label="" if number else "best of a search", **ring)


def _reencoding(axis: "Axes", group: Group) -> None:
    axis.set(title="Value and re-encoding error", xlabel="squared error per dim")
    error = group.joined("reencoding")
    if wants_log(error[torch.isfinite(error)].numpy()):
        log_scale(axis, "x")
    if group.prior_reencoding is not None:
        axis.axvline(group.prior_reencoding, color=DARK, linestyle=":", linewidth=1.2, label="median of prior draws")


@use_chart_style
def agreement(group: Group) -> "Figure":
    """Distance between the seeds' best codes by dimension, and for every pair: codes against what they decode to."""
    found = group.agreement
    assert isinstance(found, Sensitivity)
    figure, axes = canvas(1, 2, 3.4, width_ratios=(1.7, 1))
    dims, left = group.dimensions, axes[0, 0]
    per = np.maximum(found.per_dimension.numpy()[dims.order], 1e-9)
    search_figures.bars(left, dims, per)
    left.set(ylabel="mean squared distance", title="Between the seeds' best codes, by dimension")
    if wants_log(per):
        log_scale(left)
    left.set_ylim(top=max(2.6, float(per.max()) * 1.15))
    add_guide_line(left, 2.0, "two prior draws: 2", right=True)
    search_figures.pairs(axes[0, 1], found, size=40)
    axes[0, 1].set_title("Every pair of seeds")
    bottom_legend(figure, axes[0], columns=6)
    return figure


def activity_by_dimension(group: Group) -> "Figure":
    """Activity of each dimension beside the surrogate's lengthscale and the spread of the proposals."""
    extra: Sequence[search_figures.Row] = (
        ("best code:\n|z| (std of prior)", group.dimensions.moved, None),
        ("proposals:\nspread (prior: 1)", group.spread if bool(torch.isfinite(group.spread).any()) else None, 1.0),
        ("surrogate:\nlengthscale", group.lengthscale, None),
    )
    return search_figures.activity_figure(group.dimensions, moved=False, extra=extra)
