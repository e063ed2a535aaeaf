"""Latent traversals: straight paths of codes through the origin, each along one dimension or a random direction.

Source: the NE-VAE paper (2021), sec. 5.3: one dimension from -10 to 10 in 100 steps, the others 0; from the origin to
random points at distance 10; the same with the most active dimensions held at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lso.vae.errors import DataError, UsageError
from lso.vae.metrics.active_units import mean_variance
from lso.vae.runs import Run
from lso.vae.utils.random import generator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traversal:
    """Straight paths of codes, one a row, sorted by falling activity."""

    names: tuple[str, ...]  # of the rows
    unit: Float[Tensor, "row latent"]  # directions of norm 1
    activity: Float[Tensor, " row"]  # variance of the posterior mean along each direction
    low: float  # where a path begins, in prior standard deviations from the origin
    high: float  # where it ends

    def codes(self, steps: int) -> Float[Tensor, "row steps latent"]:
        """Evenly spaced codes of each path, ends included."""
        return self._places(steps).float()[None, :, None] * self.unit[:, None]

    def places(self, steps: int) -> list[float]:
        """Distances of a row's codes from the origin."""
        found: list[float] = self._places(steps).tolist()
        return found

    def _places(self, steps: int) -> Float[Tensor, " steps"]:
        """Distances from the origin; 0 exactly where it is among them, unlike `torch.linspace`."""
        return self.low + (self.high - self.low) * torch.arange(steps, dtype=torch.float64) / max(1, steps - 1)

    @property
    def labels(self) -> list[str]:
        """Name and activity of each row."""
        return [f"{name}  variance {float(a):.2g}" for name, a in zip(self.names, self.activity, strict=True)]

    def heads(self, steps: int) -> list[str]:
        """The value above the first, middle and last column; empty above the others."""
        shown = {0, steps - 1, *([steps // 2] if steps % 2 else [])}
        return [f"{value:g}" if i in shown else "" for i, value in enumerate(self._places(steps).tolist())]


def along_dimensions(mean: Float[Tensor, "n latent"], dims: Sequence[int], reach: float) -> Traversal:
    """Paths that change one dimension from ``-reach`` to ``reach``, the others being 0."""
    latent = mean.shape[1]
    for dim in dims:
        if not 0 <= dim < latent:
            raise UsageError(f"there is no dimension {dim}", f"They count from 0: 0 to {latent - 1}.")
    return _ordered(mean, torch.eye(latent)[list(dims)], [f"z{i}" for i in dims], (-reach, reach))


def along_directions(
    mean: Float[Tensor, "n latent"], rows: int, reach: float, seed: int, hold: Sequence[int] = ()
) -> Traversal:
    """Paths from the origin along random directions, up to norm ``reach``; ``mean`` gives the activity along each.

    Dimensions in ``hold`` stay 0: the same random directions are projected onto the others, so that the k-th path with
    held dimensions can be compared with the k-th path without.
    """
    latent = mean.shape[1]
    if len(set(hold)) >= latent:
        raise UsageError(f"all {latent} dimensions are held at 0", f"Hold at most {latent - 1}: --hold {latent - 1}.")
    direction = torch.randn(rows, latent, generator=generator(seed, "directions"))
    direction[:, list(hold)] = 0
    return _ordered(mean, normalize(direction, dim=1), [f"direction {i + 1}" for i in range(rows)], (0.0, reach))


def _ordered(mean: Tensor, unit: Tensor, names: Sequence[str], ends: tuple[float, float]) -> Traversal:
    along = mean_variance(mean.double() @ unit.double().T)
    order = along.argsort(descending=True, stable=True)
    ordered = tuple(names[int(i)] for i in order)
    return Traversal(names=ordered, unit=unit[order], activity=along[order], low=ends[0], high=ends[1])


def posterior_means(run: Run) -> Float[Tensor, "n latent"]:
    """Posterior means of the validation split, from the run's codes.npz."""
    codes = run.codes()
    if codes is None:
        raise DataError(f"{run.path} has no codes.npz", f"It ended early; continue it: lso train --resume {run.path}")
    mean: Tensor = codes.mean
    return mean


def most_active(mean: Float[Tensor, "n latent"]) -> list[int]:
    """Indices of the dimensions, by falling variance of the posterior mean."""
    return [int(i) for i in mean_variance(mean).argsort(descending=True, stable=True)]
