"""Guards: what keeps a black-box search near the prior's shell, where the decoder was trained."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lso.space import MAX_TYPICAL_PERCENTILE, LatentSpace
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.validation import require

GUARDS = ("typical", "ball")
# The soft term's factor is this over the square root of the evaluations: 1.6, 0.5 and 0.16 after 10, 100 and 1,000.
# Prior-guided search divides by the evaluations themselves, since data are to overrule a belief about the optimum; but
# typicality is where the decoder was trained, of which values say nothing. After 100 draws in 20 dimensions, of 4
# proposals for a score that grows without end 0, 1 and 4 are typical at factors of 0.01, 0.1 and 1; for one with its
# top on the shell, or one that saturates, all are, guard or none (`benchmarks/guard_weight.py`).
DEFAULT_GUARD_WEIGHT = 5.0
# The ball is this much smaller than the points that count as typical, for rounding.
RADIUS_MARGIN = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class Guard:
    """Typicality in an acquisition; `make_guard` makes it.

    ``typical`` adds (weight / sqrt(evaluations)) x the chi log density of the norm over the active dimensions to the
    log acquisition: prior-guided search (Hvarfner et al. 2022, arXiv:2204.11051) with the norm's density for its prior
    and a slower decay. The normal density itself would pull inside the shell, to the origin.

    ``ball`` keeps codes within the norm that 99.9 % of prior draws have, exactly: the acquisition sees each code pulled
    back into the ball, along the straight line to the box's point nearest to the origin. That is cheaper and sturdier
    than a nonlinear constraint, which needs feasible starts and a solver of one start at a time.

    Args:
        space: to search.
        kind: one of `GUARDS`; None for no guard.
        weight: of the soft term.
    """

    space: LatentSpace
    kind: str | None
    weight: float = DEFAULT_GUARD_WEIGHT

    @property
    def soft(self) -> bool:
        """Whether it adds to the acquisition."""
        return self.kind == "typical"

    @property
    def hard(self) -> bool:
        """Whether it moves codes."""
        return self.kind == "ball"

    def log_weight(self, z: Float[Tensor, "*batch latent"], evaluations: int) -> Float[Tensor, "*batch"]:
        """What the soft guard adds to a log acquisition."""
        if not self.soft:
            return z.new_zeros(z.shape[:-1])
        return self.weight / math.sqrt(max(1, evaluations)) * self.space.log_typicality(z, active=True)

    def pull_inside(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Codes where the hard guard allows them; gradients flow.

        Args:
            z: ``(..., d)`` codes inside the bounds.
        Returns:
            ``(..., d)`` codes that `LatentSpace.typical` holds for; z itself without a hard guard.
        """
        if not self.hard:
            return z
        center = _center(self.space).to(z)
        active = self.space.active.to(z.device)
        away = (z - center) * active
        # The largest t <= 1 with |center + t away| <= radius, in the active dimensions.
        square = away.square().sum(-1).clamp_min(1e-30)
        along = (center * away).sum(-1)
        room = typical_radius(self.space) ** 2 - (center * active).square().sum(-1)
        t = ((along.square() + square * room).clamp_min(1e-30).sqrt() - along) / square
        return z - away * (1 - t.clamp_max(1.0)).unsqueeze(-1)


def make_guard(space: LatentSpace, kind: str | None, weight: float = DEFAULT_GUARD_WEIGHT) -> Guard:
    """A guard by name."""
    if kind is not None and kind not in GUARDS:
        raise unknown_name("guard", kind, GUARDS)
    require(0 <= weight < math.inf, "a guard weight >= 0", weight, "0 leaves the guard out.")
    if kind == "ball" and float((_center(space) * space.active).norm()) >= typical_radius(space):
        raise UsageError(
            "no code inside the bounds is typical, so guard='ball' leaves nothing to search", "Use wider bounds."
        )
    return Guard(space=space, kind=kind, weight=weight)


def typical_radius(space: LatentSpace) -> float:
    """Norm over the active dimensions that 99.9 % of prior draws stay within."""
    import scipy.stats

    return float(scipy.stats.chi.ppf(MAX_TYPICAL_PERCENTILE, int(space.active.sum()))) * (1 - RADIUS_MARGIN)


def _center(space: LatentSpace) -> Tensor:
    """The point of the box nearest to the origin."""
    return space.clip(torch.zeros(space.dim, dtype=torch.float64))
