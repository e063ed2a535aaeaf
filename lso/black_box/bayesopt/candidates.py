"""Points of the initial design, and starts of the search for an acquisition's maximum."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from lso.black_box.ask_tell import History
from lso.space import LatentSpace

DESIGNS = ("prior", "sobol")
MAX_CENTERS = 5  # best points that are perturbed
# Standard deviations of perturbations are log-uniform between these, in units of the chart's cube. A perturbation moves
# about MEAN_MOVED coordinates: in 32 or more dimensions hardly any step in all coordinates at once is an improvement.
MIN_STEP, MAX_STEP = 1e-3, 0.2
MEAN_MOVED = 20


def draw_design(history: History, n: int, kind: str, generator: Generator) -> Float[Tensor, "n latent"]:
    """Draw n points ``(n, d)`` of the initial design, inside the bounds.

    ``prior`` draws from the prior, where the space has known codes every other point among these; ``sobol`` draws a
    Sobol sequence over the chart.
    """
    space = history.space
    if kind == "sobol":
        return restrict_to_chart(space, space.sample(n, "sobol", generator))
    z = space.sample(n, "prior", generator)
    if space.codes is not None and len(space.codes) > 1:
        turn = (len(history.z) + len(history.pending) + torch.arange(n)) % 2 == 0
        z = torch.where(turn.unsqueeze(1), space.sample(n, "codes", generator), z)
    return restrict_to_chart(space, z)


def restrict_to_chart(space: LatentSpace, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n latent"]:
    """Clip codes to the bounds, and set the dimensions that the chart leaves out to 0."""
    z = space.clip(z)
    return z * space.active if space.chart == "active" else z


def unit_bounds(space: LatentSpace) -> Float[Tensor, "2 k"]:
    """The bounds of the search in chart coordinates."""
    corners = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, space.unit_dim)
    return space.to_unit(space.clip(space.from_unit(corners)))


def draw_starts(history: History, n: int, generator: Generator, *, box: bool) -> Float[Tensor, "m k"]:
    """Draw n points in chart coordinates, from which the search for an acquisition's maximum starts.

    Half are perturbations of the best feasible points and of the best typical one, the other half draws from the prior
    and among known codes; with ``box`` also from the whole box, for a search that no guard keeps near the prior.
    """
    space = history.space
    kinds = ["prior", *(["codes"] if space.codes is not None and len(space.codes) > 1 else [])]
    kinds += ["sobol"] if box else []
    centers = _centers(history)
    local = n // 2 if len(centers) else 0
    parts = [
        space.sample(count, kind, generator)
        for kind, count in zip(kinds, _split_evenly(n - local, len(kinds)), strict=True)
    ]
    unit = space.to_unit(restrict_to_chart(space, torch.cat(parts)))
    if local:
        unit = torch.cat([unit, perturb(space.to_unit(history.z[centers]), local, generator)])
    bounds = unit_bounds(space)
    return torch.minimum(torch.maximum(unit, bounds[0]), bounds[1])


def perturb(centers: Float[Tensor, "c k"], n: int, generator: Generator) -> Float[Tensor, "n k"]:
    """Normal steps of many sizes from the centers, each in a random subset of the coordinates."""
    k = centers.shape[1]
    uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    size = MIN_STEP * (MAX_STEP / MIN_STEP) ** uniform
    moved = torch.rand(n, k, generator=generator, dtype=torch.float64) < min(1.0, MEAN_MOVED / k)
    moved[torch.arange(n), torch.randint(k, (n,), generator=generator)] = True
    step = torch.randn(n, k, generator=generator, dtype=torch.float64) * size * moved
    return centers[torch.arange(n) % len(centers)] + step


def _centers(history: History) -> Int[Tensor, " c"]:
    """Rows of the best typical point and of the best points."""
    feasible = history.feasible.nonzero().squeeze(1)
    order = feasible[torch.argsort(history.gain[feasible], descending=True, stable=True)][:MAX_CENTERS]
    typical = history.best(typical=True)
    return order if typical is None else torch.cat([torch.tensor([typical]), order[order != typical]])


def _split_evenly(n: int, parts: int) -> list[int]:
    return [n // parts + (i < n % parts) for i in range(parts)]
