"""Black-box searches side by side, from the reports that each wrote."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.figures import bottom_legend, canvas, log_scale, look, styled, wants_log
from lso.vae.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "Best so far: median over seeds, with the band of the seeds (all of fewer than five, else the middle half). "
    "Left: against the distinct valid objects scored, which the budget counts. Right: against seconds."
)
AXES = {"unique": "distinct valid objects scored", "seconds": "seconds"}


def are_black_box(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether these are reports of black-box searches.

    Args:
        found: run name -> content of report.json.
    Returns:
        Whether all are.
    Raises:
        UsageError: if some are and some are not, or they are of different objectives.
    """
    which = {name: "groups" in numbers for name, numbers in found.items()}
    if len(set(which.values())) > 1:
        names = [", ".join(name for name in which if which[name] == kind) for kind in (True, False)]
        raise UsageError(
            f"black-box searches ({names[0]}) and gradient searches ({names[1]}) cannot be compared",
            "Report on each kind alone.",
        )
    about = {(numbers["search"]["objective"], numbers["search"]["sense"]) for numbers in found.values() if which}
    if all(which.values()) and len(about) > 1:
        told = "; ".join(f"{name} ({sense}d)" for name, sense in sorted(about))
        raise UsageError(f"the searches have different objectives: {told}", "Compare searches for one objective.")
    return all(which.values())


def settings(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What one report says of how it was searched; of several seeds the first, which the others share.

    Args:
        numbers: content of report.json.
    Returns:
        Name -> value.
    """
    first: dict[str, Any] = next(iter(numbers["settings"].values()), {})
    shared = {key: value for key, value in first.items() if key != "seed"}
    seeds = [one["seed"] for one in numbers["groups"][0]["searches"]]
    about = {key: numbers["search"][key] for key in ("objective", "sense", "latent_dim", "chart", "best_possible")}
    return about | shared | {"seeds": seeds} | dict(numbers.get("extra", {}))


@styled
def best_so_far(found: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Median and band of each search's best so far, against objects scored and against seconds.

    Args:
        found: run name -> content of report.json.
    Returns:
        Two panels.
    """
    figure, axes = canvas(1, 2, 3.4)
    one = next(iter(found.values()))["search"]
    for axis, (over, label) in zip(axes[0], AXES.items(), strict=True):
        for number, (name, numbers) in enumerate(found.items()):
            _line(axis, numbers["groups"][0]["best_so_far"][over], name, number)
        axis.set(xlabel=label)
    longest = [numbers["groups"][0]["best_so_far"]["seconds"]["x"][-1] for numbers in found.values()]
    if wants_log(np.array(longest, dtype=float)):
        log_scale(axes[0, 1], "x")
    axes[0, 0].set(title="Best so far", ylabel=f"{one['objective']} ({one['sense']}d)")
    bottom_legend(figure, [axes[0, 0]], columns=3)
    return figure


def _line(axis: "Axes", band: Mapping[str, Any], name: str, number: int) -> None:
    x, median, low, high = (np.array(band[key], dtype=float) for key in ("x", "median", "low", "high"))  # null is NaN
    style: dict[str, Any] = {"where": "post", "linewidth": 1.8, "markevery": max(1, len(x) // 6), "markersize": 5}
    axis.step(x, median, label=name, **style, **look(number))
    axis.fill_between(x, low, high, step="post", color=look(number)["color"], alpha=0.15, linewidth=0)
