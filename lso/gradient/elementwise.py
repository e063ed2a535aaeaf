"""Gradient search by torch optimizers: all elements (pairs of target and start) of a search advance as one batch.

A finished element is frozen at the code and loss at which it stopped; finished elements leave the batch once they are
half of it. Results are copied from the device to the host every `READ_EVERY` steps, never in between, as each copy
waits for the device.
"""

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import Optimizer

from lso.gradient import stopping
from lso.objectives.latent_objective import LatentObjective
from lso.optimizers import BLACK_BOX_OPTIMIZERS, COUPLING_OPTIMIZERS, GRADIENT_OPTIMIZERS
from lso.vae.callbacks import Callback, Event, as_callback
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.random import generator

Factory = Callable[[list[Tensor]], Optimizer]

PROBE_STEPS = 6
PROBE_SCALE = 1e4  # factor on the other rows' gradients in the probe: enough to trigger clipping by a common norm


def resolve_torch_optimizer(
    optimizer: str | type[Optimizer], lr: float | int | None, options: Mapping[str, Any]
) -> tuple[str, Factory, dict[str, Any]]:
    """Resolve a torch optimizer to its name, a function ``[z] -> optimizer`` and the class's arguments.

    ``optimizer`` is a row of the table, the name of a class in `torch.optim` in any case, or a class. Optimizers that
    couple the elements of a batch are refused. A learning rate of None is the table's, else the class's own default.
    """
    spec = GRADIENT_OPTIMIZERS.get(optimizer) if isinstance(optimizer, str) else None
    kind = _torch_class(spec.torch_name if spec else optimizer)
    name = optimizer if spec and isinstance(optimizer, str) else kind.__name__
    if kind.__name__.lower() in COUPLING_OPTIMIZERS:
        raise _coupling_error(kind.__name__, COUPLING_OPTIMIZERS[kind.__name__.lower()])
    if "maximize" in options:
        raise UsageError("maximize is not an option of the optimizer", "Pass maximize=True to the objective instead.")
    arguments = dict(spec.options if spec else {}) | dict(options)
    learning_rate = lr if lr is not None else (spec.learning_rate if spec else None)
    if learning_rate is not None:
        arguments["lr"] = learning_rate

    def make(parameters: list[Tensor]) -> Optimizer:
        return kind(parameters, **arguments)

    _probe(kind.__name__, make)
    return name, make, arguments


def _torch_class(optimizer: str | type[Optimizer]) -> type[Optimizer]:
    if not isinstance(optimizer, str):
        return optimizer
    classes = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, Optimizer) and value is not Optimizer
    }
    if optimizer in BLACK_BOX_OPTIMIZERS:
        raise UsageError(f"{optimizer} takes no gradients", f"Search by lso.optimize(objective, {optimizer!r}).")
    if optimizer.lower() not in classes:
        elementwise = {*GRADIENT_OPTIMIZERS, *(classes.keys() - COUPLING_OPTIMIZERS.keys())}
        raise unknown_name("optimizer", optimizer, {*elementwise, *BLACK_BOX_OPTIMIZERS})
    return classes[optimizer.lower()]


def _coupling_error(name: str, why: str) -> UsageError:
    own = GRADIENT_OPTIMIZERS.get(name.lower())
    instead = f"Use optimizer={name.lower()!r}: {own.summary}." if own else f"Use {', '.join(GRADIENT_OPTIMIZERS)}."
    return UsageError(f"{name} cannot run a batch of independent searches: {why}", instead)


def keep_rows(optimizer: Optimizer, z: Tensor, rows: Tensor) -> None:
    """Keep only these rows of a parameter and of the optimizer's state of it, in place."""
    n = len(z)
    state = optimizer.state[z]
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == n:
            state[key] = value[rows.to(value.device)]
    z.grad = None
    z.data = z.data[rows]


def _probe(name: str, make: Factory) -> None:
    """Run a few steps to verify that a row's path depends neither on the other rows nor on their leaving half way."""
    try:
        alone, quiet, loud = (
            _probe_path(make, [0], 1.0),
            _probe_path(make, [0, 1, 2], 1.0),
            _probe_path(make, [0, 1, 2], PROBE_SCALE),
        )
        left = _probe_path(make, [0, 1, 2], 1.0, drop=True)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name} cannot be run on codes: {error}",
            "Check its options. Optimizers that need a closure cannot be used.",
        ) from error
    # Compared with a tolerance, since a row of a larger batch may be computed by other vector instructions.
    if not all(torch.allclose(alone, path, rtol=1e-9, atol=1e-12) for path in (quiet, loud, left)):
        raise _coupling_error(name, "the step of one element changed with the gradients of the others")


def _probe_path(make: Factory, rows: list[int], scale: float, drop: bool = False) -> Tensor:
    random = generator(0, "elementwise")
    start, slope = (torch.randn(3, 5, generator=random, dtype=torch.float64) for _ in range(2))
    volume = torch.tensor([1.0, scale, -scale], dtype=torch.float64)[:, None]
    z = start[rows].clone().requires_grad_()
    optimizer = make([z])
    for step in range(PROBE_STEPS):
        if drop and step == PROBE_STEPS // 2:
            rows = [0, 2]
            keep_rows(optimizer, z, torch.tensor([0, 2]))
        z.grad = ((slope + 0.1 * step) * volume)[rows] + 0.3 * z.detach()
        optimizer.step()
    return z.detach()[0]


READ_EVERY = 20


@runtime_checkable
class DescentCallback(Protocol):
    """The method names of callbacks in earlier versions, which still work; new ones derive from `Callback`."""

    def step(self, done: int, total: int, best: float) -> None:
        """Receive the steps taken, the steps at most, and the best value so far in the user's sense."""

    def stop(self) -> str | None:
        """Return the reason to stop now, or None to continue."""


class _DescentNames(Callback):
    """Makes a callback of an earlier version one of today."""

    def __init__(self, callback: DescentCallback) -> None:
        self._callback = callback

    def on_step(self, event: Event) -> None:
        self._callback.step(event.done, event.total, event.values.get("best", math.nan))

    def should_stop(self) -> str | None:
        return self._callback.stop()


def gradient_callback(callback: "Callback | DescentCallback | None") -> Callback:
    """The callback of a search, from what a user may give."""
    if isinstance(callback, DescentCallback) and not isinstance(callback, Callback):
        return _DescentNames(callback)
    return as_callback(callback)


def search_event(done: int, budget: "Budget", best: float) -> Event:
    """What the callback is told whenever results are copied to the host; ``best`` is as the user sees it, NaN before
    the first value."""
    values = {} if math.isnan(best) else {"best": best}
    return Event(work="gradient search", done=done, total=budget.max_steps, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When elements stop, how often losses are traced, and the box that codes are kept in."""

    tol: float | int  # an element stops where its mean absolute loss change over the window is at most this
    window: int  # steps
    max_steps: int
    trace_every: int  # steps between entries of the trace
    bounds: Tensor | None = None  # (2, d) box that codes are clipped to


@dataclass(slots=True, kw_only=True, eq=False)
class DescentResult:
    """Where each of N elements ended, as losses to be minimized: minus the value where the objective is maximized."""

    z: Tensor  # (N, d) codes; the last finite one where a loss was not finite
    loss: Tensor  # (N,) losses at these codes
    steps: Tensor  # (N,) step at which each stopped
    reason: Tensor  # (N,) index into `stopping.REASONS`
    seconds: Tensor  # (N,) time of the first host read that saw the element stopped
    trace_steps: list[int] = field(default_factory=list)
    trace: list[Tensor] = field(
        default_factory=list
    )  # losses of all elements at those steps; finished ones keep theirs
    calls: int = 0  # codes decoded
    interrupted: str | None = None  # why the search was stopped from outside


@dataclass(slots=True, eq=False)
class _Batch:
    """The elements that are still in the batch; changed in place."""

    rows: Tensor  # their numbers among all elements of the search
    objective: LatentObjective
    z: Tensor
    optimizer: Optimizer
    # Last finite codes and their losses, replaced by one assignment, so that Ctrl-C cannot separate them.
    end: tuple[Tensor, Tensor]
    reason: Tensor
    steps: Tensor
    window: stopping.Window | None = None


def descend_elementwise(
    objective: LatentObjective,
    z0: Float[Tensor, "n latent"],
    targets: Int[Tensor, " n"],
    make: Factory,
    budget: Budget,
    callback: Callback,
) -> DescentResult:
    """Minimize from every row of z0."""
    started = time.perf_counter()
    if budget.bounds is not None:
        budget = replace(budget, bounds=budget.bounds.to(z0))
    z = _clip(z0.detach().clone(), budget.bounds).requires_grad_()
    zeros = torch.zeros(len(z0), dtype=torch.long, device=z0.device)
    nan = torch.full((len(z0),), torch.nan, dtype=z0.dtype, device=z0.device)
    outcome = DescentResult(
        z=z.detach().clone(),
        loss=nan,
        steps=zeros,
        reason=zeros.clone(),
        seconds=torch.full((len(z0),), torch.nan, dtype=torch.float64),
    )
    all_rows = torch.arange(len(z0), device=z0.device)
    batch = _Batch(
        all_rows,
        objective.take(targets),
        z,
        make([z]),
        (z.detach().clone(), nan.clone()),
        zeros.clone(),
        zeros.clone(),
    )
    try:
        _run(batch, objective, targets, budget, callback, outcome, lambda: time.perf_counter() - started)
    except KeyboardInterrupt:
        outcome.interrupted = "interrupted"
    if len({len(batch.rows), len(batch.end[1]), len(batch.reason), len(batch.steps)}) == 1:
        _commit(batch, outcome)  # other lengths: interrupted inside `_drop_finished`, right after a commit
    outcome.reason[outcome.reason == stopping.RUNNING] = stopping.STOPPED
    outcome.seconds[outcome.seconds.isnan()] = time.perf_counter() - started
    return outcome


def _run(
    batch: _Batch,
    objective: LatentObjective,
    targets: Tensor,
    budget: Budget,
    callback: Callback,
    outcome: DescentResult,
    clock: Callable[[], float],
) -> None:
    for step in range(budget.max_steps + 1):
        _evaluate(batch, step, budget, outcome)
        last = step == budget.max_steps
        if step % budget.trace_every == 0 or last:
            _trace(batch, step, outcome)
        if step % READ_EVERY == 0 or last:
            _commit(batch, outcome)
            if _read_host(outcome, step, budget, callback, objective.sign, clock):
                break
            running = (batch.reason == stopping.RUNNING).nonzero().squeeze(1)
            if 2 * len(running) <= len(batch.rows):
                _drop_finished(batch, running, objective, targets)
        _step(batch, budget.bounds)
    if outcome.trace_steps[-1:] != [step]:
        _trace(batch, step, outcome)


def _evaluate(batch: _Batch, step: int, budget: Budget, outcome: DescentResult) -> None:
    """Compute losses and gradients at the current codes, and mark the elements that stop there."""
    z = batch.z.detach()
    loss, grad = batch.objective.loss_and_grad(z)
    outcome.calls += len(z)
    finite = torch.isfinite(loss) & torch.isfinite(z).all(-1)
    running = batch.reason == stopping.RUNNING
    # At step 0 a loss that is not finite is kept as well: there is no earlier one to report.
    accepted = running & (finite if step else torch.ones_like(finite))
    batch.end = torch.where(accepted[:, None], z, batch.end[0]), torch.where(accepted, loss, batch.end[1])
    if batch.window is None:
        batch.window = stopping.start_window(loss, budget.window)
        converged = torch.zeros_like(finite)
    else:
        converged = stopping.observe(batch.window, loss) <= budget.tol
    # Later lines take precedence: not finite over tolerance, tolerance over the maximum of steps.
    reason = torch.full_like(batch.reason, stopping.MAX_STEPS if step == budget.max_steps else stopping.RUNNING)
    reason = torch.where(converged, stopping.TOLERANCE, reason)
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


def _trace(batch: _Batch, step: int, outcome: DescentResult) -> None:
    outcome.loss[batch.rows] = batch.end[1]
    outcome.trace_steps.append(step)
    outcome.trace.append(outcome.loss.clone())


def _commit(batch: _Batch, outcome: DescentResult) -> None:
    outcome.z[batch.rows], outcome.loss[batch.rows] = batch.end
    outcome.steps[batch.rows], outcome.reason[batch.rows] = batch.steps, batch.reason


def _read_host(
    outcome: DescentResult,
    step: int,
    budget: Budget,
    callback: Callback,
    sign: float,
    clock: Callable[[], float],
) -> bool:
    """Copy stop reasons and the best loss to the host, in one transfer; True where the search is to end."""
    worst = torch.full_like(outcome.loss, torch.inf)
    best = torch.where(torch.isfinite(outcome.loss), outcome.loss, worst).min()
    read = torch.cat([outcome.reason.to(outcome.loss.dtype), best[None]]).cpu()
    done = read[:-1] != stopping.RUNNING
    outcome.seconds[done & outcome.seconds.isnan()] = clock()
    callback.on_step(search_event(step, budget, sign * float(read[-1])))
    outcome.interrupted = callback.should_stop()
    return bool(done.all()) or outcome.interrupted is not None


def _drop_finished(batch: _Batch, rows: Tensor, objective: LatentObjective, targets: Tensor) -> None:
    assert batch.window is not None
    end = (batch.end[0][rows], batch.end[1][rows])
    grad = batch.z.grad
    keep_rows(batch.optimizer, batch.z, rows)
    batch.z.grad = None if grad is None else grad[rows]
    stopping.keep_elements(batch.window, rows)
    batch.end, batch.reason, batch.steps = end, batch.reason[rows], batch.steps[rows]
    batch.rows = batch.rows[rows]
    batch.objective = objective.take(targets[batch.rows])
