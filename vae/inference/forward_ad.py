"""Layers for forward-mode automatic differentiation (dual numbers) that an ordinary backward pass can go through.

A Hessian times u is the gradient of the slope along u: a forward pass on dual numbers, then one backward pass. torch
can do so by itself, but its batch-norm then silently takes the statistics for constants, its linear layers compute with
zero tangents of their weights, and ELUs take exponentials again. Inside `DualLayers` these layers are right and fast.
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
    """A context in which linear layers, convolutions, ELUs and batch-norms of dual inputs are computed by this module.

    Weights have no tangents. The result can be differentiated once.
    """

    def __init__(self) -> None:
        super().__init__()
        _load_forward_ad()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of ``func``."""
        layer = LAYERS.get(func)
        if layer is not None:
            value, slope = forward_ad.unpack_dual(args[0])  # type: ignore[no-untyped-call]
            if slope is not None:
                pair = layer(func, value, slope, *args[1:], **(kwargs or {}))
                return forward_ad.make_dual(*pair)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


@cache
def _load_forward_ad() -> None:
    """Import what torch needs for dual numbers, about a second; torch 2.12 and later warn of their own code here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


Pair = tuple[Tensor, Tensor]  # a value, and its derivative along the direction


def _dual_linear(
    func: Callable[..., Any],
    x: Tensor,
    d: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *sizes: Any,
    **named: Any,
) -> Pair:
    return func(x, weight, bias, *sizes, **named), func(d, weight, None, *sizes, **named)


def _dual_elu(func: Callable[..., Any], x: Tensor, d: Tensor, alpha: float = 1.0, inplace: bool = False) -> Pair:
    assert alpha == 1, "left of the kink slope and curvature are the same"
    return _Elu.apply(x, d)  # type: ignore[no-any-return, no-untyped-call]


def _dual_batch_norm(
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
    torch.conv2d: _dual_linear,
    torch.conv_transpose2d: _dual_linear,
    F.linear: _dual_linear,
    F.elu: _dual_elu,
    F.batch_norm: _dual_batch_norm,
}


def _require_single_backward() -> None:
    # A second backward pass, through this one, would silently take its parts for constants.
    assert not torch.is_grad_enabled(), "dual layers can be differentiated once only"


class _Elu(torch.autograd.Function):
    """The ELU y of x and its slope s = ELU'(x) d along d; ELU' = 1 + min(y, 0), and ELU'' = ELU' for x < 0.

    Backward, with x~ for the gradient in x: d~ = ELU' s~;   x~ = ELU' (y~ + [x < 0] d s~).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor) -> Pair:
        y = F.elu(x)
        curved = aten.hardtanh_backward(d, y, -2.0, 0.0)  # [x < 0] d in one pass: d where -2 < y < 0, else 0
        ctx.save_for_backward(y, curved)
        return y, _times_slope(d, y)

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> Pair:
        _require_single_backward()
        y, curved = ctx.saved_tensors
        bar = torch.addcmul(bars[0], bars[1], curved)
        return aten.elu_backward.grad_input(bar, 1.0, 1.0, 1.0, True, y, grad_input=bar), _times_slope(bars[1], y)


def _times_slope(d: Tensor, y: Tensor) -> Tensor:
    """d times the derivative of the ELU at the point where its value is y."""
    product: Tensor = aten.elu_backward(d, 1.0, 1.0, 1.0, True, y)
    return product


class _Normalize(torch.autograd.Function):
    """Batch-norm in train mode: y = g X + b with X = r (h - m), and its slope s = g J d along d.

    m and r^-2 are the mean and the variance (+ eps) of a channel's n entries, and J u = r (u - mean u - X mean(X u)) is
    symmetric. Backward, with h~ for the gradient in h:

        d~ = g J s~;   h~ = g J y~ - (g r / n) (r A X + J s~ sum X d + J d sum X s~);   g~ = sum X y~ + r A,
        A = sum s~ (d - mean d) - sum X s~ sum X d / n;   b~ = sum y~.
    """

    @staticmethod
    def forward(ctx: Any, h: Maps, d: Maps, weight: Channels, bias: Channels, eps: float) -> Pair:
        y, mean, scale = torch.native_batch_norm(h, weight, bias, None, None, True, 0.0, eps)
        slope, xd, sum_d = _jacobian_product(d, h, weight, mean, scale)
        ctx.save_for_backward(h, d, weight, mean, scale, xd, sum_d)
        return y, slope

    @staticmethod
    def backward(ctx: Any, *bars: Maps) -> tuple[Tensor | None, ...]:
        _require_single_backward()
        h, d, weight, mean, scale, xd, sum_d = ctx.saved_tensors
        n = h.numel() / h.shape[1]
        bar_d, xs, _ = _jacobian_product(bars[1], h, weight, mean, scale)
        xy, sum_y = _sums(bars[0], h, mean, scale)
        mean_d, ones = sum_d / n, torch.ones_like(scale)
        ds, _ = _sums(bars[1], d, mean_d, ones)  # sum s~ (d - mean d)
        a = scale * (ds - xs * xd / n)  # r A
        # h~ as a linear combination of h, y~, d~ and d: one pass over the maps for each.
        on_y, on_d = weight * scale, -weight * scale**2 * xs / n
        on_h = -on_y * scale * (xy + a - scale * xs * xd / n) / n
        rest = -on_h * mean - on_y * sum_y / n - on_d * mean_d
        bar_h = torch.addcmul(_per_channel(rest), _per_channel(on_h), h).addcmul_(_per_channel(on_y), bars[0])
        bar_h = bar_h.addcmul_(_per_channel(-scale * xd / n), bar_d).addcmul_(_per_channel(on_d), d)
        return bar_h, bar_d, xy + a, sum_y, None


def _jacobian_product(
    u: Maps, h: Maps, weight: Channels, mean: Channels, scale: Channels
) -> tuple[Maps, Channels, Channels]:
    """g J u, sum X u and sum u, which the backward pass of batch-norm computes; eps is in the scale already."""
    wanted = [True, True, True]
    return aten.native_batch_norm_backward(u, h, weight, None, None, mean, scale, True, 0.0, wanted)  # type: ignore[no-any-return]


def _sums(u: Maps, h: Maps, mean: Channels, scale: Channels) -> tuple[Channels, Channels]:
    """sum scale (h - mean) u and sum u, in one pass over both."""
    wanted = [False, True, True]
    _, weighted, plain = aten.native_batch_norm_backward(u, h, None, None, None, mean, scale, True, 0.0, wanted)
    return weighted, plain


def _per_channel(value: Channels) -> Float[Tensor, "channels 1 1"]:
    return value[:, None, None]
