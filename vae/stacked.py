"""S models of one architecture as one batched model: their weights are rows of one matrix, stepped at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from lso.vae.dropout import handed
from lso.vae.methods import Method
from lso.vae.model import VAE
from lso.vae.precision import layers_in
from lso.vae.step import Info, Knobs, Losses, Noise, State, losses, update


class _Losses(nn.Module):
    """`losses` as the forward pass of a module, which is what `functional_call` takes."""

    def __init__(self, model: VAE, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, x: Tensor, noise: Noise, kl_weight: Tensor) -> Losses:
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
    noise: Sequence[Noise],
    knobs: Sequence[Knobs],
) -> list[Info]:
    """One optimizer step of each model on its own batch, in place: what `step.step` does for one, both halves stepping.

    Losses and gradients are those of S models under `torch.vmap`; the clip is by each model's own norm, and each has
    its own optimizers.

    Args:
        stacked: the models, in train mode.
        x: a batch for each, all of one shape.
        noise: for each.
        knobs: for each.
    Returns:
        What happened to each, still on the device.
    """
    states = stacked.states
    batched = _batched(noise)
    given = (torch.stack(list(x)), batched, torch.stack([one.kl_weight for one in knobs]))
    with layers_in(states[0].precision, given[0].device):
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
        update(state, one.learning_rate)
    table = torch.stack([*(value.detach() for value in found), norms], 1)  # (S, 5)
    return [Info(*row) for row in table]


def _one(state: State) -> Any:
    """The losses of one model as a function of its tensors."""
    of = _Losses(state.model, state.method)

    def call(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, noise: Noise, w: Tensor) -> Losses:
        tensors = {f"model.{name}": value for name, value in {**weights, **buffers}.items()}
        with handed(state.model, noise.dropout):
            return cast(Losses, functional_call(of, tensors, (x, noise, w)))

    return call


def _batched(noise: Sequence[Noise]) -> Noise:
    """The noise of S steps, each part ``(S, ...)``."""

    def across(*parts: Any) -> Any:
        return torch.stack(parts) if isinstance(parts[0], Tensor) else parts[0]

    return cast(Noise, tree_map(across, *noise))


def _axes(noise: Noise) -> Noise:
    """Which axis of each part goes over the models, for `torch.vmap`."""
    return cast(Noise, tree_map(lambda value: 0 if isinstance(value, Tensor) else value, noise))
