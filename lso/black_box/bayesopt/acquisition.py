"""The acquisition of Gaussian-process searches: qLogNEI over chart coordinates, with guard and feasibility added.

Loads BoTorch; only what has been asked for a model imports it.
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

# Raw starts scored at once; temperature of their choice and iterations of the search, as BoTorch has them.
RAW_CHUNK, ETA, MAXITER = 512, 2.0, 200


@dataclass(frozen=True, eq=False, kw_only=True)
class AcquisitionTerms:
    """What is acquired.

    Args:
        surrogate: of the gain.
        feasibility: None where every point told is feasible.
        guard: typicality.
        evaluations: told so far, for the guard.
        view: codes ``(..., d)`` to inputs of the surrogate.
        plain: whether chart coordinates are the surrogate's inputs as they are.
    """

    surrogate: Surrogate
    feasibility: Feasibility | None
    guard: Guard
    evaluations: int
    view: Callable[[Tensor], Tensor]
    plain: bool

    @property
    def adds(self) -> bool:
        """Whether anything is added to the log acquisition."""
        return self.guard.soft or self.feasibility is not None

    def inputs(self, unit: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch f"]:
        """Inputs of the surrogate for chart coordinates."""
        return unit if self.plain else self.view(self.codes(unit))

    def codes(self, unit: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch latent"]:
        """Codes at chart coordinates, where the hard guard allows them."""
        return self.guard.pull_inside(self.guard.space.from_unit(unit))

    def added(self, z: Float[Tensor, "*batch latent"], inputs: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch"]:
        """What guard and feasibility add to the log acquisition."""
        total = self.guard.log_weight(z, self.evaluations)
        return total if self.feasibility is None else total + self.feasibility.log_probability(inputs)


class _GuidedLogNEI(qLogNoisyExpectedImprovement):
    """qLogNEI over chart coordinates, with something added to each point's log improvement before the maximum over q.

    BoTorch's PriorGuidedAcquisitionFunction does the same for one model, but fails on an ensemble, whose axis its
    `forward` averages twice; and its prior would see the surrogate's inputs, not the code.
    """

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
    """The acquisition function: noisy log expected improvement over the points told, pending ones among them.

    Args:
        terms: what is acquired.
        pending: ``(p, f)`` inputs of the surrogate.
        over_inputs: take the surrogate's inputs, with nothing added, instead of chart coordinates.
    Returns:
        BoTorch's acquisition function, ``(b, q, k) -> (b,)``.
    """
    bare = over_inputs or (terms.plain and not terms.adds)
    acquisition: Any = (qLogNoisyExpectedImprovement if bare else _GuidedLogNEI)(
        terms.surrogate.model, X_baseline=terms.surrogate.inputs, X_pending=pending if len(pending) else None
    )
    if not bare:
        acquisition.terms = terms
    return acquisition


def evaluate_acquisition(acquisition: Any, points: Float[Tensor, "b q k"]) -> Float[Tensor, " b"]:
    """Values of an acquisition function, in chunks and without gradients.

    Args:
        acquisition: ``(b, q, k) -> (b,)``.
        points: ``(b, q, k)``.
    Returns:
        ``(b,)``; what is not finite counts as the least finite value.
    """
    with torch.no_grad():
        values = torch.cat([acquisition(part) for part in torch.split(points, RAW_CHUNK)])
    finite = torch.isfinite(values)
    least = values[finite].min() if bool(finite.any()) else values.new_zeros(())
    return torch.where(finite, values, least)


def maximize(
    acquisition: Any, raw: Float[Tensor, "b q k"], bounds: Float[Tensor, "2 k"], restarts: int
) -> Float[Tensor, "q k"]:
    """The best point that L-BFGS-B finds from the most promising of some starts.

    Args:
        acquisition: ``(b, q, k) -> (b,)``.
        raw: ``(b, q, k)`` points; `restarts` of them are drawn with probability by value, the best always.
        bounds: ``(2, k)`` lower and upper.
        restarts: searches.
    Returns:
        ``(q, k)``.
    """
    values = evaluate_acquisition(acquisition, raw)
    chosen, _ = initialize_q_batch(raw, values, min(restarts, len(raw)), eta=ETA)
    found, _ = optimize_acqf(
        acquisition,
        bounds=bounds,
        q=raw.shape[1],
        num_restarts=len(chosen),
        batch_initial_conditions=chosen,
        options={"maxiter": MAXITER},
        retry_on_optimization_warning=False,
    )
    best: Tensor = found if bool(torch.isfinite(found).all()) else raw[values.argmax()]
    return best.detach()
