"""Gradient search: all targets and all starts as one batch of independent elements."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from lso.gradient import elementwise, stopping
from lso.gradient.elementwise import (
    Budget,
    DescentCallback,
    DescentResult,
    Factory,
    gradient_callback,
    resolve_torch_optimizer,
)
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.scores import not_differentiable_error
from lso.optimizers import GRADIENT_OPTIMIZERS, merge_options
from lso.results.evaluation import evaluations
from lso.results.result import Evaluation, Result, Trace, status_of
from lso.vae.callbacks import Callback, Event
from lso.vae.errors import ShapeError, UsageError
from lso.vae.progress import draw_progress
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.lazy import resolve
from lso.vae.utils.validation import require


@renamed_arguments(watch="callback")
def minimize(
    objective: LatentObjective,
    z0: Float[Tensor, "*batch latent"],
    optimizer: str | type[Optimizer] = "adam",
    *,
    lr: float | int | None = None,
    tol: float | int = 1e-3,
    window: int = 20,
    max_steps: int = 1000,
    trace_every: int = 10,
    bounds: Tensor | None = None,
    start_names: list[str] | None = None,
    callback: Callback | DescentCallback | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Search by gradient from every start for every target at once; an objective with ``maximize`` is maximized.

    An element (a pair of target and start) stops at the first step where its mean absolute loss change over the last
    ``window`` steps is at most ``tol`` (0: exactly unchanged), or at ``max_steps``. Its result does not depend on the
    others in the batch. For ``lbfgs`` a step is an iteration, and the same rule is applied to iterations; L-BFGS-B's
    own tolerances are 0. A step of ``adam`` or ``sgd`` costs one decode and one backward pass, one of ``lbfgs`` a
    little more.

    Args:
        objective: the objective to minimize or maximize.
        z0: ``(T, S, d)`` starts, or ``(T, d)`` for one start each; without targets, or with one, any leading axes.
        optimizer: ``adam`` (learning rate 0.05), ``sgd`` (0.01, momentum 0.9), ``lbfgs``, or the name or class of any
            torch optimizer that treats the rows of a batch independently, at its own default learning rate. A name may
            have options: ``"sgd:momentum=0.5"``.
        lr: learning rate; None is the optimizer's default; ``lbfgs`` has none.
        tol: see above; in the units of the loss. At 1e-3 Adam stops after some hundreds of steps on summed squared
            errors of images of digits.
        window: see above.
        max_steps: steps at most, >= 1.
        trace_every: steps between entries of the trace.
        bounds: ``(2, d)`` box that codes are kept in; None is no box, or the objective's where that is strict.
        start_names: S names of the starts.
        callback: receives progress and may stop the search early, as Ctrl-C does; the result so far is then returned.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        options: further arguments of the optimizer, e.g. ``{"betas": (0.9, 0.99)}``; for ``lbfgs`` maxcor and maxls.
    Returns:
        The result: final codes, values, trace, one evaluation for each element; tensors on z0's device in its dtype.
    Raises:
        UsageError: if the objective is not differentiable, the optimizer is unknown or couples the elements of a batch,
            or a number is out of range.
        ShapeError: if the starts do not fit the objective.
        LsoError: if the decoder's weights changed during the search.
    """
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    if not objective.differentiable:
        reason = (
            "its score works on objects" if objective.on == "objects" else "its decoder is declared not differentiable"
        )
        raise not_differentiable_error(objective.name, reason, name)
    require(tol >= 0, "tol >= 0", tol, "0 stops where the loss is exactly unchanged.")
    require(
        window >= 1 and max_steps >= 1,
        "window and max_steps >= 1",
        (window, max_steps),
        "20 and 1000 are the defaults.",
    )
    require(trace_every >= 1, "trace_every >= 1", trace_every, "10 is the default.")
    starts = _as_targets_by_starts(objective, z0)
    names = start_names or ([f"start {i + 1}" for i in range(starts.shape[1])])
    if len(names) != starts.shape[1]:
        raise ShapeError(f"expected {starts.shape[1]} start names, got {len(names)}", "Name each start once.")
    box = objective.bounds.cpu() if bounds is None and objective.strict else bounds
    budget = Budget(tol=tol, window=window, max_steps=max_steps, trace_every=trace_every, bounds=box)
    begun = time.perf_counter()
    with draw_progress(gradient_callback(callback), progress) as seen:
        seen.on_start(Event(work="gradient search", total=max_steps, source=objective))
        try:
            name, outcome, arguments = _run(objective, starts, optimizer, lr, dict(options or {}), budget, seen)
        finally:
            seen.on_end(Event(work="gradient search", total=max_steps, source=objective))
    objective.decoder.verify()
    settings = {
        "tol": tol,
        "window": window,
        "max_steps": max_steps,
        "trace_every": trace_every,
        "bounds": None if box is None else box.tolist(),
        **arguments,
    }
    return _result(objective, name, settings, starts, names, outcome, begun)


def _as_targets_by_starts(objective: LatentObjective, z0: Tensor) -> Tensor:
    count = 1 if objective.targets is None else len(objective.targets)
    d = objective.dim
    if z0.ndim == 0 or z0.shape[-1] != d or z0.numel() == 0 or (count > 1 and (z0.ndim < 2 or len(z0) != count)):
        raise ShapeError(
            f"expected starts ({count}, starts, {d}), got {tuple(z0.shape)}",
            "The axes are targets, starts, latent dimensions.",
        )
    require(
        bool(torch.isfinite(z0).all()),
        "finite starts",
        "some that are NaN or infinite",
        "lso.gradient.initial_points.make_starts makes finite ones.",
    )
    return z0.detach().reshape(count, -1, d)


def _run(
    objective: LatentObjective,
    starts: Tensor,
    optimizer: str | type[Optimizer],
    lr: float | int | None,
    options: dict[str, Any],
    budget: Budget,
    callback: Callback,
) -> tuple[str, DescentResult, dict[str, Any]]:
    count, each, _ = starts.shape
    flat = starts.reshape(count * each, -1).to(objective.decoder.device)  # here, so that the steps copy nothing
    targets = torch.arange(count, device=flat.device).repeat_interleave(each)
    name, make, arguments = resolve_optimizer(optimizer, lr, options)
    if make is None:
        descend = resolve(GRADIENT_OPTIMIZERS[name].descend)
        return name, descend(objective, flat, targets, arguments, budget, callback), arguments
    return name, elementwise.descend_elementwise(objective, flat, targets, make, budget, callback), arguments


def resolve_optimizer(
    optimizer: str | type[Optimizer], lr: float | int | None, options: Mapping[str, Any]
) -> tuple[str, Factory | None, dict[str, Any]]:
    """Resolve an optimizer to its name, a function ``[z] -> optimizer`` and its arguments, or refuse it.

    The function is None for an optimizer that is not torch's, such as ``lbfgs``. Called before anything is decoded or
    written, so that a wrong name or option costs nothing.
    """
    if isinstance(optimizer, str):
        optimizer, options = merge_options(optimizer, options)
    if "lr" in options:
        if lr is not None:
            raise UsageError("the learning rate is given twice, as lr and among the options", "Give it once.")
        lr, options = options["lr"], {key: value for key, value in options.items() if key != "lr"}
    spec = GRADIENT_OPTIMIZERS.get(optimizer) if isinstance(optimizer, str) else None
    if spec is None or not isinstance(optimizer, str) or not spec.descend:
        return resolve_torch_optimizer(optimizer, lr, options)
    if lr is not None:
        raise UsageError(f"{optimizer} has no learning rate", "Leave lr out; the optimizer chooses its steps itself.")
    if unknown := options.keys() - set(spec.option_names):
        taken = " and ".join(spec.option_names) or "none"
        raise UsageError(f"{optimizer} has no option {', '.join(sorted(unknown))}", f"It takes {taken}.")
    return optimizer, None, dict(options)


def _result(
    objective: LatentObjective,
    name: str,
    settings: dict[str, Any],
    starts: Tensor,
    names: list[str],
    outcome: DescentResult,
    begun: float,
) -> Result:
    count, each, d = starts.shape
    sign = objective.sign
    z = outcome.z.reshape(count, each, d).to(starts.device)
    value = (sign * outcome.loss).reshape(count, each).to(starts.device)
    reasons = [stopping.REASONS[i] for i in outcome.reason.tolist()]
    records = evaluations(objective, z, value, outcome.steps.tolist(), reasons, outcome.seconds.tolist())
    seconds = time.perf_counter() - begun
    status, sentence = status_of(reasons, outcome.interrupted)
    trace = outcome.trace or [outcome.loss]
    return Result(
        status=status,
        sentence=sentence,
        objective=objective,
        optimizer=name,
        settings=settings,
        z0=starts,
        z=z,
        value0=(sign * trace[0]).reshape(count, each).to(starts.device),
        value=value,
        steps=outcome.steps.reshape(count, each).to(starts.device),
        stopped=[reasons[i * each : (i + 1) * each] for i in range(count)],
        start_names=names,
        trace=Trace(
            steps=torch.tensor(outcome.trace_steps or [0]),
            value=(sign * torch.stack(trace)).reshape(-1, count, each).cpu(),
        ),
        seconds=seconds,
        counters=_counters(records, outcome.calls, seconds),
        weights_hash=objective.decoder.hash,
        records=records,
    )


def _counters(records: tuple[Evaluation, ...], calls: int, seconds: float) -> dict[str, float | int]:
    duplicate = sum(record.duplicate_of is not None for record in records)
    return {
        "calls": calls,
        "unique": len(records) - duplicate,
        "duplicate": duplicate,
        "invalid": sum(not record.valid for record in records),
        "failed": sum(record.stopped == "not_finite" for record in records),
        "timed_out": 0,
        "seconds": seconds,
    }
