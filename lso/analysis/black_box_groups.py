"""Black-box searches that differ in their initial designs alone: the numbers of a group, and the best objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.analysis.black_box_traces import Band, SearchTrace
from lso.analysis.convergence import finite_median
from lso.analysis.latent_dimensions import Dimensions
from lso.analysis.start_sensitivity import Sensitivity
from lso.analysis.summary import plain
from lso.analysis.surrogate_calibration import LEVELS, Calibration, coverage, equal, pool
from lso.analysis.verdict import Verdict
from lso.objectives.latent_objective import LatentObjective


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """One of the best distinct objects.

    Args:
        rank: from 1 on.
        group: that found it first.
        seed: of the search.
        call: number of the call.
        value: the user's own.
        typical: whether the code is typical of the prior.
        percentile: of the norm, over the dimensions that typicality counts.
        reencoding: error, None where not known.
        z: the code.
        text: the object, where it is a text.
        times: searches that found it.
    """

    rank: int
    group: str
    seed: int
    call: int
    value: float
    typical: bool
    percentile: float
    reencoding: float | None
    z: list[float]
    text: str | None
    times: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Searches by one optimizer that differ in their seeds.

    Args:
        name: of the group.
        objective: of the first of them.
        courses: one a search.
        bands: best so far over calls, objects scored and seconds.
        calibrations: of a surrogate fitted to each of the first two searches.
        dimensions: activity; ``moved`` is the mean distance of the best codes from the prior's mean.
        spread: ``(d,)`` standard deviation of the proposals after the initial design, 1 of prior draws.
        mutual_information: of data and codes, nats; None without codes.
        agreement: the searches' best codes and objects compared; None of one search, or of several decoders.
        distinct_best: different objects among the searches' bests.
        prior_reencoding: median re-encoding error of prior draws; None without an encoder.
        best_reencoding: median of the searches' bests; None where not known.
        best_possible: the best attainable value, None where not known.
        verdict: whether to believe it.
    """

    name: str
    objective: LatentObjective
    courses: list[SearchTrace]
    bands: dict[str, Band]
    calibrations: list[Calibration]
    dimensions: Dimensions
    spread: Float[Tensor, " latent"]
    mutual_information: float | None
    agreement: Sensitivity | None
    distinct_best: int
    prior_reencoding: float | None
    best_reencoding: float | None
    best_possible: float | None
    verdict: Verdict

    @property
    def best(self) -> float:
        """The best value of all searches; NaN where nothing was valid."""
        return self._best([one.best for one in self.courses])

    @property
    def best_typical(self) -> float:
        """The best value at a typical code of all searches."""
        return self._best([one.best_typical for one in self.courses])

    def _best(self, values: Sequence[float]) -> float:
        good = [value for value in values if value == value]
        return (max if self.objective.maximize else min)(good, default=float("nan"))

    def median(self, field: str) -> float:
        """Median over the searches."""
        return float(
            finite_median(torch.tensor([float(getattr(one, field)) for one in self.courses], dtype=torch.float64))
        )

    def total(self, counter: str) -> int:
        """Sum over the searches."""
        return sum(int(one.counters.get(counter, 0)) for one in self.courses)

    def joined(self, field: str) -> Tensor:
        """A number of each call, one search after the other."""
        return torch.cat([getattr(one, field) for one in self.courses])

    @property
    def flat(self) -> bool:
        """Whether the surrogates of most searches predict no better than the mean; false without any."""
        return 2 * sum(one.flat for one in self.calibrations) > len(self.calibrations)

    @cached_property
    def pooled(self) -> Calibration | None:
        """The leave-one-out predictions of all fitted surrogates together; None without any."""
        return pool(self.calibrations)

    @property
    def lengthscale(self) -> Float[Tensor, " latent"] | None:
        """``(d,)`` of the surrogates, geometric mean, in the unit of the code, NaN off the chart; None without any."""
        if self.pooled is None:
            return None
        scales = self.pooled.lengthscales
        return torch.where(torch.isfinite(scales), scales, torch.nan)


def group_json(group: Group) -> dict[str, Any]:
    """A group as strict JSON: all that the doctor needs where the model is gone."""
    dims, pooled = group.dimensions, group.pooled
    return {
        "name": group.name,
        "verdict": plain(group.verdict),
        "best": plain(group.best),
        "best_typical": plain(group.best_typical),
        "searches": [
            plain(one) | {"in_design": one.in_design, "unsearched": one.unsearched, "behind": one.behind}
            for one in group.courses
        ],
        "best_so_far": plain(group.bands),
        "surrogate": None if pooled is None else surrogate_json(pooled) | {"flat": group.flat},
        "dimensions": plain(dims)
        | {
            "status": [dims.status(i) for i in range(len(dims.sensitivity))],
            "dead": dims.dead,
            "weak": dims.weak,
            "active": int(dims.active.sum()),
            "active_units": dims.active_units,
            "mutual_information": plain(group.mutual_information),
            "lengthscale": plain(group.lengthscale),
            "spread": plain(group.spread),
        },
        "agreement": plain(group.agreement),
        "distinct_best": group.distinct_best,
        "reencoding": {"prior_draws": plain(group.prior_reencoding), "best": plain(group.best_reencoding)},
    }


def surrogate_json(found: Calibration) -> dict[str, Any]:
    """A calibration as strict JSON."""
    within = {f"{level:g}": plain(coverage(found, level)) for level in LEVELS}
    numbers: dict[str, Any] = {**plain(found), "coverage": within, "points": len(found.observed), "equal": equal(found)}
    return numbers
