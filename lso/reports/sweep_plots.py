"""Charts over many trainings: active units and likelihood of a sweep, and our numbers beside published ones."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.reports.plots import (
    COLOURS,
    DARK,
    WIDTH,
    bottom_legend,
    canvas,
    log_scale,
    series_style,
    use_chart_style,
    wants_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@use_chart_style
def draw_sweep(points: Sequence[Mapping[str, Any]]) -> "Figure":
    """Active units against latent size, and NLL against active units with one point a run (He et al. 2019, Figure 4).

    Methods stand slightly beside one another, so that equal ones do not hide each other. A run without latents has no
    active units: it is a level in the second panel. The NLL is importance-weighted if all runs have it, else -ELBO.

    Args:
        points: method, latent_dim, and for runs that were measured active_units, neg_elbo and iw_nll or None.
    """
    from matplotlib.ticker import MaxNLocator

    done = _measured(points)
    methods = list(dict.fromkeys(point["method"] for point in points))
    figure, axes = canvas(1, 2, 3.6)
    for index, method in enumerate(methods):
        mine, place = [point for point in done if point["method"] == method], index - (len(methods) - 1) / 2
        _against_size(axes[0, 0], mine, index, method, 2 ** (0.05 * place))
    _against_units(axes[0, 1], done, methods, _likelihood_of(done))
    sizes = sorted({point["latent_dim"] for point in done if point["latent_dim"]})
    if sizes:
        axes[0, 0].set_xscale("log", base=2)
        ends = np.geomspace(sizes[0] / 1.15, sizes[-1] * 1.15, 50)
        axes[0, 0].plot(ends, ends, linestyle="--", linewidth=1, color=DARK, zorder=5, label="all active")
        axes[0, 0].set_xticks(sizes, [str(size) for size in sizes])
        axes[0, 0].minorticks_off()
    else:
        axes[0, 0].set_xticks([])
        axes[0, 0].text(0.5, 0.5, "no latents", transform=axes[0, 0].transAxes, ha="center", color=DARK)
    axes[0, 0].set(title="Active units", xlabel="latent size", ylabel="active units")
    axes[0, 0].set_ylim(-0.03 * max(1.0, axes[0, 0].get_ylim()[1]), None)  # room for markers at 0
    axes[0, 0].yaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    bottom_legend(figure, axes[0])
    return figure


@use_chart_style
def units_and_likelihood(points: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]] = ()) -> "Figure":
    """NLL against active units with one point a run (He et al. 2019, Figure 4), beside published means.

    Each has a panel with a scale of its own; ``points`` and ``published`` are as for `draw_sweep`.
    """
    given = [part for part in (published, points) if part]
    methods = list(dict.fromkeys(point["method"] for part in given for point in part))
    key = _likelihood_of([point for part in given for point in _measured(part)])
    figure, axes = canvas(1, len(given), 4.0)
    for axis, part in zip(axes[0], given, strict=True):
        printed = part is published
        _against_units(axis, _measured(part), methods, key, 0.0 if printed else METHOD_SPREAD)
        axis.set(title="Published, means" if printed else "Ours, one point a run")
    bottom_legend(figure, axes[0])
    return figure


def _measured(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [point for point in points if point.get("neg_elbo") is not None]


def _likelihood_of(measured: Sequence[Mapping[str, Any]]) -> str:
    return "iw_nll" if all(point.get("iw_nll") is not None for point in measured) else "neg_elbo"


METHOD_SPREAD = 0.7  # distance between the first method and the last, in active units


def _against_units(
    axis: "Axes", measured: Sequence[Mapping[str, Any]], methods: Sequence[str], key: str, spread: float = METHOD_SPREAD
) -> None:
    """Plot a point a run; methods stand beside one another, nearer to their own number of units than to the next."""
    from matplotlib.ticker import MaxNLocator

    apart = spread / max(1, len(methods) - 1)
    for index, method in enumerate(methods):
        mine, place = [point for point in measured if point["method"] == method], index - (len(methods) - 1) / 2
        coded = [point for point in mine if point["latent_dim"]]
        units = [point["active_units"] + apart * place for point in coded]
        if coded:
            axis.plot(
                units, [point[key] for point in coded], linestyle="", alpha=0.8, label=method, **_point_style(index)
            )
        for number, point in enumerate(point for point in mine if not point["latent_dim"]):
            name = f"{method}, no latents" if not number else ""
            axis.axhline(point[key], linestyle=":", linewidth=1.5, color=series_style(index)["color"], label=name)
    name = "NLL, importance-weighted" if key == "iw_nll" else "-ELBO"
    axis.set(title="Likelihood, one point a run", xlabel="active units", ylabel=f"{name} (nats)")
    left, right = axis.get_xlim()
    axis.set_xlim(min(left, -0.5) if left < 0.5 else left, max(right, 0.5))
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    _cut_outliers(axis, [(point["method"], float(point[key])) for point in measured])


def _point_style(index: int) -> dict[str, Any]:
    """The style of a series; after the eighth, when colours repeat, markers are open."""
    return series_style(index) | ({"markerfacecolor": "white"} if index // len(COLOURS) % 2 else {})


CUT_ABOVE, CUT_AT = (
    15.0,
    6.0,
)  # times the median's height over the least: what is beyond the first is cut off at the second


def _cut_outliers(axis: "Axes", values: Sequence[tuple[str, float]]) -> None:
    """Cut the axis where a few values lie so high that the others could not be told apart, and name them instead."""
    levels = [value for _, value in values]
    least, middle = min(levels, default=0.0), statistics.median(levels or [0.0])
    if max(levels, default=0.0) - least <= CUT_ABOVE * (middle - least) or middle == least:
        return
    top = least + CUT_AT * (middle - least)
    above: dict[str, list[float]] = {}
    for method, value in values:
        if value > top:
            above.setdefault(method, []).append(value)
    axis.set_ylim(least - 0.06 * (top - least), top)
    lines = [f"{method}: {statistics.fmean(high):z.1f}" for method, high in above.items()]
    text = "\n".join(["above this range", *lines])
    axis.text(0.02, 0.97, text, transform=axis.transAxes, ha="left", va="top", fontsize=8, color=DARK)
    for line in axis.lines:
        if min(map(float, line.get_ydata())) > top:  # type: ignore[arg-type]
            line.set_label("")  # it is named above, and not drawn


def _against_size(axis: "Axes", points: Sequence[Mapping[str, Any]], index: int, method: str, beside: float) -> None:
    sizes = sorted({point["latent_dim"] for point in points if point["latent_dim"]})
    values = [[point["active_units"] for point in points if point["latent_dim"] == size] for size in sizes]
    means = [statistics.fmean(value) for value in values]
    errors = [statistics.stdev(value) if len(value) > 1 else 0.0 for value in values]
    if sizes:
        places = [size * beside for size in sizes]
        axis.errorbar(
            places, means, yerr=errors, capsize=3, linewidth=1.5, markersize=5, label=method, **_point_style(index)
        )


@use_chart_style
def beside_published(columns: Mapping[str, Sequence[tuple[int, float, float]]], names: Mapping[int, str]) -> "Figure":
    """Our numbers and published ones, one panel for each column, one line for each row of the table.

    Args:
        columns: heading -> (number of the row, published, ours); at least one column, each with an entry.
        names: of the rows, by number.
    """
    rows = sorted({number for entries in columns.values() for number, _, _ in entries})
    places = {number: place for place, number in enumerate(rows)}
    figure, axes = canvas(1, len(columns), 1.2 + 0.21 * len(rows), left=0.3, sharey=True)
    figure.subplots_adjust(left=LABEL_INCHES / WIDTH)
    for axis, (name, entries) in zip(axes[0], columns.items(), strict=True):
        numbers, published, ours = zip(*entries, strict=True)
        lines = [places[number] for number in numbers]
        axis.hlines(lines, published, ours, color=DARK, linewidth=0.8, alpha=0.6)
        axis.plot(published, lines, linestyle="", marker="o", markersize=6, markerfacecolor="white", color=DARK)
        axis.plot(ours, lines, linestyle="", marker="D", markersize=4.5, color=COLOURS[1])
        _plain_axis(axis, np.array([*published, *ours], dtype=float))
        axis.set(title=name)
    axes[0, 0].set_yticks(range(len(rows)), [f"{number} {_truncate(names.get(number, ''))}".strip() for number in rows])
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    for line, name in zip(axes[0, 0].lines, ("published", "ours"), strict=True):
        line.set_label(name)
    bottom_legend(figure, axes[0], labels=0.3)
    return figure


LABEL_INCHES = 2.1  # room for the names of rows
MAX_NAME = 28  # characters of a row's name


def _truncate(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1].rstrip()}…"


def _plain_axis(axis: "Axes", values: np.ndarray) -> None:
    """Label an axis with few plain numbers, never with an offset or a power beside it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    axis.margins(x=0.12)
    if wants_log(values):
        log_scale(axis, "x")
        axis.xaxis.set_major_locator(
            LogLocator(subs=(1.0, 3.0) if values.max() / values.min() < 1e3 else (1.0,), numticks=5)
        )
    else:
        low, high = axis.get_xlim()
        least = 1e-3 * max(abs(low), abs(high))  # four digits tell the ticks apart
        if high - low < least:
            axis.set_xlim((low + high - least) / 2, (low + high + least) / 2)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
