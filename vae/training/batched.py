"""Trains several models of one architecture in lockstep, as one batched model.

The weights of the S models are rows of one matrix. Each training remains an ordinary run: its noise and data order come
from its own seed, its metrics, checkpoints and status are written by the same functions as those of a single training,
and it can be resumed alone or in a batch. Its results equal those of a single training up to floating-point rounding,
as sums are taken in another order.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from lso.vae.config.methods import Method
from lso.vae.errors import DivergedError, UsageError
from lso.vae.models.dropout import use_dropout_noise
from lso.vae.models.vae import VAE
from lso.vae.precision import autocast
from lso.vae.runs import Run
from lso.vae.training.batchable import batch_key
from lso.vae.training.callbacks import Limits
from lso.vae.training.loop import after_step, inputs, outer_steps, session
from lso.vae.training.setup import leave
from lso.vae.training.state import Trainer, update_status
from lso.vae.training.step import Losses, State, StepInputs, StepMetrics, StepNoise, losses, update_weights


class _Losses(nn.Module):
    """`losses` as the forward pass of a module, as `functional_call` requires."""

    def __init__(self, model: VAE, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, x: Tensor, noise: StepNoise, kl_weight: Tensor) -> Losses:
        return losses(self.model, self.method, x, noise, kl_weight)


@dataclass(frozen=True, slots=True, eq=False)
class Stacked:
    """Training states whose weights and running statistics are views into tensors that hold those of all models.

    Validation, checkpoints and optimizers use each model as usual, as long as they change weights in place.

    Args:
        states: S states of one architecture and one method, whose KL schedules may differ.
        weights: name -> ``(S, ...)``, the leaves of differentiation; views of one ``(S, N)`` tensor.
        buffers: name -> ``(S, ...)``.
        gradients: ``(S, N)``, of which each weight's gradient is a view.
        parts: views of ``gradients`` in the shapes and order of ``weights``.
    """

    states: tuple[State, ...]
    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    gradients: Float[Tensor, "model weight"]
    parts: tuple[Tensor, ...]


def stack(states: Sequence[State]) -> Stacked:
    """Copy the weights of several models into one matrix, and make each model's tensors views of its row, in place."""
    models = [state.model for state in states]
    named = dict(models[0].named_parameters())
    sizes = [value.numel() for value in named.values()]
    begins = [0, *accumulate(sizes)]
    flat = next(iter(named.values())).new_empty(len(models), begins[-1]).detach()
    gradients = torch.zeros_like(flat)
    for i, model in enumerate(models):
        for p, begin in zip(model.parameters(), begins, strict=False):
            here = (p.shape, p.stride(), i * begins[-1] + begin)
            p.data, p.grad = flat.as_strided(*here).copy_(p.detach()), gradients.as_strided(*here)

    def across(matrix: Tensor) -> list[Tensor]:
        """Return views of the columns in the weights' shapes and strides, which optimizer moments take over."""
        places = zip(named.values(), begins, strict=False)
        return [
            matrix.as_strided((len(models), *p.shape), (begins[-1], *p.stride()), begin).detach() for p, begin in places
        ]

    weights = {name: value.requires_grad_() for name, value in zip(named, across(flat), strict=True)}
    return Stacked(tuple(states), weights, _stack_buffers(models), gradients, tuple(across(gradients)))


def _stack_buffers(models: Sequence[VAE]) -> dict[str, Tensor]:
    each = [dict(model.named_buffers()) for model in models]
    stacked = {name: torch.stack([buffers[name] for buffers in each]) for name in each[0]}
    for i, buffers in enumerate(each):
        for name, buffer in buffers.items():
            buffer.data = stacked[name][i]
    return stacked


def step_together(
    stacked: Stacked,
    x: Sequence[Shaped[Tensor, "batch ..."]],
    noise: Sequence[StepNoise],
    knobs: Sequence[StepInputs],
) -> list[StepMetrics]:
    """Take one optimizer step of each model on its own batch, in place, as `step.step` does for a single model.

    Encoder and decoder both step. Losses and gradients of the S models are computed under `torch.vmap`; each model has
    its own optimizers and is clipped by its own gradient norm.
    """
    states = stacked.states
    batched = _stack_noise(noise)
    arguments = (torch.stack(list(x)), batched, torch.stack([one.kl_weight for one in knobs]))
    with autocast(states[0].precision, arguments[0].device):
        call = torch.vmap(_model_losses(states[0]), in_dims=(0, 0, 0, _noise_axes(batched), 0))
        result = call(stacked.weights, stacked.buffers, *arguments)
    # No loss depends on another model's weights, so the gradient of the sum holds the gradient of each.
    gradients = torch.autograd.grad(result.loss.sum(), list(stacked.weights.values()), materialize_grads=True)
    torch._foreach_copy_(list(stacked.parts), list(gradients))
    # Row by row, as the norm over one axis of a matrix is several times slower on a CPU.
    norms = torch.stack([torch.linalg.vector_norm(row) for row in stacked.gradients])
    if states[0].clip > 0:
        stacked.gradients.mul_((states[0].clip / (norms + 1e-6)).clamp(max=1.0)[:, None])  # as torch's clip
    for state, one in zip(states, knobs, strict=True):
        update_weights(state, one.learning_rate)
    table = torch.stack([*(value.detach() for value in result), norms], 1)  # (S, 5)
    return [StepMetrics(*row) for row in table]


def _model_losses(state: State) -> Any:
    """Return the losses of one model as a function of its weights, buffers, data, noise and KL weight."""
    module = _Losses(state.model, state.method)

    def call(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, noise: StepNoise, w: Tensor) -> Losses:
        tensors = {f"model.{name}": value for name, value in {**weights, **buffers}.items()}
        with use_dropout_noise(state.model, noise.dropout):
            return cast(Losses, functional_call(module, tensors, (x, noise, w)))

    return call


def _stack_noise(noise: Sequence[StepNoise]) -> StepNoise:
    """Stack the noise of S steps, so that each tensor is ``(S, ...)``."""

    def across(*parts: Any) -> Any:
        return torch.stack(parts) if isinstance(parts[0], Tensor) else parts[0]

    return cast(StepNoise, tree_map(across, *noise))


def _noise_axes(noise: StepNoise) -> StepNoise:
    """Return the ``in_dims`` of the noise for `torch.vmap`: axis 0 of each tensor runs over the models."""
    return cast(StepNoise, tree_map(lambda value: 0 if isinstance(value, Tensor) else value, noise))


ALONE = "another training of the same batch could not begin"


def train_batched(trainers: Sequence[Trainer], limits: Limits = Limits()) -> list[Run]:
    """Train several models in lockstep until each ends or meets its limit, as `lso.vae.training.loop.train_model` does.

    Those with the fewest steps go first, so that resumed trainings catch up and then step together; one that finishes,
    diverges or is stopped leaves the batch.

    Args:
        trainers: from `lso.vae.training.setup`, with equal `lso.vae.training.batchable.batch_key` and data of one
            size; the caller holds the locks of their run folders.
        limits: where this session ends.
    Returns:
        Their runs, in order; a run that diverged has the status ``failed``.
    Raises:
        UsageError: if they differ in more than seed, learning rates and KL schedule.
    """
    members = [_Member(trainer, _course(trainer, limits)) for trainer in trainers]
    stacked: Stacked | None = None
    try:
        _require_batchable(trainers)
        for member in members:
            member.trainer.lockstep_size = len(trainers)
            update_status(member.trainer.run, together=len(trainers))
        for member in members:
            next(member.course)
        for member in members:
            _advance_member(member)
        while waiting := [member for member in members if member.rows is not None]:
            first = min(member.trainer.position.step for member in waiting)
            stacked = _step_members([member for member in waiting if member.trainer.position.step == first], stacked)
    except BaseException as error:
        for member in members:
            with suppress(BaseException):
                member.course.throw(error)  # each folder says how its session ended
        leave(trainers, ALONE)
        raise
    return [trainer.run for trainer in trainers]


Course = Generator[Tensor | None, StepMetrics | None, None]


@dataclass(slots=True)
class _Member:
    """One training of the batch.

    Args:
        trainer: its state.
        course: its session as a generator, which yields the rows of each batch and is sent the metrics of the step.
        rows: the data of its next step; None once it has left the batch.
    """

    trainer: Trainer
    course: Course
    rows: Tensor | None = field(default=None)


def _course(trainer: Trainer, limits: Limits) -> Course:
    with session(trainer, limits):
        yield None  # every session is opened before the first step, so that an error then reaches all run folders
        for rows in outer_steps(trainer, limits.steps):
            info = yield rows
            assert info is not None
            after_step(trainer, info, len(rows))


def _advance_member(member: _Member, info: StepMetrics | None = None) -> None:
    """Send a training the metrics of its step and take its next rows; one that ended or diverged leaves the batch."""
    try:
        member.rows = member.course.send(info)
    except (StopIteration, DivergedError):  # its run.json says which
        member.rows = None


def _step_members(members: Sequence[_Member], stacked: Stacked | None) -> Stacked | None:
    """Take one outer step of each member; returns the stack used, for reuse while the members stay the same."""
    step_inputs = [inputs(member.trainer, member.rows) for member in members if member.rows is not None]
    states = [member.trainer.state for member in members]
    if len(states) == 1:
        infos = [members[0].trainer.step(*step_inputs[0])]
        stacked = None
    else:
        if stacked is None or [id(state) for state in stacked.states] != [id(state) for state in states]:
            stacked = stack(states)
            for member in members:
                member.trainer.step.forget()  # the weights have moved
        x, noise, knobs = zip(*step_inputs, strict=True)
        infos = step_together(stacked, x, noise, knobs)
    for member, info in zip(members, infos, strict=True):
        _advance_member(member, info)
    return stacked


def _require_batchable(trainers: Sequence[Trainer]) -> None:
    kinds = {(batch_key(trainer.config), len(trainer.data), trainer.data.shape[1:]) for trainer in trainers}
    if len(kinds) != 1 or batch_key(trainers[0].config) is None:
        names = ", ".join(str(trainer.run.path) for trainer in trainers)
        raise UsageError(
            f"{names} cannot be trained together: they differ in more than seed, learning rates and KL schedule, or "
            "their method or data does not allow batched steps",
            "Train them one after another.",
        )
