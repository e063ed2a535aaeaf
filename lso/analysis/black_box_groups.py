"""Black-box searches by one optimizer that differ in their seeds: the numbers of such a group, also as JSON."""

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
from lso.analysis.summary import to_json_value
from lso.analysis.surrogate_calibration import LEVELS, Calibration, all_equal, coverage, pool
from lso.analysis.verdict import ModelEvidence
from lso.objectives.latent_objective import LatentObjective
from lso.vae.metrics.verdict import NOT_JUDGED, Verdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BestObject:
    """One of the best distinct objects of all searches.

    Args:
        rank: from 1 on.
        group: the group that found it first.
        seed: of the search that did.
        call: number of the call.
        value: its value, never negated.
        typical: whether the code is typical of the prior.
        percentile: of the code's norm, over the dimensions that typicality counts.
        reencoding: re-encoding error, None where not known.
        z: the code.
        text: the object, where it is a text.
        times: number of searches that found it.
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
        objective: of the first search.
        traces: one trace for each search.
        bands: best so far over calls, objects scored and seconds.
        calibrations: of a surrogate fitted to each of the first two searches.
        dimensions: how the decoder reacts to each dimension; ``moved`` is the mean distance of the best codes from the
            prior's mean.
        spread: ``(d,)`` standard deviation of the proposals after the initial design, 1 of prior draws.
        evidence: what the verdict's rules on decoder, model and target judge.
        agreement: comparison of the searches' best codes and objects; None of one search, or of several decoders.
        distinct_best: number of different objects among the searches' bests.
        prior_reencoding: median re-encoding error of prior draws; None without an encoder.
        best_reencoding: median re-encoding error of the searches' bests; None where not known.
        best_possible: the best attainable value, None where not known.
        verdict: whether the searches can be believed.
    """

    name: str
    objective: LatentObjective
    traces: list[SearchTrace]
    bands: dict[str, Band]
    calibrations: list[Calibration]
    dimensions: Dimensions
    spread: Float[Tensor, " latent"]
    evidence: ModelEvidence
    agreement: Sensitivity | None
    distinct_best: int
    prior_reencoding: float | None
    best_reencoding: float | None
    best_possible: float | None
    verdict: Verdict = NOT_JUDGED

    @property
    def mutual_information(self) -> float | None:
        """Of data and codes, nats; None without codes."""
        return None if self.evidence.use is None else self.evidence.use.mutual_information

    @property
    def best(self) -> float:
        """The best value of all searches; NaN where nothing was valid."""
        return self._best([trace.best for trace in self.traces])

    @property
    def best_typical(self) -> float:
        """The best value at a typical code of all searches."""
        return self._best([trace.best_typical for trace in self.traces])

    def _best(self, values: Sequence[float]) -> float:
        good = [value for value in values if value == value]
        return (max if self.objective.maximize else min)(good, default=float("nan"))

    def median(self, field: str) -> float:
        """Median over the searches of a field of their traces."""
        return float(
            finite_median(torch.tensor([float(getattr(trace, field)) for trace in self.traces], dtype=torch.float64))
        )

    def total(self, counter: str) -> int:
        """Sum over the searches of a counter."""
        return sum(int(trace.counters.get(counter, 0)) for trace in self.traces)

    def joined(self, field: str) -> Tensor:
        """A per-call field of the traces, one search after the other."""
        return torch.cat([getattr(trace, field) for trace in self.traces])

    @property
    def flat(self) -> bool:
        """Whether the surrogates of most searches predict no better than the mean; false without surrogates."""
        return 2 * sum(fit.flat for fit in self.calibrations) > len(self.calibrations)

    @cached_property
    def pooled(self) -> Calibration | None:
        """The leave-one-out predictions of all fitted surrogates together; None without surrogates."""
        return pool(self.calibrations)

    @property
    def lengthscale(self) -> Float[Tensor, " latent"] | None:
        """``(d,)`` geometric mean of the surrogates' lengthscales in latent units; NaN for dimensions not searched."""
        if self.pooled is None:
            return None
        scales = self.pooled.lengthscales
        return torch.where(torch.isfinite(scales), scales, torch.nan)


def group_json(group: Group) -> dict[str, Any]:
    """A group as strict JSON, with all that `lso doctor` needs once the model is gone."""
    dims, pooled = group.dimensions, group.pooled
    return {
        "name": group.name,
        "verdict": to_json_value(group.verdict),
        "best": to_json_value(group.best),
        "best_typical": to_json_value(group.best_typical),
        "searches": [
            to_json_value(trace)
            | {"in_design": trace.in_design, "unsearched": trace.unsearched, "behind": trace.behind}
            for trace in group.traces
        ],
        "best_so_far": to_json_value(group.bands),
        "surrogate": None if pooled is None else surrogate_json(pooled) | {"flat": group.flat},
        "dimensions": to_json_value(dims)
        | {
            "status": [dims.status(i) for i in range(len(dims.sensitivity))],
            "dead": dims.dead,
            "weak": dims.weak,
            "active": int(dims.active.sum()),
            "active_units": dims.active_units,
            "mutual_information": to_json_value(group.mutual_information),
            "lengthscale": to_json_value(group.lengthscale),
            "spread": to_json_value(group.spread),
        },
        "agreement": to_json_value(group.agreement),
        "distinct_best": group.distinct_best,
        "reencoding": {
            "prior_draws": to_json_value(group.prior_reencoding),
            "best": to_json_value(group.best_reencoding),
        },
    }


def surrogate_json(found: Calibration) -> dict[str, Any]:
    """A calibration as strict JSON."""
    within = {f"{level:g}": to_json_value(coverage(found, level)) for level in LEVELS}
    numbers: dict[str, Any] = {
        **to_json_value(found),
        "coverage": within,
        "points": len(found.observed),
        "equal": all_equal(found),
    }
    return numbers
