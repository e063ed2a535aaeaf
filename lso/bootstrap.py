"""Paired bootstrap: how sure a mean difference over targets is."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lso.vae.errors import ShapeError
from lso.vae.seeds import generator
from lso.vae.values import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and its percentile interval.

    Args:
        mean: of the differences.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0."""
        return (self.low > 0) - (self.high < 0)


def paired_bootstrap(
    difference: Float[Tensor, " target"], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of paired differences, targets drawn with replacement.

    Args:
        difference: ``(targets,)`` of two measures of the same target.
        level: share of resampled means inside.
        draws: resamples.
        seed: of the resamples.
    Returns:
        The interval; of a single target it is a point.
    Raises:
        ShapeError: if there is no target.
        UsageError: if the level is not between 0 and 1.
    Source: Efron & Tibshirani (1993), ch. 13.
    """
    require(0 < level < 1, "a level between 0 and 1", level, "0.95 is usual.")
    if len(difference) == 0:
        raise ShapeError("expected differences of at least one target, got none", "Search for some targets.")
    values, n = difference.double().cpu(), len(difference)
    rows = torch.randint(n, (draws, n), generator=generator(seed, "bootstrap", n))
    means = values[rows].mean(1)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(mean=values.mean().item(), low=low, high=high)
