"""How well a surrogate foretells what it has not seen: leave-one-out predictions over the evaluations of a search."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso.dimensions import spaced
from lso.ranks import rank_order
from lso.space import LatentSpace
from lso.surrogate import fit, isolated
from lso.vae.seeds import mix

POINTS = 200  # evaluations that the surrogate is fitted on at most, evenly spaced: a fit costs their number cubed
LEAST = 6  # evaluations below which nothing is said
LEVELS = (0.5, 0.8, 0.95)  # of predictive intervals
# A rank correlation of n pairs without any relation has a standard deviation of 1 / sqrt(n - 1); beyond 1.645 of them
# lies one in twenty. With many points this bound sinks so low that it means nothing: at least 0.1.
CHANCE, LEAST_CORRELATION = 1.645, 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Leave-one-out predictions of a Gaussian process; n evaluations, d latent dimensions. Values are the user's own.

    Args:
        observed: values.
        mean: predicted from the others, hyperparameters kept.
        deviation: of the prediction, noise included.
        lengthscale: of each latent dimension, in the unit of the code; NaN of those that the chart leaves out.
        equal: whether all values are equal, so that there is nothing to predict.
        noise: share of the values' variance that the process takes for noise.
    """

    observed: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    lengthscale: Float[Tensor, " latent"]
    equal: bool
    noise: float

    @property
    def score(self) -> Float[Tensor, " n"]:
        """Error of each prediction in its own standard deviations; N(0, 1) where the surrogate is calibrated."""
        return (self.observed - self.mean) / self.deviation.clamp_min(1e-300)

    def coverage(self, level: float) -> float:
        """Share of values inside the central predictive interval.

        Args:
            level: that a calibrated surrogate would have.
        Returns:
            In [0, 1].
        """
        half = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
        return float((self.score.abs() <= half).double().mean())

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of predicted and observed values; 0 where either is constant."""
        return rank_order(self.mean.tolist(), self.observed.tolist()).spearman or 0.0

    @property
    def chance(self) -> float:
        """The rank correlation that a surrogate that knows nothing reaches once in twenty times."""
        return max(LEAST_CORRELATION, CHANCE / math.sqrt(max(1, len(self.observed) - 1)))

    @property
    def flat(self) -> bool:
        """Whether the surrogate predicts no better than chance."""
        return self.equal or self.rank_correlation < self.chance


def calibrate(
    space: LatentSpace,
    z: Float[Tensor, "n latent"],
    value: Float[Tensor, " n"],
    chosen: Bool[Tensor, " n"] | None = None,
    points: int = POINTS,
) -> Calibration | None:
    """Fit the house's Gaussian process to evaluations and predict each from the others.

    It is the default surrogate over the whole space, whatever searched: with the values of a random search it says
    whether a model could have helped, with those of a local one it is a second opinion.

    Args:
        space: gives the chart.
        z: ``(n, d)`` codes.
        value: ``(n,)`` the user's values; what is not finite is left out.
        chosen: which to take, e.g. the first evaluation of each distinct object; None takes all.
        points: at most so many, evenly spaced.
    Returns:
        The predictions; None of under six evaluations.
    """
    good = torch.isfinite(value) & torch.isfinite(z).all(1)
    rows = spaced((good if chosen is None else good & chosen).nonzero().flatten(), points)
    if len(rows) < LEAST:
        return None
    with isolated(mix(0, "report/surrogate")):
        surrogate = fit(space.to_unit(z[rows]), value[rows].double())
        mean, deviation = _left_out(surrogate.model)
        noise = float(surrogate.model.likelihood.noise.detach().mean())
    return Calibration(
        observed=value[rows].double(),
        mean=mean * surrogate.scale + surrogate.center,
        deviation=deviation * surrogate.scale,
        lengthscale=_in_code_units(space, surrogate.lengthscales),
        equal=surrogate.equal,
        noise=min(1.0, noise),
    )


def _left_out(model: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each standardized target given the others, by BoTorch's closed form."""
    from botorch.cross_validation import efficient_loo_cv

    with torch.no_grad():
        posterior: Any = efficient_loo_cv(model, observation_noise=True).posterior
    return posterior.mean.reshape(-1).detach(), posterior.variance.reshape(-1).detach().clamp_min(0).sqrt()


def _in_code_units(space: LatentSpace, unit: Tensor) -> Float[Tensor, " latent"]:
    """Lengthscales of the unit cube times the width of the box; of the cdf chart the slope of its middle."""
    width = space.bounds[1] - space.bounds[0]
    if space.chart == "cdf":
        width = torch.full_like(width, math.sqrt(2 * math.pi))
    found = torch.full_like(width, torch.nan)
    inside = space.active if space.chart == "active" else torch.ones_like(space.active)
    found[inside] = unit.double().cpu() * width[inside]
    return found
