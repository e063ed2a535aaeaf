"""How well a surrogate foretells what a search found, over one search or several: calibrations pooled for a report."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso.calibration import INNER, OUTER, Calibration, calibration, spearman
from lso.dimensions import spaced
from lso.space import LatentSpace
from lso.surrogate import fit, isolated
from lso.vae.seeds import mix

POINTS = 200  # evaluations that the surrogate is fitted on at most, evenly spaced: a fit costs their number cubed
LEAST = 6  # evaluations below which nothing is said
LEVELS = (0.5, 0.8, 0.95)  # of predictive intervals


def foretell(
    space: LatentSpace,
    z: Float[Tensor, "n latent"],
    value: Float[Tensor, " n"],
    chosen: Bool[Tensor, " n"],
    points: int = POINTS,
) -> Calibration | None:
    """Fit the default surrogate over the whole space to evaluations, whatever searched, and predict each from the rest.

    With the values of a random search it says whether a model could have helped, with those of a local one it is a
    second opinion.

    Args:
        space: gives the chart.
        z: ``(n, d)`` codes.
        value: ``(n,)`` the user's values; what is not finite is left out.
        chosen: which to take: the first evaluation of each distinct object.
        points: at most so many, evenly spaced.
    Returns:
        The calibration, of values in place of gains; None of under six evaluations.
    """
    rows = spaced((torch.isfinite(value) & torch.isfinite(z).all(1) & chosen).nonzero().flatten(), points)
    if len(rows) < LEAST:
        return None
    with isolated(mix(0, "report/surrogate")):
        x, y = space.to_unit(z[rows]), value[rows].double()
        return calibration(fit(x, y), space)


def pool(found: Sequence[Calibration]) -> Calibration | None:
    """The predictions of several surrogates together.

    Args:
        found: one a search.
    Returns:
        All predictions, geometric means of the lengthscales, the mean of what each explains; None without any.
    """
    if not found:
        return None
    observed, mean, deviation = (
        torch.cat([getattr(one, name) for one in found]) for name in ("observed", "mean", "deviation")
    )
    away = distance(observed, mean, deviation)
    return Calibration(
        observed=observed,
        mean=mean,
        deviation=deviation,
        lengthscales=torch.stack([one.lengthscales.log() for one in found]).mean(0).exp(),
        coverage_68=float((away <= INNER).double().mean()),
        coverage_95=float((away <= OUTER).double().mean()),
        rank_correlation=spearman(observed, mean),
        explained=sum(one.explained for one in found) / len(found),
    )


def coverage(found: Calibration, level: float) -> float:
    """Share of values inside their central predictive intervals.

    Args:
        found: predictions.
        level: that a calibrated surrogate would have.
    Returns:
        In [0, 1].
    """
    half = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    return float((distance(found.observed, found.mean, found.deviation) <= half).double().mean())


def distance(
    observed: Float[Tensor, " n"], mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Errors in predicted standard deviations.

    Args:
        observed: values.
        mean: predicted.
        deviation: of the prediction.
    Returns:
        ``(n,)`` not negative.
    """
    return (observed - mean).abs() / deviation.clamp_min(torch.finfo(deviation.dtype).tiny)


def equal(found: Calibration) -> bool:
    """Whether all values are equal, so that there is nothing to foretell.

    Args:
        found: predictions.
    Returns:
        Whether.
    """
    return float(found.observed.max()) == float(found.observed.min())
