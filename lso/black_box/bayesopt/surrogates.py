"""Surrogate models on the chart's unit cube or on features: a Gaussian process of the gain, and one of feasibility.

All computation is in double precision. Whatever fits or samples with BoTorch runs inside `isolated_botorch`: BoTorch's
samplers and refits draw from torch's global random state, which is put back, and it warns of what is handled here.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso._botorch import importing_botorch
from lso.vae.errors import unknown_name
from lso.vae.utils.lazy import resolve


@dataclass(frozen=True, kw_only=True)
class SurrogateSpec:
    """A row of the table of surrogates."""

    model: str  # "module:class" of a BoTorch model, made from (inputs, targets)
    ensemble: bool = False  # whether it holds several models, whose predictions are averaged


SURROGATES: Mapping[str, SurrogateSpec] = {
    "gp": SurrogateSpec(model="botorch.models:SingleTaskGP"),
    "saas": SurrogateSpec(model="botorch.models.map_saas:EnsembleMapSaasSingleTaskGP", ensemble=True),
}
# A process is fitted to at most this many points, chosen from those known. An evaluation of its likelihood takes 0.05 s
# on one core at 500 points in 32 dimensions, and four times as long at 1,000.
MAX_FIT_POINTS = 500
# Above this many points a fit ends after this many iterations. Without the limit L-BFGS-B took 749 evaluations at 500
# points (34 s); limited to 50 the model explained as much of held-out points (0.997 of the variance against 0.9996; at
# 200 points 0.970 against 0.968).
MANY_POINTS, MAX_ITERATIONS = 100, 50
# Standard deviation of the labels of feasibility: amid infeasible points the probability is Phi(-3), about 0.1 %, never
# so small that a wrong label excludes a region for good.
LABEL_DEVIATION = 1 / 3
# Gains whose standard deviation is below this share of their size count as equal; they differ by rounding alone.
MIN_RELATIVE_SPREAD = 1e-9


@contextmanager
def isolated_botorch(seed: int) -> Iterator[None]:
    """Run BoTorch in the block with a random state of its own, and without its warnings.

    ``seed`` seeds torch's global CPU generator inside the block; afterwards all generators are as before.
    """
    with importing_botorch():
        import_module("botorch")  # outside the block below: importing may draw random numbers and warn
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(seed % 2**63)  # torch.manual_seed would seed other devices as well
        # Of ill-conditioned covariances, line searches that end early, inputs outside the cube: retried, or harmless.
        warnings.simplefilter("ignore")
        yield


def standardize(gain: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], float, float]:
    """Finite gains ``(n,)`` scaled to mean 0 and standard deviation 1 (0 where all are equal), and center and scale."""
    # Divided by their size first, so that gains near the largest double do not overflow.
    size = float(gain.abs().max()) or 1.0
    small = gain / size
    center = small.mean()
    spread = small.std() if len(gain) > 1 else small.new_zeros(())
    if float(spread) <= MIN_RELATIVE_SPREAD:
        return torch.zeros_like(gain), float(center) * size, 1.0
    return (small - center) / spread, float(center) * size, float(spread) * size


@dataclass(frozen=True, eq=False, kw_only=True)
class Surrogate:
    """A fitted model of the gain."""

    model: Any  # BoTorch model in eval mode, of the standardized gain over `inputs`
    inputs: Float[Tensor, "n k"]  # that it was fitted to
    targets: Float[Tensor, " n"]  # standardized gains: (gain - center) / scale
    center: float
    scale: float  # 1 where all gains are equal
    kind: str = "gp"  # row of `SURROGATES`

    @property
    def ensemble(self) -> bool:
        """Whether the model is an ensemble, whose predictions are averaged."""
        return SURROGATES[self.kind].ensemble

    @property
    def lengthscales(self) -> Float[Tensor, " k"]:
        """The length scale of each input, in its unit; for an ensemble the geometric mean of its members'."""
        covar = self.model.covar_module
        scales: Tensor = getattr(covar, "base_kernel", covar).lengthscale.detach()
        return scales.reshape(-1, scales.shape[-1]).log().mean(0).exp()

    @property
    def equal(self) -> bool:
        """Whether all gains are equal, so that nothing can be learned from them."""
        return not bool(self.targets.any())

    def predict(self, x: Float[Tensor, "b k"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Mean and standard deviation of the gain, without observation noise."""
        with torch.no_grad():
            posterior = self.model.posterior(x.unsqueeze(1))
            mean, variance = getattr(posterior, "mixture_mean", None), getattr(posterior, "mixture_variance", None)
            mean = posterior.mean if mean is None else mean
            variance = posterior.variance if variance is None else variance
        deviation = variance.reshape(-1).clamp_min(0).sqrt()
        return mean.reshape(-1) * self.scale + self.center, deviation * self.scale


def fit(
    x: Float[Tensor, "n k"], gain: Float[Tensor, " n"], kind: str = "gp", iterations: int | None = None
) -> Surrogate:
    """Fit a Gaussian process to finite gains ``(n,)`` at ``(n, k)`` inputs, in double; call it in `isolated_botorch`.

    ``gp`` is BoTorch's SingleTaskGP: an RBF kernel with a length scale for each input under the dimension-scaled prior
    of Hvarfner et al. (2024), which assumes inputs in the unit cube or near it. ``saas`` is BoTorch's MAP ensemble
    under a prior of sparse axes. Where no fit succeeds, the model keeps the modes of its priors.
    """
    if kind not in SURROGATES:
        raise unknown_name("surrogate", kind, SURROGATES)
    with importing_botorch():
        build = resolve(SURROGATES[kind].model)
    targets, center, scale = standardize(gain)
    model = maximize_likelihood(build(x, targets.unsqueeze(-1)), iterations)
    return Surrogate(model=model, inputs=x, targets=targets, center=center, scale=scale, kind=kind)


def maximize_likelihood(model: Any, iterations: int | None = None) -> Any:
    """Maximize the marginal likelihood of an exact BoTorch model in place, and return it in eval mode.

    ``iterations`` of L-BFGS-B at most; None is `MAX_ITERATIONS` for more than `MANY_POINTS` points, else no limit.
    """
    if iterations is None and model.train_targets.shape[-1] > MANY_POINTS:
        iterations = MAX_ITERATIONS
    with importing_botorch():
        from botorch.exceptions.errors import ModelFittingError
        from botorch.fit import fit_gpytorch_mll
        from gpytorch.mlls import ExactMarginalLogLikelihood
        from linear_operator.utils.errors import NanError, NotPSDError  # type: ignore[import-untyped]

    start = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs=None if iterations is None else {"options": {"maxiter": iterations}},
        )
    except (ModelFittingError, NanError, NotPSDError):
        model.load_state_dict(start)
    return model.eval()


@dataclass(frozen=True, eq=False)
class Feasibility:
    """A fitted model of which inputs have a value at all."""

    model: Any  # BoTorch model in eval mode, of +1 where feasible and -1 where not

    def log_probability(self, x: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Log probability that a point is feasible, log Phi(mean / sqrt(variance + 1/9)); gradients flow."""
        posterior = self.model.posterior(x.reshape(-1, 1, x.shape[-1]))
        ratio = posterior.mean / (posterior.variance.clamp_min(0) + LABEL_DEVIATION**2).sqrt()
        log_probability: Tensor = torch.special.log_ndtr(ratio)
        return log_probability.reshape(x.shape[:-1])


def fit_feasibility(
    x: Float[Tensor, "n k"], feasible: Bool[Tensor, " n"], iterations: int | None = None
) -> Feasibility | None:
    """Fit a Gaussian process to +1 (feasible) and -1; call it inside `isolated_botorch`.

    Labels are standardized, so that far from all points the probability is near the share of feasible ones. Where every
    point is infeasible, the hyperparameters stay at the modes of their priors: the probability then grows with the
    distance from the points. None where every point is feasible.
    """
    if bool(feasible.all()):
        return None
    with importing_botorch():
        from botorch.models import SingleTaskGP

    model = SingleTaskGP(x, feasible.to(x).unsqueeze(-1) * 2 - 1)
    return Feasibility(maximize_likelihood(model, iterations) if bool(feasible.any()) else model.eval())


def choose_fit_points(
    x: Float[Tensor, "n k"], worth: Float[Tensor, " n"], limit: int = MAX_FIT_POINTS
) -> Int[Tensor, " m"]:
    """Choose the points to fit a model to: all of them up to a limit; beyond it, half the best, half near the best one.

    The model is then accurate around the best point and knows the other good regions; it leaves out bad points that are
    far away.
    """
    if len(x) <= limit:
        return torch.arange(len(x))
    order = torch.argsort(worth.nan_to_num(-torch.inf), descending=True, stable=True)
    best, rest = order[: limit // 2], order[limit // 2 :]
    near = torch.argsort((x[rest] - x[order[0]]).square().sum(-1), stable=True)
    return torch.cat([best, rest[near[: limit - len(best)]]]).sort().values
