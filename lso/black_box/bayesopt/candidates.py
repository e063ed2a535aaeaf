"""Points to evaluate first, and points where the search of an acquisition starts."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from lso.black_box.ask_tell import History
from lso.space import LatentSpace

DESIGNS = ("prior", "sobol")
# Centers of perturbations: so many of the best points.
MAX_CENTERS = 5
# Perturbations have standard deviations between these, log-uniformly, in units of the chart's cube; and move about so
# many coordinates, as of all of them at once hardly one step in 32 dimensions or more is an improvement.
MIN_STEP, MAX_STEP = 1e-3, 0.2
MEAN_MOVED = 20


def draw_design(history: History, n: int, kind: str, generator: Generator) -> Float[Tensor, "n latent"]:
    """Points to evaluate before there is a model.

    Args:
        history: so far; its space may hold codes.
        n: how many.
        kind: ``prior`` draws, every other one a known code where the space has codes; or ``sobol`` through the chart.
        generator: of the draws.
    Returns:
        ``(n, d)`` inside the bounds.
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
    """Codes inside the bounds, with dimensions that the chart leaves out at 0."""
    z = space.clip(z)
    return z * space.active if space.chart == "active" else z


def unit_bounds(space: LatentSpace) -> Float[Tensor, "2 k"]:
    """Bounds of the search on the chart."""
    corners = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, space.unit_dim)
    return space.to_unit(space.clip(space.from_unit(corners)))


def draw_starts(history: History, n: int, generator: Generator, *, box: bool) -> Float[Tensor, "m k"]:
    """Where the search of an acquisition starts: from the prior, from known codes and around the best points.

    Half of them perturb the best points, told feasible, and the best typical one; the other half are draws.

    Args:
        history: so far.
        n: how many.
        generator: of the draws.
        box: also draw from the whole box, where nothing keeps the search near the prior.
    Returns:
        ``(n, k)`` chart coordinates inside the bounds.
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
    """Normal steps of many sizes from some centers, each in a random subset of the coordinates."""
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
