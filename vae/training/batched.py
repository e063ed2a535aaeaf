"""Several trainings of one architecture as one batched model: their outer steps are done at once.

The weights of the S models are rows of one matrix. Each training is an ordinary run: its noise and order are those of
its own seed, its rows, checkpoints and status are written by the same functions, and it can be resumed alone, or in a
batch again. Its numbers are those that it would have alone, to the rounding of sums taken in another order."""

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
    """`losses` as the forward pass of a module, which is what `functional_call` takes."""

    def __init__(self, model: VAE, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, x: Tensor, noise: StepNoise, kl_weight: Tensor) -> Losses:
        return losses(self.model, self.method, x, noise, kl_weight)


@dataclass(frozen=True, slots=True, eq=False)
class Stacked:
    """States whose weights and running statistics are views into tensors of all of them.

    What looks at one of them (validation, checkpoint, reloading, its optimizers) goes on unchanged, as long as it
    changes weights in place.

    Args:
        states: S states of one architecture, of the same axes but for the schedule.
        weights: name -> ``(S, ...)``, views of one ``(S, N)``, which gradients are taken with respect to.
        buffers: name -> ``(S, ...)``.
        gradients: ``(S, N)``, of which each weight's gradient is a view.
        parts: the same, in the form of ``weights``.
    """

    states: tuple[State, ...]
    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    gradients: Float[Tensor, "model weight"]
    parts: tuple[Tensor, ...]


def stack(states: Sequence[State]) -> Stacked:
    """Lay the weights of several models side by side; each model goes on with its row of them.

    Args:
        states: of one architecture, whose models are changed in place: their tensors become views.
    Returns:
        The stack.
    """
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
        """Columns as weights: each keeps its layout, which those of the moments follow."""
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
    """One optimizer step of each model on its own batch, in place: what `step.step` does for one, both halves stepping.

    Losses and gradients are those of S models under `torch.vmap`; the clip is by each model's own norm, and each has
    its own optimizers.
    """
    states = stacked.states
    batched = _batched(noise)
    given = (torch.stack(list(x)), batched, torch.stack([one.kl_weight for one in knobs]))
    with autocast(states[0].precision, given[0].device):
        call = torch.vmap(_one(states[0]), in_dims=(0, 0, 0, _axes(batched), 0))
        found = call(stacked.weights, stacked.buffers, *given)
    # No loss depends on another model's weights, so that the gradient of their sum is that of each.
    slopes = torch.autograd.grad(found.loss.sum(), list(stacked.weights.values()), materialize_grads=True)
    torch._foreach_copy_(list(stacked.parts), list(slopes))
    # A row at a time: the norm over one axis of a matrix is several times as slow on a CPU.
    norms = torch.stack([torch.linalg.vector_norm(row) for row in stacked.gradients])
    if states[0].clip > 0:
        stacked.gradients.mul_((states[0].clip / (norms + 1e-6)).clamp(max=1.0)[:, None])  # as torch's clip
    for state, one in zip(states, knobs, strict=True):
        update_weights(state, one.learning_rate)
    table = torch.stack([*(value.detach() for value in found), norms], 1)  # (S, 5)
    return [StepMetrics(*row) for row in table]


def _one(state: State) -> Any:
    """The losses of one model as a function of its tensors."""
    of = _Losses(state.model, state.method)

    def call(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, noise: StepNoise, w: Tensor) -> Losses:
        tensors = {f"model.{name}": value for name, value in {**weights, **buffers}.items()}
        with use_dropout_noise(state.model, noise.dropout):
            return cast(Losses, functional_call(of, tensors, (x, noise, w)))

    return call


def _batched(noise: Sequence[StepNoise]) -> StepNoise:
    """The noise of S steps, each part ``(S, ...)``."""

    def across(*parts: Any) -> Any:
        return torch.stack(parts) if isinstance(parts[0], Tensor) else parts[0]

    return cast(StepNoise, tree_map(across, *noise))


def _axes(noise: StepNoise) -> StepNoise:
    """Which axis of each part goes over the models, for `torch.vmap`."""
    return cast(StepNoise, tree_map(lambda value: 0 if isinstance(value, Tensor) else value, noise))


ALONE = "another training that was to go together with it could not begin"


def train_batched(trainers: Sequence[Trainer], limits: Limits = Limits()) -> list[Run]:
    """Train to the end, or to where the session is cut, each as `lso.vae.training.loop.train` would.

    Those furthest behind step first, so that all meet at one step wherever each was cut; one that is finished,
    diverged or cut leaves the others.

    Args:
        trainers: from `lso.vae.training.setup`, of one kind (see `lso.vae.training.batchable.batch_key`) and of data
            of one size; in folders that the caller holds.
        limits: where this session ends.
    Returns:
        Their runs, in order; of one that diverged the status is ``failed``.
    Raises:
        UsageError: if they differ in more than seed, learning rates and KL schedule.
    """
    members = [_Member(trainer, _course(trainer, limits)) for trainer in trainers]
    stacked: Stacked | None = None
    try:
        _check(trainers)
        for member in members:
            member.trainer.abreast = len(trainers)
            update_status(member.trainer.run, together=len(trainers))
        for member in members:
            next(member.course)
        for member in members:
            _go_on(member)
        while waiting := [member for member in members if member.rows is not None]:
            first = min(member.trainer.position.step for member in waiting)
            stacked = _step([member for member in waiting if member.trainer.position.step == first], stacked)
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
    """One of the trainings.

    Args:
        trainer: where it stands.
        course: its session, which says which rows it steps on and is told what came of it.
        rows: of its coming step; None once it has left.
    """

    trainer: Trainer
    course: Course
    rows: Tensor | None = field(default=None)


def _course(trainer: Trainer, limits: Limits) -> Course:
    with session(trainer, limits):
        yield None  # all sessions are open before the first works, so that an error there is told to all
        for rows in outer_steps(trainer, limits.steps):
            info = yield rows
            assert info is not None
            after_step(trainer, info, len(rows))


def _go_on(member: _Member, info: StepMetrics | None = None) -> None:
    """Tell a training what its step did, and take its next rows; it leaves where it ends or diverges."""
    try:
        member.rows = member.course.send(info)
    except (StopIteration, DivergedError):  # its run.json says which
        member.rows = None


def _step(members: Sequence[_Member], stacked: Stacked | None) -> Stacked | None:
    """One outer step of each; returns the stack that it was done in, to be used again by the same ones."""
    asked = [inputs(member.trainer, member.rows) for member in members if member.rows is not None]
    states = [member.trainer.state for member in members]
    if len(states) == 1:
        infos = [members[0].trainer.step(*asked[0])]
        stacked = None
    else:
        if stacked is None or [id(state) for state in stacked.states] != [id(state) for state in states]:
            stacked = stack(states)
            for member in members:
                member.trainer.step.forget()  # the weights have moved
        x, noise, knobs = zip(*asked, strict=True)
        infos = step_together(stacked, x, noise, knobs)
    for member, info in zip(members, infos, strict=True):
        _go_on(member, info)
    return stacked


def _check(trainers: Sequence[Trainer]) -> None:
    kinds = {(batch_key(trainer.config), len(trainer.data), trainer.data.shape[1:]) for trainer in trainers}
    if len(kinds) != 1 or batch_key(trainers[0].config) is None:
        names = ", ".join(str(trainer.run.path) for trainer in trainers)
        raise UsageError(
            f"{names} cannot be trained together: they differ in more than seed, learning rates and KL schedule, or "
            "are of a method or of data that each model steps through on its own",
            "Train them one after another.",
        )
