"""The one loop of the elementwise torch optimizers, over all elements of a search at once.

Finished elements are frozen at the code and loss at which they stopped, and leave the batch when half of it is done.
The host is read every `READ_EVERY` steps, never in between.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import Optimizer

from lso import stopping
from lso.elementwise import Factory, keep_rows
from lso.objective import LatentObjective

READ_EVERY = 20


@runtime_checkable
class Watch(Protocol):
    """What a search tells, and asks, while it runs; polled at the host reads."""

    def step(self, done: int, total: int, best: float) -> None:
        """Hear how far it is.

        Args:
            done: steps taken.
            total: steps at most.
            best: best value so far, in the user's own sense.
        """

    def stop(self) -> str | None:
        """Say whether to stop.

        Returns:
            Why to stop now, or None.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When elements stop, and what is kept of the way.

    Args:
        tol: mean absolute loss change over the window at which an element stops.
        window: steps that it is averaged over.
        max_steps: steps at most.
        trace_every: steps between entries of the trace.
        bounds: ``(2, d)`` box that codes are clipped to, or None.
    """

    tol: float | int
    window: int
    max_steps: int
    trace_every: int
    bounds: Tensor | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Outcome:
    """Where each of N elements ended. Losses, not values: the sign is still flipped.

    Args:
        z: ``(N, d)`` codes; the last finite one where a loss was not finite.
        loss: ``(N,)`` losses there.
        steps: ``(N,)`` steps at which each stopped.
        reason: ``(N,)`` index into `stopping.REASONS`.
        seconds: ``(N,)`` seconds at the host read that saw it stopped.
        trace_steps: steps of the trace.
        trace: losses of all elements at those steps; finished ones keep their last.
        calls: codes decoded.
        interrupted: why the search was stopped from outside, or None.
    """

    z: Tensor
    loss: Tensor
    steps: Tensor
    reason: Tensor
    seconds: Tensor
    trace_steps: list[int] = field(default_factory=list)
    trace: list[Tensor] = field(default_factory=list)
    calls: int = 0
    interrupted: str | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    """The elements still in the batch; changed in place.

    `end` pairs the last finite codes with their losses in one assignment, so that an interrupt never tears them apart.
    """

    rows: Tensor
    objective: LatentObjective
    z: Tensor
    optimizer: Optimizer
    end: tuple[Tensor, Tensor]
    reason: Tensor
    steps: Tensor
    window: stopping.Window | None = None


def descend(
    objective: LatentObjective,
    z0: Float[Tensor, "n latent"],
    targets: Int[Tensor, " n"],
    make: Factory,
    budget: Budget,
    watch: Watch | None = None,
) -> Outcome:
    """Minimize from every row of z0.

    Args:
        objective: the full objective.
        z0: ``(N, d)`` starting codes.
        targets: ``(N,)`` target of each row.
        make: builds the optimizer of one parameter.
        budget: when to stop.
        watch: hears of progress and may stop the search.
    Returns:
        The outcome. Ctrl-C ends the search early, too.
    """
    started = time.perf_counter()
    if budget.bounds is not None:
        budget = replace(budget, bounds=budget.bounds.to(z0))
    z = _clip(z0.detach().clone(), budget.bounds).requires_grad_()
    zeros = torch.zeros(len(z0), dtype=torch.long, device=z0.device)
    nothing = torch.full((len(z0),), torch.nan, dtype=z0.dtype, device=z0.device)
    outcome = Outcome(
        z=z.detach().clone(),
        loss=nothing,
        steps=zeros,
        reason=zeros.clone(),
        seconds=torch.full((len(z0),), torch.nan, dtype=torch.float64),
    )
    everyone = torch.arange(len(z0), device=z0.device)
    batch = _Batch(
        everyone,
        objective.take(targets),
        z,
        make([z]),
        (z.detach().clone(), nothing.clone()),
        zeros.clone(),
        zeros.clone(),
    )
    try:
        _run(batch, objective, targets, budget, watch, outcome, lambda: time.perf_counter() - started)
    except KeyboardInterrupt:
        outcome.interrupted = "interrupted"
    if len({len(batch.rows), len(batch.end[1]), len(batch.reason), len(batch.steps)}) == 1:
        _commit(batch, outcome)  # else cut inside `_shrink`, right after a commit
    outcome.reason[outcome.reason == stopping.RUNNING] = stopping.STOPPED
    outcome.seconds[outcome.seconds.isnan()] = time.perf_counter() - started
    return outcome


def _run(
    batch: _Batch,
    objective: LatentObjective,
    targets: Tensor,
    budget: Budget,
    watch: Watch | None,
    outcome: Outcome,
    clock: Callable[[], float],
) -> None:
    for step in range(budget.max_steps + 1):
        _evaluate(batch, step, budget, outcome)
        last = step == budget.max_steps
        if step % budget.trace_every == 0 or last:
            _trace(batch, step, outcome)
        if step % READ_EVERY == 0 or last:
            _commit(batch, outcome)
            if _read_host(outcome, step, budget, watch, objective.sign, clock):
                break
            running = (batch.reason == stopping.RUNNING).nonzero().squeeze(1)
            if 2 * len(running) <= len(batch.rows):
                _shrink(batch, running, objective, targets)
        _step(batch, budget.bounds)
    if outcome.trace_steps[-1:] != [step]:
        _trace(batch, step, outcome)


def _evaluate(batch: _Batch, step: int, budget: Budget, outcome: Outcome) -> None:
    """Losses and gradients at the current codes, and who stops there."""
    z = batch.z.detach()
    loss, grad = batch.objective.loss_and_grad(z)
    outcome.calls += len(z)
    finite = torch.isfinite(loss) & torch.isfinite(z).all(-1)
    running = batch.reason == stopping.RUNNING
    # A start that is not finite already keeps its own loss as the record of that.
    good = running & (finite if step else torch.ones_like(finite))
    batch.end = torch.where(good[:, None], z, batch.end[0]), torch.where(good, loss, batch.end[1])
    if batch.window is None:
        batch.window = stopping.init(loss, budget.window)
        still = torch.zeros_like(finite)
    else:
        still = stopping.observe(batch.window, loss) <= budget.tol
    # What is written last counts: not finite before tolerance before the end of the budget.
    reason = torch.full_like(batch.reason, stopping.MAX_STEPS if step == budget.max_steps else stopping.RUNNING)
    reason = torch.where(still, stopping.TOLERANCE, reason)
    reason = torch.where(finite, reason, stopping.NOT_FINITE)
    batch.reason = torch.where(running, reason, batch.reason)
    batch.steps = torch.where(running, step, batch.steps)
    batch.z.grad = torch.where((batch.reason == stopping.RUNNING)[:, None], grad, 0.0)


def _step(batch: _Batch, bounds: Tensor | None) -> None:
    batch.optimizer.step()
    running = (batch.reason == stopping.RUNNING)[:, None]
    batch.z.data = torch.where(running, _clip(batch.z.data, bounds), batch.end[0])


def _clip(z: Tensor, bounds: Tensor | None) -> Tensor:
    return z if bounds is None else torch.minimum(torch.maximum(z, bounds[0]), bounds[1])


def _trace(batch: _Batch, step: int, outcome: Outcome) -> None:
    outcome.loss[batch.rows] = batch.end[1]
    outcome.trace_steps.append(step)
    outcome.trace.append(outcome.loss.clone())


def _commit(batch: _Batch, outcome: Outcome) -> None:
    outcome.z[batch.rows], outcome.loss[batch.rows] = batch.end
    outcome.steps[batch.rows], outcome.reason[batch.rows] = batch.steps, batch.reason


def _read_host(
    outcome: Outcome, step: int, budget: Budget, watch: Watch | None, sign: float, clock: Callable[[], float]
) -> bool:
    """The one look at the device: who is done, and how good the best is. True ends the search."""
    worst = torch.full_like(outcome.loss, torch.inf)
    best = torch.where(torch.isfinite(outcome.loss), outcome.loss, worst).min()
    read = torch.cat([outcome.reason.to(outcome.loss.dtype), best[None]]).cpu()
    done = read[:-1] != stopping.RUNNING
    outcome.seconds[done & outcome.seconds.isnan()] = clock()
    if watch is not None:
        watch.step(step, budget.max_steps, sign * float(read[-1]))
        outcome.interrupted = watch.stop()
    return bool(done.all()) or outcome.interrupted is not None


def _shrink(batch: _Batch, rows: Tensor, objective: LatentObjective, targets: Tensor) -> None:
    assert batch.window is not None
    keep_rows_of = (batch.end[0][rows], batch.end[1][rows])
    grad = batch.z.grad
    keep_rows(batch.optimizer, batch.z, rows)
    batch.z.grad = None if grad is None else grad[rows]
    stopping.keep(batch.window, rows)
    batch.end, batch.reason, batch.steps = keep_rows_of, batch.reason[rows], batch.steps[rows]
    batch.rows = batch.rows[rows]
    batch.objective = objective.take(targets[batch.rows])
