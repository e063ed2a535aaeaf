"""Convergence of a gradient search: how far each element got, how fast, and why it stopped."""

import re
from collections import Counter
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso.results.result import Result

THRESHOLDS = (0.5, 0.9, 0.99, 0.999)  # shares of the gain from a target's median start to its best end
# An element is still moving if over MOVING_SHARE of its gain came in the last LAST_SHARE of its steps.
LAST_SHARE = 0.1
MOVING_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartKind:
    """What the starts of one kind (prior, mean, ...) reached; medians over targets and the kind's starts.

    Args:
        name: of the kind.
        starts: number of starts of this kind for each target.
        value0: value at the start.
        value: value at the end.
        steps: steps until the element stopped.
        gap: share of the target's gain that is still missing at the end, 0 for the best start of a target.
        wins: share of targets whose best end came from this kind.
    """

    name: str
    starts: int
    value0: float
    value: float
    steps: float
    gap: float
    wins: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convergence:
    """Convergence of a search. T targets, S starts, K thresholds; values are never negated.

    Args:
        value0: value at the median start.
        best: value of the best end.
        best_start: index of the start that found it.
        median: value of the median end.
        worst: value of the worst end.
        drop: gain from the median start to the best end, in the direction of the search.
        gap: share of the gain that is missing at each end.
        thresholds: shares of the gain.
        steps_to: steps until that share of the target's gain was reached, NaN where it never was.
        steps: steps of each element.
        stopped: reason -> number of elements.
        moving: elements that still gained when they stopped (see `still_moving`).
        failed: elements whose end is not finite.
        kinds: results by kind of start.
        trace_steps: steps at which values were recorded.
        trace: the values at these steps.
    """

    value0: Float[Tensor, " target"]
    best: Float[Tensor, " target"]
    best_start: Tensor
    median: Float[Tensor, " target"]
    worst: Float[Tensor, " target"]
    drop: Float[Tensor, " target"]
    gap: Float[Tensor, "target start"]
    thresholds: tuple[float, ...]
    steps_to: Float[Tensor, "threshold target start"]
    steps: Tensor
    stopped: dict[str, int]
    moving: Bool[Tensor, "target start"]
    failed: Bool[Tensor, "target start"]
    kinds: list[StartKind]
    trace_steps: Tensor
    trace: Float[Tensor, "trace target start"]


def finite_median(x: Tensor, dim: int | None = None) -> Tensor:
    """Median of the finite entries; NaN where there are none."""
    x = torch.where(torch.isfinite(x.double()), x.double(), torch.nan)
    x, dim = (x.flatten(), 0) if dim is None else (x, dim)
    if x.shape[dim] == 0:
        return torch.full(x.sum(dim).shape, torch.nan, dtype=torch.float64)
    return torch.nanquantile(x, 0.5, dim=dim)


def start_kinds(start_names: list[str]) -> dict[str, list[int]]:
    """Group the starts by kind: the kind is the name without its trailing number."""
    kinds: dict[str, list[int]] = {}
    for index, name in enumerate(start_names):
        kinds.setdefault(re.sub(r"[\s_#:.-]*\d+$", "", name) or name, []).append(index)
    return kinds


def cost_of(result: Result, value: Tensor) -> Tensor:
    """Values of a search as costs (lower is better), double precision on the CPU; infinite where not finite."""
    cost = value.detach().double().cpu() * (-1 if result.objective.maximize else 1)
    return torch.where(torch.isfinite(cost), cost, torch.inf)


def measure_convergence(result: Result) -> Convergence:
    """Measure how far and how fast each element of a search got, and why it stopped."""
    cost0, cost = cost_of(result, result.value0), cost_of(result, result.value)
    trace, sign = cost_of(result, result.trace.value), -1 if result.objective.maximize else 1
    best, best_start = cost.min(1)
    finite = torch.where(torch.isfinite(cost), cost, torch.nan)
    start = finite_median(cost0, 1)
    drop = (start - best).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp_min(0)
    gap = _share(cost - best[:, None], drop[:, None])
    steps = result.steps.cpu()
    own = cost0 - cost
    # An element that starts near its end, as at the encoder's mean, gains next to nothing itself: it is compared with
    # the median gain on its target where that is larger.
    usual = torch.maximum(own, finite_median(own.clamp_min(0), 1)[:, None])
    reasons = Counter(reason for row in result.stopped for reason in row)
    return Convergence(
        value0=sign * start,
        best=sign * best,
        best_start=best_start,
        median=sign * finite_median(cost, 1),
        worst=sign * finite.nan_to_num(nan=-torch.inf).max(1).values,
        drop=drop,
        gap=gap,
        thresholds=THRESHOLDS,
        steps_to=steps_to(result.trace.steps.cpu(), trace, steps, best, drop),
        steps=steps,
        stopped=dict(sorted(reasons.items())),
        moving=still_moving(result.trace.steps.cpu(), trace, steps, usual, _stopped_by(result.stopped, "tolerance")),
        failed=~torch.isfinite(cost),
        kinds=[
            _summarize_kind(name, index, result, gap, best_start)
            for name, index in start_kinds(result.start_names).items()
        ],
        trace_steps=result.trace.steps.cpu(),
        trace=result.trace.value.detach().double().cpu(),
    )


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, where a whole of 0 leaves 0 for no part and 1 for any; NaN where the part is not finite."""
    share = torch.where(whole > 0, part / whole.clamp_min(1e-300), (part > 0).double())
    return torch.where(torch.isfinite(part), share, torch.nan)


def steps_to(
    trace_steps: Tensor,
    trace: Float[Tensor, "trace target start"],
    steps: Tensor,
    best: Float[Tensor, " target"],
    drop: Float[Tensor, " target"],
) -> Float[Tensor, "threshold target start"]:
    """Steps until each share of the target's gain was reached, to the resolution of the trace."""
    rows = []
    for share in THRESHOLDS:
        level = best + (1 - share) * drop
        reached = trace <= (level + 1e-12 * level.abs())[None, :, None]
        first = trace_steps[reached.int().argmax(0)].double()
        rows.append(torch.where(reached.any(0), torch.minimum(first, steps.double()), torch.nan))
    return torch.stack(rows)


def _stopped_by(stopped: list[list[str]], reason: str) -> Bool[Tensor, "target start"]:
    """Which elements stopped for this reason."""
    return torch.tensor([[found == reason for found in row] for row in stopped])


def still_moving(
    trace_steps: Tensor,
    trace: Float[Tensor, "trace target start"],
    steps: Tensor,
    gain: Float[Tensor, "target start"],
    rested: Bool[Tensor, "target start"],
) -> Bool[Tensor, "target start"]:
    """Whether over `MOVING_SHARE` of a gain came in the last tenth of an element's steps (at least one trace interval).

    Where a single trace interval is more than half of an element's way, as when L-BFGS arrives within a few iterations,
    the trace cannot tell, and why the element stopped does.

    Args:
        trace_steps: ``(k,)``, increasing.
        trace: ``(k, T, S)`` costs.
        steps: ``(T, S)`` steps of each element.
        gain: ``(T, S)`` the gain with which the last tenth is compared, as a reduction of cost.
        rested: ``(T, S)`` whether the element stopped by the tolerance.
    Returns:
        ``(T, S)``; false where nothing was gained or the end is not finite.
    """
    if len(trace_steps) < 2:
        return torch.zeros_like(gain, dtype=torch.bool)
    end = torch.searchsorted(trace_steps, steps.contiguous()).clamp_max(len(trace_steps) - 1)
    earlier = torch.searchsorted(trace_steps, ((1 - LAST_SHARE) * steps).long(), right=True) - 1
    earlier = torch.minimum(earlier, end - 1).clamp_min(0)
    late = trace.gather(0, earlier[None])[0] - trace.gather(0, end[None])[0]
    good = torch.isfinite(gain) & torch.isfinite(late) & (gain > 0)
    coarse = 2 * trace_steps[earlier] < steps
    return good & (late > MOVING_SHARE * gain) & ~(coarse & rested)


def _summarize_kind(name: str, index: list[int], result: Result, gap: Tensor, best_start: Tensor) -> StartKind:
    def over(x: Tensor) -> float:
        return float(finite_median(x.detach().cpu()[:, index]))

    wins = torch.isin(best_start, torch.tensor(index)).double().mean()
    return StartKind(
        name=name,
        starts=len(index),
        value0=over(result.value0),
        value=over(result.value),
        steps=over(result.steps),
        gap=over(gap),
        wins=float(wins),
    )
