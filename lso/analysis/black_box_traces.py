"""One black-box search over its calls: how its best value rose, which codes it proposed, how far it still stepped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso.analysis.convergence import finite_median
from lso.black_box.budget import call_category
from lso.black_box.result import SearchResult
from lso.optimizers import BlackBoxSpec, black_box_spec
from lso.results.result import Evaluation

# How far a search still stepped is measured on the last tenth of its calls, at least five.
LAST_SHARE = 0.1
LAST_CALLS = 5
DRAWS_APART = 2**0.5  # root mean square difference, per dimension, of two prior draws


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchTrace:
    """One black-box search of n calls; values are never negated.

    Args:
        name: of its group and seed.
        optimizer: name of the optimizer.
        seed: of its initial design and draws.
        status: how it ended.
        sentence: the same in words.
        best: value of the best call; NaN where nothing was valid.
        best_typical: value of the best call at a typical code; NaN where there is none.
        best_call: number of the best call, -1 without any.
        atypical_best: whether the best code is atypical.
        known_best: best value among the data known before the search; NaN without any.
        beats_known: whether the best call is better than that.
        design: distinct valid objects of the initial design, less the number of data known before.
        design_best: best value among the initial design and the data known before.
        counters: numbers of calls by what they came to.
        ask_seconds: time spent on proposing.
        score_seconds: time spent on scoring, summed over calls.
        step: see `last_step`.
        typical_share: share of proposals that are typical.
        at_bound: share of the proposals' coordinates at a bound.
        failure: message of the first call that failed.
        value: ``(n,)`` value of each call.
        best_so_far: ``(n,)`` best value up to each call.
        unique: ``(n,)`` distinct valid objects scored up to each call.
        elapsed: ``(n,)`` seconds.
        fresh: ``(n,)`` whether the call scored a new valid object.
        typical: ``(n,)`` whether the code is typical of the prior.
        percentile: ``(n,)`` norm percentile over the dimensions that typicality counts.
        norm: ``(n,)`` norm over the same dimensions.
        reencoding: ``(n,)`` re-encoding error, NaN where not known.
    """

    name: str
    optimizer: str
    seed: int
    status: str
    sentence: str
    best: float
    best_typical: float
    best_call: int
    atypical_best: bool
    known_best: float
    beats_known: bool
    design: int
    design_best: float
    counters: dict[str, Any]
    ask_seconds: float
    score_seconds: float
    step: float
    typical_share: float
    at_bound: float
    failure: str
    value: Float[Tensor, " n"]
    best_so_far: Float[Tensor, " n"]
    unique: Int[Tensor, " n"]
    elapsed: Float[Tensor, " n"]
    fresh: Bool[Tensor, " n"]
    typical: Bool[Tensor, " n"]
    percentile: Float[Tensor, " n"]
    norm: Float[Tensor, " n"]
    reencoding: Float[Tensor, " n"]

    @property
    def spec(self) -> BlackBoxSpec:
        """The row of its optimizer."""
        return black_box_spec(self.optimizer)

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len(self.value)

    @property
    def seconds(self) -> float:
        """Time from start to end, over all sessions of a search that was resumed."""
        return float(self.counters.get("seconds", float("nan")))

    @property
    def in_design(self) -> bool:
        """Whether the search went on after its initial design and yet found nothing better."""
        return int(self.fresh.sum()) > self.design and self.best == self.design_best

    @property
    def unsearched(self) -> bool:
        """Whether the search ended within its initial design, so that all its proposals were random draws."""
        return not self.spec.control and int(self.fresh.sum()) <= self.design and self.design > 0

    @property
    def behind(self) -> bool:
        """Whether the search found nothing better than the data known before."""
        return self.known_best == self.known_best and not self.beats_known


def trace_search(result: SearchResult, name: str = "") -> SearchTrace:
    """Collect the numbers of one search."""
    records, space, best = result.records, result.objective.space, result.best
    fresh = torch.tensor([call_category(record) == "unique" for record in records], dtype=torch.bool)
    typical, value = space.typical(result.z), result.value
    design = design_size(result.optimizer, result.settings, space.unit_dim, len(result.known))
    sign = result.objective.sign
    known = _best(result.known_value, result.objective.maximize)
    first = fresh & (fresh.cumsum(0) <= design)
    return SearchTrace(
        name=name or result.optimizer,
        optimizer=result.optimizer,
        seed=int(result.settings.get("seed", 0)),
        status=result.status,
        sentence=result.sentence,
        best=result.best_value,
        best_typical=float("nan") if result.best_typical is None else result.best_typical.value,
        best_call=-1 if best is None or best.call is None else best.call,
        atypical_best=best is not None and bool(best.z) and not bool(space.typical(result.best_z)),
        known_best=known,
        beats_known=sign * result.best_value < sign * known,
        design=design,
        design_best=_best(torch.cat([value[first], result.known_value]), result.objective.maximize),
        counters=dict(result.counters),
        ask_seconds=float(sum(result.ask_seconds)),
        score_seconds=sum(record.seconds for record in records if record.duplicate_of is None),
        step=last_step(result.z, sign * value),
        typical_share=float(typical.double().mean()) if len(typical) else float("nan"),
        at_bound=float(space.at_bound(result.z).double().mean()) if len(typical) else float("nan"),
        failure=first_failure(records),
        value=value,
        best_so_far=result.best_so_far(unique=False),
        unique=fresh.cumsum(0),
        elapsed=torch.tensor([record.elapsed for record in records], dtype=torch.float64),
        fresh=fresh,
        typical=typical,
        percentile=space.norm_percentile(result.z, active=True),
        norm=result.z[:, space.active].norm(dim=1),
        reencoding=_with_nan([record.reencoding_error for record in records]),
    )


def design_size(optimizer: str, settings: Mapping[str, Any], dim: int, known: int = 0) -> int:
    """Number of objects that a search draws at random before it learns from values.

    It is what the options or the optimizer say, less the data known before: they take the place of a design.
    """
    stated = str(settings.get("options", {}).get("initial", ""))
    size = int(stated) if stated.isdecimal() else black_box_spec(optimizer).design_size(dim)
    return max(0, size - known)


def last_step(z: Float[Tensor, "n latent"], loss: Float[Tensor, " n"]) -> float:
    """Median distance of the last tenth of the proposals from the best code found before each.

    The distance is the root mean square over dimensions, relative to that of two prior draws: 1 for independent draws,
    0 where the search stands still; NaN where nothing was valid before.

    Args:
        z: ``(n, d)`` proposals in their order.
        loss: ``(n,)`` smaller is better; NaN where there is no value.
    """
    loss = torch.where(torch.isfinite(loss), loss, torch.inf)
    start = min(len(z) - LAST_CALLS, int((1 - LAST_SHARE) * len(z)))
    steps = []
    for call in range(max(1, start), len(z)):
        before = loss[:call]
        if bool(torch.isfinite(before).any()):
            steps.append(float((z[call] - z[int(before.argmin())]).square().mean().sqrt()) / DRAWS_APART)
    return float(finite_median(torch.tensor(steps, dtype=torch.float64)))


def _best(value: Tensor, maximize: bool) -> float:
    good = value[torch.isfinite(value)]
    return float("nan") if not len(good) else float(good.max() if maximize else good.min())


def _with_nan(values: Sequence[float | None]) -> Tensor:
    """Numbers as a tensor, with NaN for None."""
    return torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Median and band over searches of the best value so far.

    Args:
        x: ``(k,)`` calls, objects scored, or seconds.
        median: ``(k,)`` median over the searches.
        low: ``(k,)`` lower quartile, or the least value of fewer than five searches.
        high: ``(k,)`` upper quartile, or the greatest value.
    """

    x: Float[Tensor, " k"]
    median: Float[Tensor, " k"]
    low: Float[Tensor, " k"]
    high: Float[Tensor, " k"]


MIN_SEARCHES_FOR_QUARTILES = 5  # with fewer, a band spans all searches
MAX_BAND_POINTS = 200  # abscissae of a band


def band(traces: Sequence[SearchTrace], over: str) -> Band:
    """Median and band of the best value so far over calls, distinct objects (``unique``) or seconds.

    A search that ended early keeps its best. There is no median before each search that has values has its first; a
    search without any is left out.
    """
    axes = [progress_axis(trace, over) for trace in traces]
    longest = max((float(axis[-1]) for axis in axes if len(axis)), default=1.0)
    count = MAX_BAND_POINTS if over == "seconds" else min(MAX_BAND_POINTS, max(1, round(longest)))
    x = torch.linspace(0.0 if over == "seconds" else 1.0, longest, count, dtype=torch.float64)
    x = x if over == "seconds" else x.round()
    rows = torch.stack([_best_at(axis, one.best_so_far, x) for axis, one in zip(axes, traces, strict=True)])
    known = torch.isfinite(rows)
    rows = torch.where(known[known.any(1)].all(0), rows, torch.nan)  # a median over ever more searches could get worse
    share = torch.tensor([0.25, 0.75] if len(rows) >= MIN_SEARCHES_FOR_QUARTILES else [0.0, 1.0], dtype=torch.float64)
    low, high = torch.nanquantile(rows, share, dim=0)
    return Band(x=x, median=torch.nanquantile(rows, 0.5, dim=0), low=low, high=high)


def progress_axis(trace: SearchTrace, over: str) -> Float[Tensor, " n"]:
    """What the calls of a search are plotted against: calls, distinct objects or seconds."""
    if over == "seconds":
        return trace.elapsed.cummax(0).values if trace.calls else trace.elapsed
    return trace.unique.double() if over == "unique" else torch.arange(1.0, trace.calls + 1, dtype=torch.float64)


def _best_at(axis: Tensor, best: Tensor, x: Tensor) -> Tensor:
    """The best value at each abscissa: that of the last call at or before it."""
    if not len(axis):
        return torch.full_like(x, torch.nan)
    row = torch.searchsorted(axis.contiguous(), x, right=True) - 1
    return torch.where(row >= 0, best[row.clamp_min(0)], torch.nan)


def first_failure(records: Sequence[Evaluation]) -> str:
    """Message of the first call that failed or was lost; an invalid object is no failure of the score."""
    return next((record.reason for record in records if record.outcome in ("failed", "lost") and record.reason), "")
