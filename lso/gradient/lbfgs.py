"""Gradient search by BoTorch's batched L-BFGS-B, with the stopping rule that all optimizers share.

A step is an iteration: one accepted point. The rule of `lso.gradient.stopping` is applied to each element after each of
its iterations. L-BFGS-B's own tolerances are 0, so that by itself it stops only where the loss does not decrease any
more.
"""

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso._botorch import importing_botorch
from lso.gradient import stopping
from lso.gradient.elementwise import READ_EVERY, Budget, DescentResult, search_event
from lso.objectives.latent_objective import LatentObjective
from lso.vae.callbacks import Callback

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

# The loss reported for a trial point that is not finite lies this factor above the last accepted loss: the line search
# then steps back.
NOT_FINITE_PENALTY = 1e10
# A last change below this share of the loss counts as none: a few units in the last place of single precision, in which
# most decoders compute.
ROUNDING_SHARE = 1e-6


class _SearchStopped(Exception):
    """Raised inside the minimizer to end the search; its message is the reason."""


@dataclass(slots=True, eq=False)
class _Element:
    """The state of one element (a pair of target and start) of the search."""

    z: "NDArray[numpy.float64]"  # last accepted code
    losses: list[float]  # at the start and at every accepted point
    trial: "tuple[NDArray[numpy.float64], float]"  # code last evaluated, and its loss
    not_finite: bool = False  # whether a trial since the last accepted point was not finite
    reason: int = stopping.RUNNING  # why it stopped, where the stop was not L-BFGS-B's own
    seconds: float = 0.0  # time of the last accepted point


def descend(
    objective: LatentObjective,
    z0: Float[Tensor, "n latent"],
    targets: Int[Tensor, " n"],
    options: dict[str, Any],
    budget: Budget,
    callback: Callback,
) -> DescentResult:
    """Minimize from every row of z0."""
    with importing_botorch():
        from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    start = z0.detach().cpu().double()
    box = None
    if budget.bounds is not None:
        box = [(float(a), float(b)) for a, b in budget.bounds.T]
        start = torch.minimum(torch.maximum(start, budget.bounds[0].to(start)), budget.bounds[1].to(start))
    search = _LbfgsProblem(objective, targets, start.numpy(), budget, callback)
    messages, interrupted = [""] * len(z0), None
    try:
        # As BoTorch does: SciPy's many tiny products are slower on several threads, much slower on a busy machine.
        with threadpool_limits(limits=1, user_api="blas"):
            _, _, results = fmin_l_bfgs_b_batched(  # type: ignore[no-untyped-call]
                search.losses,
                start.numpy(),
                bounds=box,
                factr=None,
                ftol=0.0,
                pgtol=0.0,
                maxiter=budget.max_steps,
                callback=search.on_accepted,
                pass_batch_indices=True,
                **options,
            )
        messages = [result["message"] for result in results]
    except (KeyboardInterrupt, _SearchStopped) as stop:
        interrupted = str(stop) or "interrupted"
    return search.outcome(z0, messages, interrupted)


class _LbfgsProblem:
    """Losses for the minimizer, and a record of the points that it accepts, in host code like L-BFGS-B itself."""

    def __init__(
        self, objective: LatentObjective, targets: Tensor, start: Any, budget: Budget, callback: Callback
    ) -> None:
        self.objective, self.targets, self.budget, self.callback = objective, targets, budget, callback
        self.elements = [_Element(row.copy(), [], (row.copy(), 0.0)) for row in start]
        self.element_of_array: dict[int, int] = {}  # id of the minimizer's array -> number of its element
        self.calls = self.rounds = 0
        self.started = time.perf_counter()

    def losses(self, x: Any, batch_indices: list[int]) -> tuple[Any, Any]:
        """Losses and gradients ``(n,)``, ``(n, d)`` of the trial points of some elements."""
        import numpy

        self._poll()
        f, g = self.objective.take(self.targets[batch_indices]).value_and_grad(x)
        self.calls += len(x)
        finite = numpy.isfinite(f) & numpy.isfinite(g).all(1)
        g = numpy.where(finite[:, None], g, 0.0)
        for row, index in enumerate(batch_indices):
            element = self.elements[index]
            if not element.losses:
                element.losses.append(float(f[row]))
                if not finite[row]:  # a loss of 0 with gradient 0 ends the element at once
                    element.reason, f[row] = stopping.NOT_FINITE, 0.0
            elif not finite[row]:
                element.not_finite, f[row] = (
                    True,
                    element.losses[-1] + NOT_FINITE_PENALTY * (1 + abs(element.losses[-1])),
                )
            element.trial = x[row].copy(), float(f[row])
        return f, g

    def on_accepted(self, intermediate_result: Any) -> None:
        """The minimizer's callback: record an accepted point of one element, and end the element by StopIteration."""
        element = self.elements[self._element_of(intermediate_result.x)]
        element.z, element.not_finite = intermediate_result.x.copy(), False
        element.losses.append(float(intermediate_result.fun))
        element.seconds = time.perf_counter() - self.started
        window = element.losses[-self.budget.window - 1 :]
        if len(window) <= self.budget.window:
            return
        change = sum(abs(b - a) for a, b in pairwise(window)) / self.budget.window
        if change <= self.budget.tol:
            element.reason = stopping.TOLERANCE
            raise StopIteration

    def _element_of(self, x: Any) -> int:
        # BoTorch does not say which element a point belongs to, but passes the same array for an element each time. At
        # its first point the element is the one whose last trial point this is: an accepted point was just evaluated.
        if id(x) not in self.element_of_array:
            taken = set(self.element_of_array.values())
            free = [i for i in range(len(self.elements)) if i not in taken]
            nearest = min(free, key=lambda i: float(abs(self.elements[i].trial[0] - x).max()))
            self.element_of_array[id(x)] = nearest
        return self.element_of_array[id(x)]

    def _poll(self) -> None:
        if self.rounds % READ_EVERY == 0:
            done = max(len(element.losses) - 1 for element in self.elements) if self.rounds else 0
            finite = [e.losses[-1] for e in self.elements if e.losses and abs(e.losses[-1]) < float("inf")]
            best = self.objective.sign * min(finite, default=float("nan"))
            self.callback.on_step(search_event(max(done, 0), self.budget, best))
            if reason := self.callback.should_stop():
                raise _SearchStopped(reason)
        self.rounds += 1

    def outcome(self, z0: Tensor, messages: list[str], interrupted: str | None) -> DescentResult:
        """The end of every element, from the minimizer's message for each and the reason of an interruption."""
        losses = [element.losses or [float("nan")] for element in self.elements]
        steps = torch.tensor([len(path) - 1 for path in losses])
        end = int(steps.max())
        trace_steps = list(range(0, end + 1, self.budget.trace_every))
        trace_steps += [end] if trace_steps[-1] != end else []
        reasons = [
            _reason(e, m, interrupted is not None, self.budget.tol)
            for e, m in zip(self.elements, messages, strict=True)
        ]
        return DescentResult(
            z=torch.stack([torch.from_numpy(e.z) for e in self.elements]).to(z0),
            loss=torch.tensor([path[-1] for path in losses], dtype=torch.float64).to(z0),
            steps=steps.to(z0.device),
            reason=torch.tensor(reasons, device=z0.device),
            seconds=torch.tensor([e.seconds for e in self.elements], dtype=torch.float64),
            trace_steps=trace_steps,
            trace=[
                torch.tensor([path[min(k, len(path) - 1)] for path in losses], dtype=torch.float64).to(z0)
                for k in trace_steps
            ],
            calls=self.calls,
            interrupted=interrupted,
        )


def _reason(element: _Element, message: str, interrupted: bool, tol: float | int) -> int:
    if element.reason != stopping.RUNNING:
        return element.reason
    if interrupted:
        return stopping.STOPPED
    if "CONVERGENCE" in message:  # with zero tolerances: no gradient, or exactly no change
        return stopping.TOLERANCE
    if "ITERATIONS" in message:
        return stopping.MAX_STEPS
    if element.not_finite:
        return stopping.NOT_FINITE
    # A line search that fails by rounding alone has converged: further steps would leave the loss as it is.
    level = max(tol, ROUNDING_SHARE * max(1.0, abs(element.losses[-1])))
    last = abs(element.losses[-1] - element.losses[-2]) if len(element.losses) > 1 else float("inf")
    return stopping.TOLERANCE if last <= level else stopping.LINE_SEARCH
