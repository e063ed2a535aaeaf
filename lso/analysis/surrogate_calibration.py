"""Leave-one-out calibration of a surrogate: how well it predicts, and whether its intervals hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso._botorch import importing_botorch
from lso.analysis.latent_dimensions import evenly_spaced
from lso.analysis.rank_correlation import spearman
from lso.black_box.bayesopt.surrogates import Surrogate, fit, isolated_botorch, standardize
from lso.space import LatentSpace
from lso.vae.utils.random import mix_seed

# Central intervals of so many standard deviations hold 68 % and 95 % of a normal distribution.
DEVIATIONS_68, DEVIATIONS_95 = 0.9945, 1.9600
# R squared of refits on held-out points below which a surrogate is flat. Leave-one-out means will not do for this: as
# the hyperparameters were fitted to all points, they explain 0.4 of pure noise (60 points, 20 dimensions).
MIN_EXPLAINED, FOLDS = 0.05, 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Leave-one-out predictions of a surrogate with its hyperparameters kept.

    Args:
        observed: ``(n,)`` gains.
        mean: ``(n,)`` each predicted from all others.
        deviation: ``(n,)`` standard deviation of the prediction, noise included.
        lengthscales: ``(d,)`` in latent units, infinite for dimensions outside the chart; on the cdf chart those at 0.
        coverage_68: share of the gains inside the central 68 % interval.
        coverage_95: share of the gains inside the central 95 % interval.
        rank_correlation: Spearman's, of observed and mean; NaN where one of them is constant.
        explained: share of the gains' variance that surrogates refitted without a third of the points explain of that
            third (R squared); 0 or less where they find no structure.
    """

    observed: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    lengthscales: Float[Tensor, " d"]
    coverage_68: float
    coverage_95: float
    rank_correlation: float
    explained: float

    @property
    def flat(self) -> bool:
        """Whether the surrogate predicts no better than the mean of all gains, so that its proposals are guesses."""
        return not self.explained >= MIN_EXPLAINED


def held_out_r2(x: Float[Tensor, "n k"], gain: Float[Tensor, " n"], kind: str = "gp") -> float:
    """R squared of refits on the points left out of them, fold by fold; call it inside `isolated_botorch`."""
    targets, _, _ = standardize(gain)
    if not bool(targets.any()):
        return 0.0
    fold, missed = torch.arange(len(x)) % FOLDS, torch.zeros_like(targets)
    for number in range(FOLDS):
        out = fold == number
        missed[out] = fit(x[~out], targets[~out], kind).predict(x[out])[0] - targets[out]
    return 1 - float(missed.square().mean() / targets.var(correction=0))


def measure_calibration(surrogate: Surrogate, space: LatentSpace) -> Calibration:
    """The calibration of a fitted surrogate over a chart; call it inside `isolated_botorch`."""
    with importing_botorch():
        from botorch.cross_validation import loo_cv

    with torch.no_grad():
        posterior: Any = loo_cv(surrogate.model).posterior
        mean = (posterior.mixture_mean if surrogate.ensemble else posterior.mean).reshape(-1)
        variance = (posterior.mixture_variance if surrogate.ensemble else posterior.variance).reshape(-1)
        deviation = variance.clamp_min(0).sqrt()
    away = (surrogate.targets - mean).abs()
    return Calibration(
        observed=surrogate.targets * surrogate.scale + surrogate.center,
        mean=mean * surrogate.scale + surrogate.center,
        deviation=deviation * surrogate.scale,
        lengthscales=latent_lengthscales(surrogate, space),
        coverage_68=float((away <= DEVIATIONS_68 * deviation).double().mean()),
        coverage_95=float((away <= DEVIATIONS_95 * deviation).double().mean()),
        rank_correlation=spearman(surrogate.targets, mean),
        explained=held_out_r2(surrogate.inputs, surrogate.targets, surrogate.kind),
    )


def latent_lengthscales(surrogate: Surrogate, space: LatentSpace) -> Float[Tensor, " d"]:
    """Lengthscales ``(d,)`` of a surrogate over the unit cube of a chart, in units of the latent coordinates.

    They are infinite outside the chart. The cdf chart is not linear: its lengthscales are those at the prior's mean.
    """
    scales = surrogate.lengthscales
    if space.chart == "cdf":
        return scales * math.sqrt(2 * math.pi)
    on_chart = space.active if space.chart == "active" else torch.ones_like(space.active)
    width = space.bounds[1] - space.bounds[0]
    return torch.full_like(width, torch.inf).masked_scatter(on_chart, scales * width[on_chart])


MAX_EVALUATIONS = 200  # a fit costs the cube of their number; of more, evenly spaced ones are taken
MIN_EVALUATIONS = 6  # with fewer no surrogate is fitted
LEVELS = (0.5, 0.8, 0.95)  # of the predictive intervals that a report shows


def calibrate_evaluations(
    space: LatentSpace,
    z: Float[Tensor, "n latent"],
    value: Float[Tensor, " n"],
    chosen: Bool[Tensor, " n"],
    points: int = MAX_EVALUATIONS,
) -> Calibration | None:
    """Fit the default surrogate to the evaluations of any search and predict each value from the others.

    On the values of a random search this says whether a model could have helped, on those of a local one it is a
    second opinion.

    Args:
        space: gives the chart.
        z: ``(n, d)`` codes.
        value: ``(n,)`` the user's values; what is not finite is left out.
        chosen: which evaluations to take: the first of each distinct object.
        points: at most so many evaluations, evenly spaced.
    Returns:
        The calibration, of values in place of gains; None of under six evaluations.
    """
    rows = evenly_spaced((torch.isfinite(value) & torch.isfinite(z).all(1) & chosen).nonzero().flatten(), points)
    if len(rows) < MIN_EVALUATIONS:
        return None
    with isolated_botorch(mix_seed(0, "report/surrogate")):
        x, y = space.to_unit(z[rows]), value[rows].double()
        return measure_calibration(fit(x, y), space)


def pool(found: Sequence[Calibration]) -> Calibration | None:
    """The predictions of several surrogates together; None without any.

    Lengthscales are geometric means, ``explained`` is the mean.
    """
    if not found:
        return None
    observed, mean, deviation = (
        torch.cat([getattr(one, name) for one in found]) for name in ("observed", "mean", "deviation")
    )
    away = standardized_error(observed, mean, deviation)
    return Calibration(
        observed=observed,
        mean=mean,
        deviation=deviation,
        lengthscales=torch.stack([one.lengthscales.log() for one in found]).mean(0).exp(),
        coverage_68=float((away <= DEVIATIONS_68).double().mean()),
        coverage_95=float((away <= DEVIATIONS_95).double().mean()),
        rank_correlation=spearman(observed, mean),
        explained=sum(one.explained for one in found) / len(found),
    )


def coverage(found: Calibration, level: float) -> float:
    """Share of values inside their central predictive intervals of this level."""
    half = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    return float((standardized_error(found.observed, found.mean, found.deviation) <= half).double().mean())


def standardized_error(
    observed: Float[Tensor, " n"], mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Absolute errors in units of the predicted standard deviation."""
    return (observed - mean).abs() / deviation.clamp_min(torch.finfo(deviation.dtype).tiny)


def all_equal(found: Calibration) -> bool:
    """Whether all values are equal, so that there is nothing to predict."""
    return float(found.observed.max()) == float(found.observed.min())
