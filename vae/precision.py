"""Reduced precision of a training step: layers in bfloat16, weights, sums and losses in single precision.

Not every processor has bfloat16 instructions. Without them some layers cannot be computed at all (oneDNN has no such
LSTM), and the others are computed in single precision after conversions that cost several times what they save. So one
small layer of each kind that a model has is tried before training begins, once in a process.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from lso.vae.config.training import Precision

Layer = Literal["LSTM", "convolution", "linear layer"]

TRIES = 5  # of which the fastest counts, as other work on the machine only adds
SLOWER = 1.2  # from this ratio of seconds on it is told; below lies what two tries of the same layer differ by

# Large enough that computing, not launching, takes the time: some 5 to 50 ms on one core.
_SMALL: Mapping[Layer, Callable[[], tuple[nn.Module, Tensor]]] = {
    "LSTM": lambda: (nn.LSTM(128, 128, batch_first=True), torch.randn(32, 16, 128)),
    "convolution": lambda: (nn.Conv2d(64, 64, 3, padding=1), torch.randn(16, 64, 14, 14)),
    "linear layer": lambda: (nn.Linear(512, 512), torch.randn(256, 512)),
}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products and convolutions inside are computed in this precision (`torch.autocast`)."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


@cache
def seconds(layer: Layer, precision: Precision, device: torch.device) -> float:
    """What the processor answers when it is asked to compute one small layer, forward and backward."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are left as they were
        module, x = _SMALL[layer]()
    module, x = module.to(device), x.to(device)
    found = []
    for _ in range(1 + TRIES):
        begun = time.perf_counter()
        with autocast(precision, device):
            y = module(x)
        (y[0] if isinstance(y, tuple) else y).float().sum().backward()
        next(module.parameters()).sum().item()  # waits for a GPU
        found.append(time.perf_counter() - begun)
    return min(found[1:])  # in the first one libraries choose their ways


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """The kinds of layers that a model spends its time in."""
    axes = {weight.ndim for weight in model.parameters()}
    has: dict[Layer, bool] = {
        "LSTM": any(isinstance(module, nn.LSTM) for module in model.modules()),
        "convolution": 4 in axes,
        "linear layer": 2 in axes,
    }
    return tuple(layer for layer, there in has.items() if there)


def unsupported(precision: Precision, model: nn.Module, device: torch.device) -> str:
    """Why a model's layers cannot be computed in a precision, by trying one of each kind."""
    if precision == "float32":
        return ""
    for layer in layers_of(model):
        try:
            seconds(layer, precision, device)
        except RuntimeError as error:
            why = str(error).splitlines()[0].partition(". ")[0]
            return f"this {_name(device)} cannot compute the model's layers in {precision}: one {layer} failed ({why})"
    return ""


def slower(precision: Precision, model: nn.Module, device: torch.device) -> str:
    """What a reduced precision costs where it makes steps slower, by timing one of each kind of the model's layers.

    Args:
        precision: of the layers, in which they can be computed.
        model: whose layers.
        device: where they are to be computed.
    Returns:
        A sentence with the measured times; empty where they are about as fast as in single precision, or faster.
    """
    layers = () if precision == "float32" else layers_of(model)
    reduced, single = (sum(seconds(layer, each, device) for layer in layers) for each in (precision, "float32"))
    if reduced <= SLOWER * single:
        return ""
    names = " and ".join(f"one small {layer}" for layer in layers)
    times = f"{reduced / single:z.1f} times as long ({1e3 * reduced:.3g} against {1e3 * single:.3g} ms)"
    return f"{precision} is slower on this {_name(device)}: {names} took {times}"


def _name(device: torch.device) -> str:
    return "GPU" if device.type == "cuda" else "CPU"


def to_float32(x: Tensor) -> Tensor:
    """What leaves a network, in at least single precision, as logarithms and sums over pixels go on from it."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
