"""Charts of the reports on gradient searches, as matplotlib figures drawn by Agg; `lso.analysis` has the numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lso.analysis.convergence import start_kinds
from lso.analysis.latent_dimensions import WEAK_BELOW, Dimensions
from lso.analysis.start_sensitivity import Sensitivity
from lso.analysis.summary import SearchSummary
from lso.reports.plots import (
    COLOURS,
    DARK,
    MARKERS,
    add_guide_line,
    bottom_legend,
    canvas,
    log_scale,
    series_style,
    use_chart_style,
    wants_log,
)
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.active_units import THRESHOLD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATUS = {"active": "#0072B2", "weak": "#E69F00", "dead": "#7F7F7F"}
HATCH = {"active": "", "weak": "///", "dead": "xxx"}
THIN_LINES = 200
MIN_BARS = 10  # with fewer dimensions bars are narrower than their places
FLOOR = 1e-4  # smallest share that a log axis shows
Row = tuple[str, Tensor | None, float | None]  # label, a number for each dimension, height of a guide line


@use_chart_style
def convergence_figure(summary: SearchSummary) -> "Figure":
    """Value per step, and the share of the target's gain that is still missing.

    Elements are thin lines, medians by kind of start bold ones.
    """
    found, sign = summary.convergence, summary.result.objective.sign
    steps, value = found.trace_steps.numpy(), found.trace.numpy()  # (k,), (k, T, S)
    best, drop = found.best.numpy()[:, None], np.maximum(found.drop.numpy()[:, None], 1e-300)
    left = np.maximum(sign * (value - best) / drop, FLOOR)
    figure, axes = canvas(1, 2, 3.3)
    kinds = start_kinds(list(summary.result.start_names))
    for axis, curves in zip(axes[0], (value, left), strict=True):
        _draw_traces(axis, steps, curves, kinds)
        axis.set_xlabel("step")
        axis.set_xlim(0, max(1, steps[-1]))
    axes[0, 0].set(title="Value", ylabel=value_label(summary))
    axes[0, 1].set(title="Share of the gain still missing", ylabel=f"share (floor {FLOOR:.0e})")
    if wants_log(value):
        log_scale(axes[0, 0])
    log_scale(axes[0, 1])
    bottom_legend(figure, [axes[0, 0]])
    return figure


def value_label(summary: SearchSummary) -> str:
    """Axis label of a value."""
    objective = summary.result.objective
    return f"{objective.name} ({'maximized' if objective.maximize else 'minimized'})"


def _draw_traces(axis: "Axes", steps: np.ndarray, curves: np.ndarray, kinds: Mapping[str, Sequence[int]]) -> None:
    every = max(1, -(-curves[0].size // THIN_LINES))
    for number, (kind, index) in enumerate(kinds.items()):
        chosen = curves[:, :, list(index)].reshape(len(steps), -1)
        axis.plot(steps, chosen[:, ::every], color=series_style(number)["color"], linewidth=0.5, alpha=0.3)
        good = np.isfinite(chosen).any(1)
        median = np.array([np.median(row[np.isfinite(row)]) for row in chosen[good]])
        axis.plot(steps[good], median, color="white", linewidth=3.4, zorder=3)
        options: dict[str, Any] = {"markevery": max(1, len(steps) // 6), "markersize": 5, "linewidth": 2, "zorder": 4}
        axis.plot(steps[good], median, label=f"median from {kind}", **options, **series_style(number))


@use_chart_style
def final_values_figure(summary: SearchSummary, limit: int = 60) -> "Figure":
    """Start and end values of each target, one mark per start."""
    figure, axes = canvas(1, 1, 2.9)
    axis, result = axes[0, 0], summary.result
    count, starts = min(limit, len(result.z)), result.z.shape[1]
    at, start = np.arange(count), summary.convergence.value0.numpy()[:count]
    value = result.value.detach().double().cpu().numpy()[:count]
    axis.scatter(at, start, marker="_", color=DARK, s=110, linewidths=1.6, label="value at the median start")
    offsets = np.linspace(-0.28, 0.28, starts) if starts > 1 else np.zeros(1)
    for number, (kind, index) in enumerate(start_kinds(list(result.start_names)).items()):
        x = at[:, None] + offsets[index][None]
        axis.scatter(
            x, value[:, index], s=18, alpha=0.85, linewidths=0, label=f"end from {kind}", **series_style(number)
        )
    axis.set(xlabel="target", ylabel=value_label(summary), title="Where each start ended", xlim=(-0.7, count - 0.3))
    axis.set_xticks(at[:: max(1, count // 20)])
    if wants_log(np.concatenate([start, value.ravel()])):
        log_scale(axis)
    bottom_legend(figure, [axis], columns=6)
    return figure


@use_chart_style
def distances_figure(summary: SearchSummary) -> "Figure":
    """Distance between the codes of a target's starts for each dimension, and every pair: codes against results."""
    figure, axes = canvas(1, 2, 3.4, width_ratios=(1.7, 1))
    dims, left = summary.dimensions, axes[0, 0]
    per = np.maximum(summary.sensitivity.per_dimension.numpy()[dims.order], 1e-9)
    bars(left, dims, per)
    shown = [per]
    if summary.control is not None:
        control = np.maximum(summary.control.per_dimension.numpy()[dims.order], 1e-9)
        left.plot(range(len(control)), control, "kx", markersize=4, label=f"control: {summary.control.optimizer}")
        shown.append(control)
    every = np.concatenate(shown)
    every = every[np.isfinite(every)]
    left.set(ylabel="mean squared distance", title="Between the codes that a target's starts found, by dimension")
    log_scale(left)
    left.set_ylim(min(0.5, every.min(initial=1.0)) / 2, max(4.0, every.max(initial=0.0)) * 2)
    add_guide_line(left, 2.0, "two prior draws: 2", right=True)
    pairs(axes[0, 1], summary.sensitivity)
    bottom_legend(figure, axes[0], columns=6)
    return figure


def bars(axis: "Axes", dims: Dimensions, values: np.ndarray) -> None:
    """Bars in the order of the dimensions' sensitivity, coloured and hatched by status."""
    words = np.array([dims.status(i) for i in dims.order])
    few = len(values) < MIN_BARS
    width = 0.8 * len(values) / MIN_BARS if few else 0.8  # the bars of two dimensions would look like walls
    for status, colour in STATUS.items():
        at = np.flatnonzero(words == status)
        if at.size:
            label = f"{status} ({at.size})"
            axis.bar(
                at, values[at], width, color=colour, hatch=HATCH[status], edgecolor="white", linewidth=0, label=label
            )
    every = max(1, -(-len(values) // 40))
    axis.set_xticks(
        range(0, len(values), every), [f"z{i}" for i in dims.order[::every]], rotation=0 if few else 90, fontsize=7
    )
    axis.set_xlim(-0.7, len(values) - 0.3)
    axis.grid(False, axis="x")


def pairs(axis: "Axes", found: Sensitivity, size: float = 11) -> None:
    """Every pair of starts: distance of the codes over active dimensions against distance of the decoded results."""
    code, seen = (np.maximum(x.numpy().ravel(), 1e-9) for x in (found.active, found.decoded))
    same = found.same.numpy().ravel()
    for number, (chosen, label) in enumerate(((same, "pair in one basin"), (~same, "pair in two basins"))):
        if chosen.any():
            marker: dict[str, Any] = {"color": ("#009E73", "#D55E00")[number], "marker": "o^"[number]}
            axis.scatter(code[chosen], seen[chosen], s=size, alpha=0.55, linewidths=0, label=label, **marker)
    for which in ("x", "y"):
        log_scale(axis, which)
    add_guide_line(axis, found.tolerance, "linking distance")
    axis.set(
        title="Every pair of starts",
        xlabel="squared code distance, active dims",
        ylabel=f"decoded distance ({found.unit})",
    )


@use_chart_style
def activity_figure(dims: Dimensions, moved: bool = True, extra: Sequence[Row] = ()) -> "Figure":
    """Each measure of activity in a panel of its own, dimensions by falling sensitivity; ``extra`` adds panels."""
    rows: list[Row] = [
        (f"decoder:\n{dims.measure}", dims.jacobian_norm, WEAK_BELOW**0.5 * float(dims.jacobian_norm.max())),
        ("decoder:\nuse (nats)", dims.decoder_use, None),
        ("encoder:\nKL (nats)", dims.kl, None),
        ("encoder: vari-\nance of means", dims.variance, THRESHOLD),
        ("re-encoding\ncorrelation", dims.correlation, None),
        ("search: moved\n(std of prior)", dims.moved if moved else None, None),
        *extra,
    ]
    from matplotlib.ticker import FuncFormatter

    known = [(label, value, line) for label, value, line in rows if value is not None]
    figure, axes = canvas(len(known), 1, 0.8 + 1.0 * len(known), left=0.95, sharex=True)
    for axis, (label, value, line) in zip(axes[:, 0], known, strict=True):
        shown = value[dims.order].numpy()
        bars(axis, dims, shown)
        axis.set_ylabel(label, fontsize=8)
        if value is not dims.correlation and wants_log(shown[shown > 0]):
            log_scale(axis)
        else:
            axis.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))  # no power of ten above the panel
        if line:
            add_guide_line(axis, line)
    axes[0, 0].set_title("Activity per dimension, by falling effect on the decoded data (dashed: active from here up)")
    figure.subplots_adjust(hspace=0.2)
    bottom_legend(figure, [axes[0, 0]], labels=0.35)
    return figure


@use_chart_style
def plausibility_figure(summary: SearchSummary) -> "Figure":
    """Norms against those of prior draws, values against norms, values against re-encoding errors."""
    error = summary.ends.reencoding_active
    figure, axes = canvas(1, 2 if error is None else 3, 3.3)
    _draw_norms(axes[0, 0], summary)
    _draw_values_against(axes[0, 1], summary, summary.ends.norm_active.numpy())
    axes[0, 1].set(title="Value and norm", xlabel="norm over active dims", ylabel=value_label(summary))
    count = int(summary.dimensions.active.sum())
    if count:
        axes[0, 1].axvspan(*prior_shell(count), color="#dddddd", linewidth=0, zorder=0, label="99.8 % of the prior")
    if error is not None:
        x, prior = error.numpy(), summary.reference.plausibility.reencoding_active
        _draw_values_against(axes[0, 2], summary, x)
        if wants_log(x):
            log_scale(axes[0, 2], "x")
        axes[0, 2].set(title="Value and re-encoding error", xlabel="squared error per active dim")
        if prior is not None:
            axes[0, 2].axvline(
                float(prior.median()), color=DARK, linestyle="--", linewidth=1, label="median of prior draws"
            )
    bottom_legend(figure, axes[0], columns=5)
    return figure


def prior_shell(count: int) -> tuple[float, float]:
    """Norms between which 99.8 % of the draws of N(0, I) lie."""
    from scipy.stats import chi

    return float(chi.ppf(1 - MAX_TYPICAL_PERCENTILE, count)), float(chi.ppf(MAX_TYPICAL_PERCENTILE, count))


def _draw_values_against(axis: "Axes", summary: SearchSummary, x: np.ndarray) -> None:
    """Plot values of all ends against a measure; atypical ends are marked, best ends circled."""
    value = summary.result.value.detach().double().cpu().numpy()
    strange, best = summary.ends.atypical.numpy(), np.zeros(value.shape, dtype=bool)
    best[tuple(index.numpy() for index in summary.best_index)] = True
    for number, (chosen, name) in enumerate(((~strange, "typical end"), (strange, "atypical end"))):
        if chosen.any():
            marker: dict[str, Any] = {"color": COLOURS[number], "marker": ("o", "^")[number]}
            axis.scatter(x[chosen], value[chosen], s=12, alpha=0.6, linewidths=0, label=name, **marker)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.8, "marker": MARKERS[0]}
    axis.scatter(x[best], value[best], s=42, label="best of a target", **ring)
    if wants_log(value):
        log_scale(axis)


def _draw_norms(axis: "Axes", summary: SearchSummary) -> None:
    """Histogram of norms over active dimensions with the density of chi(k)."""
    from scipy.stats import chi

    count = int(summary.dimensions.active.sum())
    sets = {"starts": summary.starts.norm_active, "ends": summary.ends.norm_active, "best": summary.best.norm_active}
    known = {name: x[torch.isfinite(x)].flatten().numpy() for name, x in sets.items()}
    top = max([1.3 * max(1, count) ** 0.5, *(float(x.max()) for x in known.values() if x.size)]) * 1.05
    bins = np.linspace(0, top, 31)
    for number, (name, x) in enumerate(known.items()):
        if x.size:
            style = ("-", "--", ":")[number]
            axis.hist(
                x,
                bins.tolist(),
                density=True,
                histtype="step",
                linewidth=1.8,
                linestyle=style,
                color=COLOURS[number],
                label=name,
            )
    if count:
        r = np.linspace(0, top, 400)
        axis.fill_between(r, chi.pdf(r, count), color="#bbbbbb", alpha=0.5, linewidth=0, label=f"prior: chi({count})")
    axis.set(title="Norm of the code", xlabel="norm over active dims", ylabel="density")
