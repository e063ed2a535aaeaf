"""Mixed precision of a training step: layers in bfloat16; weights, sums and losses in single precision.

Not every processor has bfloat16 instructions. Without them some layers cannot be computed at all (oneDNN has no such
LSTM), and others are computed in single precision after conversions that cost several times what they save. So one
small layer of each kind in the model is tried before training begins, once in a process.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from lso.vae.config.protocol import Precision

Layer = Literal["LSTM", "convolution", "linear layer"]

REPEATS = 5  # timings of which the fastest counts, as other work on the machine only adds time
MIN_SLOWDOWN = 1.2  # ratio of times above which a slowdown is reported; two timings of one layer differ by less

# Large enough that computing takes longer than launching: some 5 to 50 ms on one core.
_SMALL_LAYERS: Mapping[Layer, Callable[[], tuple[nn.Module, Tensor]]] = {
    "LSTM": lambda: (nn.LSTM(128, 128, batch_first=True), torch.randn(32, 16, 128)),
    "convolution": lambda: (nn.Conv2d(64, 64, 3, padding=1), torch.randn(16, 64, 14, 14)),
    "linear layer": lambda: (nn.Linear(512, 512), torch.randn(256, 512)),
}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products and convolutions are computed in a precision (`torch.autocast`)."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


@cache
def time_layer(layer: Layer, precision: Precision, device: torch.device) -> float:
    """Seconds for one small layer, forward and backward; a RuntimeError where the processor cannot compute it."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are left as they were
        module, x = _SMALL_LAYERS[layer]()
    module, x = module.to(device), x.to(device)
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        with autocast(precision, device):
            y = module(x)
        (y[0] if isinstance(y, tuple) else y).float().sum().backward()
        next(module.parameters()).sum().item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    return min(times[1:])  # during the first, libraries choose their algorithms


def list_layers(model: nn.Module) -> tuple[Layer, ...]:
    """The kinds of layers in which a model spends its time."""
    axes = {weight.ndim for weight in model.parameters()}
    has: dict[Layer, bool] = {
        "LSTM": any(isinstance(module, nn.LSTM) for module in model.modules()),
        "convolution": 4 in axes,
        "linear layer": 2 in axes,
    }
    return tuple(layer for layer, present in has.items() if present)


def explain_unsupported(precision: Precision, model: nn.Module, device: torch.device) -> str:
    """Why a model's layers cannot be computed in a precision, by trying one of each kind; empty if they can."""
    if precision == "float32":
        return ""
    for layer in list_layers(model):
        try:
            time_layer(layer, precision, device)
        except RuntimeError as error:
            why = f"one {layer} failed ({str(error).splitlines()[0].partition('. ')[0]})"
            return f"this {_device_name(device)} cannot compute the model's layers in {precision}: {why}"
    return ""


def explain_slowdown(precision: Precision, model: nn.Module, device: torch.device) -> str:
    """By how much a precision slows a model's layers down, by timing one of each kind; empty if it does not.

    The layers must be such that can be computed in this precision, see `explain_unsupported`.
    """
    layers = () if precision == "float32" else list_layers(model)
    reduced, single = (sum(time_layer(layer, each, device) for layer in layers) for each in (precision, "float32"))
    if reduced <= MIN_SLOWDOWN * single:
        return ""
    names = " and ".join(f"one small {layer}" for layer in layers)
    times = f"{reduced / single:z.1f} times as long ({1e3 * reduced:.3g} against {1e3 * single:.3g} ms)"
    return f"{precision} is slower on this {_device_name(device)}: {names} took {times}"


def _device_name(device: torch.device) -> str:
    return "GPU" if device.type == "cuda" else "CPU"


def to_float32(x: Tensor) -> Tensor:
    """The output of a network in at least single precision, for the logarithms and sums over pixels that follow."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
