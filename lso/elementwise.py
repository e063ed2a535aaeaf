"""Torch optimizers that treat each row of a batch by itself: finding them, refusing the others, and dropping rows."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lso.optimizers import BLACK_BOX_OPTIMIZERS, COUPLING, GRADIENT_OPTIMIZERS
from lso.vae.errors import UsageError, unknown_name
from lso.vae.seeds import generator

Factory = Callable[[list[Tensor]], Optimizer]

PROBE_STEPS = 6
LOUD = 1e4  # how much larger the other rows' gradients get in the probe: enough to trip any clipping by a common norm


def factory(
    optimizer: str | type[Optimizer], lr: float | int | None, options: Mapping[str, Any]
) -> tuple[str, Factory, dict[str, Any]]:
    """Resolve an optimizer's name or class.

    Args:
        optimizer: row of the table, name of a class in `torch.optim` (any case), or a class.
        lr: step size; None is the table's, or the class's own default.
        options: further arguments for the class.
    Returns:
        Its name, a function ``[z] -> optimizer``, and the arguments it was given.
    Raises:
        UsageError: for an unknown name, an optimizer that couples the elements of a batch, or ``maximize`` among the
            options.
    """
    spec = GRADIENT_OPTIMIZERS.get(optimizer) if isinstance(optimizer, str) else None
    kind = _torch_class(spec.torch_name if spec else optimizer)
    name = optimizer if spec and isinstance(optimizer, str) else kind.__name__
    if kind.__name__.lower() in COUPLING:
        raise _couples(kind.__name__, COUPLING[kind.__name__.lower()])
    if "maximize" in options:
        raise UsageError(
            "maximize is not an option of the optimizer", "The objective states its sense: maximize=True there."
        )
    arguments = dict(spec.options if spec else {}) | dict(options)
    rate = lr if lr is not None else (spec.learning_rate if spec else None)
    if rate is not None:
        arguments["lr"] = rate

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
        able = {*GRADIENT_OPTIMIZERS, *(classes.keys() - COUPLING.keys())}
        raise unknown_name("optimizer", optimizer, {*able, *BLACK_BOX_OPTIMIZERS})
    return classes[optimizer.lower()]


def _couples(name: str, why: str) -> UsageError:
    instead = (
        "Use optimizer='lbfgs', BoTorch's batched one." if name == "LBFGS" else "Use adam, sgd, lbfgs, or another one."
    )
    return UsageError(f"{name} cannot run a batch of independent searches: {why}", instead)


def keep_rows(optimizer: Optimizer, z: Tensor, rows: Tensor) -> None:
    """Drop the other rows from a parameter and from the optimizer's state, in place.

    Args:
        optimizer: of this one parameter.
        z: ``(n, d)`` parameter.
        rows: indices of the rows that stay.
    """
    n = len(z)
    state = optimizer.state[z]
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == n:
            state[key] = value[rows.to(value.device)]
    z.grad = None
    z.data = z.data[rows]


def _probe(name: str, make: Factory) -> None:
    """Try whether one row's path depends on the other rows, or on their leaving half way."""
    try:
        alone, quiet, loud = _path(make, [0], 1.0), _path(make, [0, 1, 2], 1.0), _path(make, [0, 1, 2], LOUD)
        left = _path(make, [0, 1, 2], 1.0, drop=True)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name} cannot be run on codes: {error}", "Check its options; a closure is not given."
        ) from error
    # Not bit for bit: a row may be summed in another vector lane.
    if not all(torch.allclose(alone, path, rtol=1e-9, atol=1e-12) for path in (quiet, loud, left)):
        raise _couples(name, "the step of one element changed with the gradients of the others")


def _path(make: Factory, rows: list[int], scale: float, drop: bool = False) -> Tensor:
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
