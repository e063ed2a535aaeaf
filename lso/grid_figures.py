"""Charts over many trainings: a sweep's active units and likelihood, and our numbers against published ones."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.figures import COLOURS, DARK, WIDTH, bottom_legend, canvas, log_scale, look, styled, wants_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def sweep(points: Sequence[Mapping[str, Any]]) -> "Figure":
    """Active units against latent size, and NLL against active units with one point a run (He et al. 2019, Figure 4).

    Methods are set a little beside one another, so that equal ones do not hide each other. A run without latents has
    no active units: it is a level in the second panel.

    Args:
        points: method, latent_dim, and for runs that were measured active_units, neg_elbo and iw_nll or None.
    Returns:
        Two panels; the NLL is importance-weighted where all runs have it, else -ELBO.
    """
    from matplotlib.ticker import MaxNLocator

    done = [point for point in points if point.get("neg_elbo") is not None]
    methods = list(dict.fromkeys(point["method"] for point in points))
    key = "iw_nll" if all(point.get("iw_nll") is not None for point in done) else "neg_elbo"
    most = max((point["active_units"] or 0 for point in done), default=0)
    figure, axes = canvas(1, 2, 3.6)
    for index, method in enumerate(methods):
        mine, place = [point for point in done if point["method"] == method], index - (len(methods) - 1) / 2
        _against_size(axes[0, 0], mine, index, method, 2 ** (0.05 * place))
        coded = [point for point in mine if point["latent_dim"]]
        units = [point["active_units"] + max(0.06, 0.015 * most) * place for point in coded]
        if coded:
            axes[0, 1].plot(
                units, [point[key] for point in coded], linestyle="", alpha=0.8, label=method, **look(index)
            )
        for number, point in enumerate(point for point in mine if not point["latent_dim"]):
            name = f"{method}, no latents" if not number else ""
            axes[0, 1].axhline(point[key], linestyle=":", linewidth=1.5, color=look(index)["color"], label=name)
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
    name = "NLL, importance-weighted" if key == "iw_nll" else "-ELBO"
    axes[0, 1].set(title="Likelihood, one point a run", xlabel="active units", ylabel=f"{name} (nats)")
    left, right = axes[0, 1].get_xlim()
    axes[0, 1].set_xlim(min(left, -0.5) if left < 0.5 else left, max(right, 0.5))
    for line in (axes[0, 0].yaxis, axes[0, 1].xaxis):
        line.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    bottom_legend(figure, axes[0])
    return figure


def _against_size(axis: "Axes", points: Sequence[Mapping[str, Any]], index: int, method: str, beside: float) -> None:
    sizes = sorted({point["latent_dim"] for point in points if point["latent_dim"]})
    values = [[point["active_units"] for point in points if point["latent_dim"] == size] for size in sizes]
    means = [statistics.fmean(value) for value in values]
    errors = [statistics.stdev(value) if len(value) > 1 else 0.0 for value in values]
    if sizes:
        places = [size * beside for size in sizes]
        axis.errorbar(places, means, yerr=errors, capsize=3, linewidth=1.5, markersize=5, label=method, **look(index))


@styled
def beside_published(columns: Mapping[str, Sequence[tuple[int, float, float]]], names: Mapping[int, str]) -> "Figure":
    """Our numbers and published ones, one panel a column, one line a row of the table.

    Args:
        columns: heading -> (number of the row, published, ours); at least one column, each with an entry.
        names: of the rows, by number.
    Returns:
        As many panels as columns, side by side; logarithmic where the numbers span much.
    """
    rows = sorted({number for entries in columns.values() for number, _, _ in entries})
    places = {number: place for place, number in enumerate(rows)}
    figure, axes = canvas(1, len(columns), 1.2 + 0.21 * len(rows), left=0.3, sharey=True)
    figure.subplots_adjust(left=LABELS / WIDTH)
    for axis, (name, entries) in zip(axes[0], columns.items(), strict=True):
        numbers, published, ours = zip(*entries, strict=True)
        lines = [places[number] for number in numbers]
        axis.hlines(lines, published, ours, color=DARK, linewidth=0.8, alpha=0.6)
        axis.plot(published, lines, linestyle="", marker="o", markersize=6, markerfacecolor="white", color=DARK)
        axis.plot(ours, lines, linestyle="", marker="D", markersize=4.5, color=COLOURS[1])
        _plain_axis(axis, np.array([*published, *ours], dtype=float))
        axis.set(title=name)
    axes[0, 0].set_yticks(range(len(rows)), [f"{number} {_cut(names.get(number, ''))}".strip() for number in rows])
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    for line, name in zip(axes[0, 0].lines, ("published", "ours"), strict=True):
        line.set_label(name)
    bottom_legend(figure, axes[0], labels=0.3)
    return figure


LABELS = 2.1  # inches for the names of rows
LONGEST = 28  # characters of a name


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"


def _plain_axis(axis: "Axes", values: np.ndarray) -> None:
    """Plain numbers, never as an offset or a power beside the axis, with room for few."""
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
