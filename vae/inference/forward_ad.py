"""Layers on dual numbers: values beside their derivatives along a direction, and a backward pass through both.

A Hessian times u is the gradient of the slope along u: a forward pass on dual numbers, then one ordinary backward pass.
torch can do so by itself, but its batch-norm then takes the statistics for constants, silently, its linear layers
compute with tangents of zero for their weights, and ELUs take exponentials again. Inside `DualLayers` these are right
and fast.
"""

import importlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Maps = Float[Tensor, "batch channels h w"]
Channels = Float[Tensor, " channels"]
aten = torch.ops.aten


class DualLayers(TorchFunctionMode):
    """Linear layers, ELUs and batch-norms inside, where their inputs are dual, are those of this module.

    Weights have no tangents. What comes out can be differentiated once.
    """

    def __init__(self) -> None:
        super().__init__()
        _load()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in the place of ``func``."""
        layer = LAYERS.get(func)
        if layer is not None:
            value, slope = forward_ad.unpack_dual(args[0])  # type: ignore[no-untyped-call]
            if slope is not None:
                pair = layer(func, value, slope, *args[1:], **(kwargs or {}))
                return forward_ad.make_dual(*pair)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


@cache
def _load() -> None:
    """torch's own first step into dual numbers, imports of a second, is not quiet under 2.12 and later."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


Pair = tuple[Tensor, Tensor]


def _linear(
    func: Callable[..., Any],
    x: Tensor,
    d: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *sizes: Any,
    **named: Any,
) -> Pair:
    return func(x, weight, bias, *sizes, **named), func(d, weight, None, *sizes, **named)


def _elu(func: Callable[..., Any], x: Tensor, d: Tensor, alpha: float = 1.0, inplace: bool = False) -> Pair:
    assert alpha == 1, "left of the kink slope and curvature are the same"
    return _Elu.apply(x, d)  # type: ignore[no-any-return, no-untyped-call]


def _batch_norm(
    func: Callable[..., Any],
    h: Maps,
    d: Maps,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Channels,
    bias: Channels,
    training: bool,
    momentum: float,
    eps: float,
) -> Pair:
    if training:
        assert running_mean is None and running_var is None, "running statistics do not move"
        return _Normalize.apply(h, d, weight, bias, eps)  # type: ignore[no-any-return, no-untyped-call]
    assert running_mean is not None and running_var is not None
    along = func(d, torch.zeros_like(running_mean), running_var, weight, None, False, momentum, eps)
    return func(h, running_mean, running_var, weight, bias, False, momentum, eps), along


LAYERS: dict[Any, Callable[..., Pair]] = {
    torch.conv2d: _linear,
    torch.conv_transpose2d: _linear,
    F.linear: _linear,
    F.elu: _elu,
    F.batch_norm: _batch_norm,
}


def _only_once() -> None:
    """A backward pass through a backward pass would take its parts for constants."""
    assert not torch.is_grad_enabled(), "dual layers are differentiated once"


class _Elu(torch.autograd.Function):
    """y = ELU(x) and s = ELU'(x) d, with ELU' = 1 + min(y, 0), and ELU'' = ELU' left of the kink:

    d~ = ELU' s~;   x~ = ELU' (y~ + [x < 0] d s~).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor) -> Pair:
        y = F.elu(x)
        bent = aten.hardtanh_backward(d, y, -2.0, 0.0)  # kept where -2 < y < 0
        ctx.save_for_backward(y, bent)
        return y, _times_slope(d, y)

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> Pair:
        _only_once()
        y, bent = ctx.saved_tensors
        bar = torch.addcmul(bars[0], bars[1], bent)
        return aten.elu_backward.grad_input(bar, 1.0, 1.0, 1.0, True, y, grad_input=bar), _times_slope(bars[1], y)


def _times_slope(d: Tensor, y: Tensor) -> Tensor:
    """d times the slope of the ELU where its value is y."""
    found: Tensor = aten.elu_backward(d, 1.0, 1.0, 1.0, True, y)
    return found


class _Normalize(torch.autograd.Function):
    """y = g X + b with X = r (h - m), m and r^-2 mean and variance (+ eps) of a channel, of n entries; and s = g J d,
    J u = r (u - mean u - X mean(X u)) being symmetric:

        d~ = g J s~;   h~ = g J y~ - (g r / n) (r A X + J s~ sum X d + J d sum X s~);   g~ = sum X y~ + r A,
        A = sum s~ (d - mean d) - sum X s~ sum X d / n;   b~ = sum y~.
    """

    @staticmethod
    def forward(ctx: Any, h: Maps, d: Maps, weight: Channels, bias: Channels, eps: float) -> Pair:
        y, mean, scale = torch.native_batch_norm(h, weight, bias, None, None, True, 0.0, eps)
        slope, xd, sum_d = _jacobian(d, h, weight, mean, scale)
        ctx.save_for_backward(h, d, weight, mean, scale, xd, sum_d)
        return y, slope

    @staticmethod
    def backward(ctx: Any, *bars: Maps) -> tuple[Tensor | None, ...]:
        _only_once()
        h, d, weight, mean, scale, xd, sum_d = ctx.saved_tensors
        n = h.numel() / h.shape[1]
        bar_d, xs, _ = _jacobian(bars[1], h, weight, mean, scale)
        xy, sum_y = _sums(bars[0], h, mean, scale)
        mean_d, ones = sum_d / n, torch.ones_like(scale)
        ds, _ = _sums(bars[1], d, mean_d, ones)  # sum s~ (d - mean d)
        bent = scale * (ds - xs * xd / n)
        # h~ written out in h, y~, d~ and d: a pass over the maps for each.
        on_y, on_d = weight * scale, -weight * scale**2 * xs / n
        on_h = -on_y * scale * (xy + bent - scale * xs * xd / n) / n
        rest = -on_h * mean - on_y * sum_y / n - on_d * mean_d
        bar_h = torch.addcmul(_wide(rest), _wide(on_h), h).addcmul_(_wide(on_y), bars[0])
        bar_h = bar_h.addcmul_(_wide(-scale * xd / n), bar_d).addcmul_(_wide(on_d), d)
        return bar_h, bar_d, xy + bent, sum_y, None


def _jacobian(u: Maps, h: Maps, weight: Channels, mean: Channels, scale: Channels) -> tuple[Maps, Channels, Channels]:
    """g J u; sum X u; sum u: the backward pass of batch-norm, eps being in the scale already."""
    wanted = [True, True, True]
    return aten.native_batch_norm_backward(u, h, weight, None, None, mean, scale, True, 0.0, wanted)  # type: ignore[no-any-return]


def _sums(u: Maps, h: Maps, mean: Channels, scale: Channels) -> tuple[Channels, Channels]:
    """sum scale (h - mean) u and sum u, in one pass over both."""
    wanted = [False, True, True]
    found = aten.native_batch_norm_backward(u, h, None, None, None, mean, scale, True, 0.0, wanted)
    return found[1], found[2]


def _wide(value: Channels) -> Float[Tensor, "channels 1 1"]:
    return value[:, None, None]
