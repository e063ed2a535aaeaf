"""Guards: keeping the proposals of a black-box search typical of the prior, where the decoder was trained."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lso.space import MAX_TYPICAL_PERCENTILE, LatentSpace
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.validation import require

GUARDS = ("typical", "ball")
# The soft guard's factor is this over the square root of the evaluations: 1.6, 0.5 and 0.16 after 10, 100 and 1,000.
# Prior-guided search divides by the evaluations themselves, since data should overrule a belief about the optimum; but
# typicality says where the decoder was trained, of which values tell nothing. Measured after 100 draws in 20 dimensions
# (`benchmarks/guard_weight.py`): for a score that grows without bound 0, 1 and 4 of 4 proposals are typical at factors
# of 0.01, 0.1 and 1; for one that saturates, or has its maximum on the shell, all are, with any guard or none.
DEFAULT_GUARD_WEIGHT = 5.0
# The ball's radius is smaller than the norm that counts as typical by this share, so that rounding leads no code out.
RADIUS_MARGIN = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class Guard:
    """A guard of typicality; made by `make_guard`.

    ``typical``, the soft guard, adds (weight / sqrt(evaluations)) x the chi log density of the norm over the active
    dimensions to the log acquisition: prior-guided search (Hvarfner et al. 2022, arXiv:2204.11051) with the density of
    the norm as its prior and a slower decay. The normal density itself would pull codes inside the shell, to the
    origin.

    ``ball``, the hard guard, keeps codes exactly within the norm that 99.9 % of prior draws have: the acquisition is
    evaluated at each code pulled back into the ball, along the straight line to the box's point nearest to the origin.
    That is cheaper and more robust than a nonlinear constraint, which needs feasible starts and a solver that treats
    one start at a time.
    """

    space: LatentSpace
    kind: str | None  # of `GUARDS`; None for no guard
    weight: float = DEFAULT_GUARD_WEIGHT

    @property
    def soft(self) -> bool:
        """Whether it adds a term to the log acquisition."""
        return self.kind == "typical"

    @property
    def hard(self) -> bool:
        """Whether it moves codes."""
        return self.kind == "ball"

    def log_weight(self, z: Float[Tensor, "*batch latent"], evaluations: int) -> Float[Tensor, "*batch"]:
        """The soft guard's term of a log acquisition ``(...)``; 0 without a soft guard."""
        if not self.soft:
            return z.new_zeros(z.shape[:-1])
        return self.weight / math.sqrt(max(1, evaluations)) * self.space.log_typicality(z, active=True)

    def pull_inside(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Pull codes inside the bounds into the ball, differentiably; without a hard guard they stay unchanged."""
        if not self.hard:
            return z
        center = _center(self.space).to(z)
        active = self.space.active.to(z.device)
        offset = (z - center) * active
        # The largest t <= 1 with |center + t offset| <= radius, in the active dimensions.
        square = offset.square().sum(-1).clamp_min(1e-30)
        along = (center * offset).sum(-1)
        room = typical_radius(self.space) ** 2 - (center * active).square().sum(-1)
        t = ((along.square() + square * room).clamp_min(1e-30).sqrt() - along) / square
        return z - offset * (1 - t.clamp_max(1.0)).unsqueeze(-1)


def make_guard(space: LatentSpace, kind: str | None, weight: float = DEFAULT_GUARD_WEIGHT) -> Guard:
    """Make a guard by its name."""
    if kind is not None and kind not in GUARDS:
        raise unknown_name("guard", kind, GUARDS)
    require(0 <= weight < math.inf, "a guard weight >= 0", weight, "0 leaves the guard out.")
    if kind == "ball" and float((_center(space) * space.active).norm()) >= typical_radius(space):
        raise UsageError(
            "no code inside the bounds is typical, so guard='ball' leaves nothing to search",
            "Use bounds that come nearer to the origin.",
        )
    return Guard(space=space, kind=kind, weight=weight)


def typical_radius(space: LatentSpace) -> float:
    """The norm over the active dimensions that 99.9 % of prior draws do not exceed."""
    import scipy.stats

    return float(scipy.stats.chi.ppf(MAX_TYPICAL_PERCENTILE, int(space.active.sum()))) * (1 - RADIUS_MARGIN)


def _center(space: LatentSpace) -> Tensor:
    """The point of the box nearest to the origin."""
    return space.clip(torch.zeros(space.dim, dtype=torch.float64))
