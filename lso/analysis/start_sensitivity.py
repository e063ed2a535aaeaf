"""Sensitivity to initialization: do different starts find the same code, the same decoded datum, the same value?

Distances between codes are split into active and other dimensions: under Adam a dimension that the decoder all but
ignores still moves by about the learning rate a step, so that dead dimensions would dominate the total (two
independent prior draws are 2 apart, in squared distance, for each dimension).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso.analysis.convergence import finite_median
from lso.analysis.latent_dimensions import Dimensions, evenly_spaced

BASIN_LINK = 0.1  # linking distance of a basin, as a share of the distance between two decoded prior draws
MAX_STARTS = 64  # starts of which pairs are formed; their number grows with the square


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairDistances:
    """Medians over a set of pairs of starts of one target; squared distances are sums over dimensions.

    Args:
        name: which pairs: all, those in the same basin, or in different basins.
        pairs: number of pairs.
        total: squared distance between the codes.
        active: its part over active dimensions.
        other: its part over weak and dead dimensions.
        decoded: distance between the decoded results; of arrays the root mean square difference per value.
    """

    name: str
    pairs: int
    total: float
    active: float
    other: float
    decoded: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity:
    """How far the results of a target's starts lie apart. T targets, P pairs of starts.

    Args:
        optimizer: name of the optimizer.
        starts: number of starts compared for each target.
        pairs: distances over all pairs, over pairs in one basin, over pairs in different basins.
        baseline_active: squared distance of two independent prior draws over active dimensions: 2 for each.
        baseline_other: the same over weak and dead dimensions.
        per_dimension: mean squared distance over all pairs.
        basins: number of basins of each target.
        tolerance: distance up to which decoded results are linked into one basin.
        spread: worst minus best final value of each target.
        relative_spread: the same as a share of the target's gain.
        active: ``(T, P)`` squared distance over active dimensions of every pair.
        decoded: ``(T, P)`` decoded distance of every pair.
        same: ``(T, P)`` whether the pair lies in one basin.
        value: median over targets and starts of the final value.
        best: median over targets of the best final value.
        unit: of distances between decoded results, in words.
    """

    optimizer: str
    starts: int
    pairs: list[PairDistances]
    baseline_active: float
    baseline_other: float
    per_dimension: Float[Tensor, " latent"]
    basins: Tensor
    tolerance: float
    spread: Float[Tensor, " target"]
    relative_spread: Float[Tensor, " target"]
    active: Float[Tensor, "target pair"]
    decoded: Float[Tensor, "target pair"]
    same: Bool[Tensor, "target pair"]
    value: float
    best: float
    unit: str = "RMS"


def pairwise(x: Float[Tensor, "target start value"]) -> Float[Tensor, "target start start"]:
    """Root mean square difference between the decoded results of a target's starts; infinite if one is not finite."""
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[-1] ** 0.5
    return torch.where(torch.isfinite(distance), distance, torch.inf)


def link_starts(distance: Float[Tensor, "target start start"], tolerance: float) -> Bool[Tensor, "target start start"]:
    """Single linkage: whether two starts are joined by a chain of steps no longer than the tolerance."""
    joined = (distance <= tolerance) | torch.eye(distance.shape[-1], dtype=torch.bool)
    for _ in range(max(1, distance.shape[-1].bit_length())):  # doubling the chain length each time
        joined = (joined.double() @ joined.double()) > 0
    return joined


def count_basins(joined: Bool[Tensor, "target start start"]) -> Tensor:
    """Number of groups of starts that `link_starts` joined, for each target."""
    earlier = torch.tril(joined, diagonal=-1).any(-1)
    return (~earlier).sum(-1)


def sensitivity(
    optimizer: str,
    z: Float[Tensor, "target start latent"],
    decoded: Float[Tensor, "target start value"],
    cost: Float[Tensor, "target start"],
    *,
    dimensions: Dimensions,
    drop: Float[Tensor, " target"],
    scale: float,
    maximize: bool = False,
    apart: Callable[[Tensor], Tensor] = pairwise,
    unit: str = "RMS",
) -> Sensitivity:
    """Compare the codes, decoded results and values at which a target's starts ended.

    Args:
        optimizer: name of the optimizer.
        z: ``(T, S, d)`` final codes.
        decoded: ``(T, S, values)`` decoded results, flattened.
        cost: ``(T, S)`` final values, lower is better.
        dimensions: says which dimensions are active.
        drop: ``(T,)`` gain from the median start to the best end.
        scale: distance between two decoded prior draws.
        maximize: whether costs are negated values.
        apart: distances between the decoded results of each target's starts (see `lso.analysis.reconstruction`).
        unit: of these distances, in words.
    Returns:
        `Sensitivity`; with one start its medians over pairs are NaN.
    """
    keep = evenly_spaced(torch.arange(z.shape[1]), MAX_STARTS)
    finite = torch.where(torch.isfinite(cost), cost, torch.nan)
    z, decoded = z[:, keep].detach().double().cpu(), decoded[:, keep].detach().double().cpu()
    first, second = torch.triu_indices(len(keep), len(keep), offset=1)
    squared = (z[:, first] - z[:, second]) ** 2  # (T, P, d)
    every = apart(decoded)
    joined = link_starts(every, BASIN_LINK * scale)
    distance, same = every[:, first, second], joined[:, first, second]
    active = dimensions.active
    parts = (squared.sum(-1), squared[..., active].sum(-1), squared[..., ~active].sum(-1), distance)
    spread = (finite.nan_to_num(nan=-torch.inf).max(1).values - finite.nan_to_num(nan=torch.inf).min(1).values).abs()
    sets = {"all pairs": torch.ones_like(same), "same basin": same, "different basins": ~same}
    mean = torch.where(torch.isfinite(squared), squared, torch.nan).flatten(0, 1).nanmean(0)
    sign = -1 if maximize else 1
    return Sensitivity(
        optimizer=optimizer,
        starts=len(keep),
        pairs=[_distances(name, m, parts) for name, m in sets.items()],
        baseline_active=2.0 * int(active.sum()),
        baseline_other=2.0 * int((~active).sum()),
        per_dimension=mean,
        basins=count_basins(joined),
        tolerance=BASIN_LINK * scale,
        spread=spread,
        relative_spread=torch.where(drop > 0, spread / drop.clamp_min(1e-300), (spread > 0).double()),
        active=parts[1],
        decoded=distance,
        same=same,
        value=sign * float(finite_median(finite)),
        best=sign * float(finite_median(finite.nan_to_num(nan=torch.inf).min(1).values)),
        unit=unit,
    )


def _distances(name: str, chosen: Tensor, parts: tuple[Tensor, ...]) -> PairDistances:
    total, active, other, decoded = (float(finite_median(part[chosen])) for part in parts)
    return PairDistances(name=name, pairs=int(chosen.sum()), total=total, active=active, other=other, decoded=decoded)
