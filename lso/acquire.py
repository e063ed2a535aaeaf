"""The acquisition of Gaussian-process searches: qLogNEI over chart coordinates, with guard and feasibility added.

Loads BoTorch; only what has been asked for a model imports it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lso.guard import Guard
from lso.quiet import importing_botorch
from lso.surrogate import Feasibility, Surrogate

with importing_botorch():
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.prior_guided import PriorGuidedAcquisitionFunction
    from botorch.optim import optimize_acqf
    from botorch.optim.initializers import initialize_q_batch

# Raw starts scored at once; temperature of their choice and iterations of the search, as BoTorch has them.
CHUNK, ETA, MAXITER = 512, 2.0, 200


@dataclass(frozen=True, eq=False, kw_only=True)
class Terms:
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
        """Inputs of the surrogate for chart coordinates.

        Args:
            unit: ``(..., k)``.
        Returns:
            ``(..., f)``.
        """
        return unit if self.plain else self.view(self.codes(unit))

    def codes(self, unit: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch latent"]:
        """Codes at chart coordinates, where the hard guard allows them.

        Args:
            unit: ``(..., k)``.
        Returns:
            ``(..., d)``.
        """
        return self.guard.inside(self.guard.space.from_unit(unit))

    def added(
        self, z: Float[Tensor, "*batch latent"], inputs: Float[Tensor, "*batch f"]
    ) -> Float[Tensor, "*batch"]:
        """What guard and feasibility add to the log acquisition.

        Args:
            z: ``(..., d)`` codes.
            inputs: ``(..., f)`` of the models, for these codes.
        Returns:
            ``(...)`` nats.
        """
        total = self.guard.log_weight(z, self.evaluations)
        return total if self.feasibility is None else total + self.feasibility.log_probability(inputs)


class _Improvement(qLogNoisyExpectedImprovement):  # type: ignore[misc]
    """qLogNEI whose model sees something else than the coordinates that are optimized."""

    inputs: Callable[[Tensor], Tensor]

    def _get_samples_and_objectives(self, X: Tensor) -> tuple[Tensor, Tensor]:
        pair: tuple[Tensor, Tensor] = super()._get_samples_and_objectives(self.inputs(X))
        return pair


class _Added(nn.Module):
    """What is added to each point's log improvement, in the shape that BoTorch's prior-guided acquisition asks for."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self._terms = terms

    def forward(self, X: Tensor) -> Tensor:
        added = self._terms.added(self._terms.codes(X), self._terms.inputs(X))
        return added.unsqueeze(-2) if self._terms.surrogate.kind == "saas" else added  # an axis for the ensemble


def improvement(terms: Terms, pending: Float[Tensor, "p f"], *, over_inputs: bool = False) -> Any:
    """The acquisition function: noisy log expected improvement over the points told, pending ones among them.

    Args:
        terms: what is acquired.
        pending: ``(p, f)`` inputs of the surrogate.
        over_inputs: take the surrogate's inputs, with nothing added, instead of chart coordinates.
    Returns:
        BoTorch's acquisition function, ``(b, q, k) -> (b,)``.
    """
    kind = qLogNoisyExpectedImprovement if terms.plain or over_inputs else _Improvement
    acquisition = kind(
        terms.surrogate.model, X_baseline=terms.surrogate.inputs, X_pending=pending if len(pending) else None
    )
    if over_inputs:
        return acquisition
    if not terms.plain:
        acquisition.inputs = terms.inputs
    return (
        PriorGuidedAcquisitionFunction(acquisition, _Added(terms), log=True) if terms.adds else acquisition
    )


def scored(acquisition: Any, points: Float[Tensor, "b q k"]) -> Float[Tensor, " b"]:
    """Values of an acquisition function, in chunks and without gradients.

    Args:
        acquisition: ``(b, q, k) -> (b,)``.
        points: ``(b, q, k)``.
    Returns:
        ``(b,)``; what is not finite counts as the least finite value.
    """
    with torch.no_grad():
        values = torch.cat([acquisition(part) for part in points.split(CHUNK)])
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
    values = scored(acquisition, raw)
    chosen, _ = initialize_q_batch(raw, values, min(restarts, len(raw)), eta=ETA)
    found, value = optimize_acqf(
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
