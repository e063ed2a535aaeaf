"""Charts over many trainings: a sweep's active units and likelihood, and our numbers against published ones."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lso.figures import COLOURS, DARK, bottom_legend, canvas, look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def sweep(points: Sequence[Mapping[str, Any]]) -> "Figure":
    """Active units against latent size, and NLL against active units with one point a run (He et al. 2019, Figure 4).

    Args:
        points: method, latent_dim, and for runs that were measured active_units, neg_elbo and iw_nll or None.
    Returns:
        Two panels; the NLL is importance-weighted where all runs have it, else -ELBO.
    """
    done = [point for point in points if point.get("neg_elbo") is not None]
    methods = list(dict.fromkeys(point["method"] for point in points))
    key = "iw_nll" if all(point.get("iw_nll") is not None for point in done) else "neg_elbo"
    figure, axes = canvas(1, 2, 3.6)
    for index, method in enumerate(methods):
        mine = [point for point in done if point["method"] == method]
        _against_size(axes[0, 0], mine, index, method)
        units = [point["active_units"] + 0.06 * (index - (len(methods) - 1) / 2) for point in mine]
        axes[0, 1].plot(units, [point[key] for point in mine], linestyle="", alpha=0.8, label=method, **look(index))
    sizes = sorted({point["latent_dim"] for point in done if point["latent_dim"]})
    if sizes:
        axes[0, 0].plot(sizes, sizes, linestyle="--", linewidth=1, color=DARK, label="all active")
        axes[0, 0].set_xscale("log", base=2)
        axes[0, 0].set_xticks(sizes, [str(size) for size in sizes])
        axes[0, 0].minorticks_off()
    axes[0, 0].set(title="Active units", xlabel="latent size", ylabel="active units", ylim=(0, None))
    name = "NLL, importance-weighted" if key == "iw_nll" else "-ELBO"
    axes[0, 1].set(title="Likelihood, one point a run", xlabel="active units", ylabel=f"{name} (nats)")
    bottom_legend(figure, axes[0])
    return figure


def _against_size(axis: "Axes", points: Sequence[Mapping[str, Any]], index: int, method: str) -> None:
    sizes = sorted({point["latent_dim"] for point in points if point["latent_dim"]})
    values = [[point["active_units"] for point in points if point["latent_dim"] == size] for size in sizes]
    means = [statistics.fmean(value) for value in values]
    errors = [statistics.stdev(value) if len(value) > 1 else 0.0 for value in values]
    if sizes:
        axis.errorbar(sizes, means, yerr=errors, capsize=3, linewidth=1.5, markersize=5, label=method, **look(index))


@styled
def beside_published(columns: Mapping[str, Sequence[tuple[int, float, float]]]) -> "Figure":
    """Our numbers against published ones, one panel a column, one number a row; on the dashed line they agree.

    Args:
        columns: heading -> (number of the row, published, ours); at least one column, each with an entry.
    Returns:
        As many panels as columns, side by side.
    """
    figure, axes = canvas(1, len(columns), 2.6, left=0.55)
    for axis, (name, entries) in zip(axes[0], columns.items(), strict=True):
        _, published, ours = zip(*entries, strict=True)
        axis.plot(published, ours, linestyle="", marker="o", markersize=12, color=COLOURS[5], alpha=0.45)
        for number, x, y in entries:
            axis.text(x, y, str(number), ha="center", va="center", fontsize=7)
        axis.margins(0.12)
        axis.set(title=name, xlabel="published", xlim=axis.get_xlim(), ylim=axis.get_ylim())
        axis.axline((published[0], published[0]), slope=1, linestyle="--", linewidth=1, color=DARK)
    axes[0, 0].set_ylabel("ours")
    return figure
