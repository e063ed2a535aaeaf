"""The acquisition of Bayesian optimization: qLogNEI over chart coordinates, plus the terms of guard and feasibility.

Loads BoTorch, so it is imported only once a search needs a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso._botorch import importing_botorch
from lso.black_box.bayesopt.guard import Guard
from lso.black_box.bayesopt.surrogates import Feasibility, Surrogate

with importing_botorch():
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.optim.initializers import initialize_q_batch
    from botorch.optim.optimize import optimize_acqf

# Raw points evaluated at once; temperature of the choice of starts, and iterations of L-BFGS-B: BoTorch's defaults.
RAW_CHUNK, ETA, MAXITER = 512, 2.0, 200


@dataclass(frozen=True, eq=False, kw_only=True)
class AcquisitionTerms:
    """The models and the guard that an acquisition is made of."""

    surrogate: Surrogate  # model of the gain
    feasibility: Feasibility | None  # None where every point told is feasible
    guard: Guard
    evaluations: int  # points told so far, for the guard's weight
    view: Callable[[Tensor], Tensor]  # codes (..., d) to inputs of the surrogate
    plain: bool  # whether the surrogate's inputs are the chart coordinates themselves

    @property
    def adds(self) -> bool:
        """Whether guard or feasibility add a term to the log acquisition."""
        return self.guard.soft or self.feasibility is not None

    def inputs(self, unit: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch f"]:
        """Inputs of the surrogate for chart coordinates."""
        return unit if self.plain else self.view(self.codes(unit))

    def codes(self, unit: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch latent"]:
        """Codes at chart coordinates, pulled into the ball by a hard guard."""
        return self.guard.pull_inside(self.guard.space.from_unit(unit))

    def added(self, z: Float[Tensor, "*batch latent"], inputs: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch"]:
        """The terms of guard and feasibility in the log acquisition."""
        total = self.guard.log_weight(z, self.evaluations)
        return total if self.feasibility is None else total + self.feasibility.log_probability(inputs)


class _GuidedLogNEI(qLogNoisyExpectedImprovement):
    """qLogNEI over chart coordinates, with terms added to each point's log improvement before the maximum over q."""

    # BoTorch's PriorGuidedAcquisitionFunction does the same for one model, but fails on an ensemble, whose axis its
    # `forward` averages twice; and its prior would get the surrogate's inputs, not the code.

    terms: AcquisitionTerms

    def _non_reduced_forward(self, X: Tensor) -> Tensor:
        z = self.terms.codes(X)
        inputs = X if self.terms.plain else self.terms.view(z)
        improvement: Tensor = super()._non_reduced_forward(inputs)
        if not self.terms.adds:
            return improvement
        added = self.terms.added(z, inputs)
        return improvement + (added.unsqueeze(-2) if self.terms.surrogate.ensemble else added)  # ensemble axis


def make_acquisition(terms: AcquisitionTerms, pending: Float[Tensor, "p f"], *, over_inputs: bool = False) -> Any:
    """Make the acquisition function ``(b, q, k) -> (b,)``: noisy log expected improvement over told and pending points.

    It takes chart coordinates; with ``over_inputs`` the surrogate's inputs instead, and adds no further terms.
    """
    bare = over_inputs or (terms.plain and not terms.adds)
    acquisition: Any = (qLogNoisyExpectedImprovement if bare else _GuidedLogNEI)(
        terms.surrogate.model, X_baseline=terms.surrogate.inputs, X_pending=pending if len(pending) else None
    )
    if not bare:
        acquisition.terms = terms
    return acquisition


def evaluate_acquisition(acquisition: Any, points: Float[Tensor, "b q k"]) -> Float[Tensor, " b"]:
    """Values ``(b,)`` of an acquisition function, in chunks and without gradients.

    Values that are not finite are replaced by the smallest finite one.
    """
    with torch.no_grad():
        values = torch.cat([acquisition(part) for part in torch.split(points, RAW_CHUNK)])
    finite = torch.isfinite(values)
    least = values[finite].min() if bool(finite.any()) else values.new_zeros(())
    return torch.where(finite, values, least)


def maximize(
    acquisition: Any, raw: Float[Tensor, "b q k"], bounds: Float[Tensor, "2 k"], restarts: int
) -> Float[Tensor, "q k"]:
    """Maximize an acquisition function by L-BFGS-B from several starts: the best ``(q, k)`` points.

    Of the ``raw`` points, ``restarts`` become starts: the best one, and others drawn with probabilities by value.
    """
    values = evaluate_acquisition(acquisition, raw)
    initial, _ = initialize_q_batch(raw, values, min(restarts, len(raw)), eta=ETA)
    optimum, _ = optimize_acqf(
        acquisition,
        bounds=bounds,
        q=raw.shape[1],
        num_restarts=len(initial),
        batch_initial_conditions=initial,
        options={"maxiter": MAXITER},
        retry_on_optimization_warning=False,
    )
    best: Tensor = optimum if bool(torch.isfinite(optimum).all()) else raw[values.argmax()]
    return best.detach()
