"""Forward-mode derivatives of layers that a backward pass can go through, right and fast.

A Hessian times u is the gradient of the slope along u: a forward pass with tangents, then one ordinary backward pass.
torch can do so by itself, but its batch-norm then takes the statistics for constants, silently, and its convolution
computes with tangents of zero. Inside `differentiable_tangents` these layers have closed forms, once differentiable.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Maps = Float[Tensor, "batch channels h w"]
Channels = Float[Tensor, " channels"]
aten = torch.ops.aten


class differentiable_tangents(TorchFunctionMode):  # noqa: N801 - a context, as torch.no_grad
    """Convolutions, ELUs and batch-norms of a batch's own statistics inside are those of this module.

    Results and gradients are those of torch's, up to rounding. Weights have no tangents.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in the place of ``func``.

        Args:
            func: the operation.
            types: not used.
            args: its arguments.
            kwargs: the same.
        Returns:
            Its result.
        """
        return LAYERS.get(func, func)(*args, **(kwargs or {}))


def _batch_norm(
    h: Maps,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Channels,
    bias: Channels,
    training: bool,
    momentum: float,
    eps: float,
) -> Maps:
    if not training:
        return F.batch_norm(h, running_mean, running_var, weight, bias, training, momentum, eps)
    assert running_mean is None and running_var is None, "running statistics do not move"
    found: Maps = _Normalize.apply(h, weight, bias, eps)  # type: ignore[no-untyped-call]
    return found


def _only_once() -> None:
    """A backward pass through a backward pass would take its parts for constants."""
    assert not torch.is_grad_enabled(), "second derivatives here are forward-mode ones under a backward pass"


class _Normalize(torch.autograd.Function):
    """y = g X + b, X = r (h - m), m and r^-2 mean and variance (+ eps) of a channel over batch and pixels."""

    @staticmethod
    def forward(ctx: Any, h: Maps, weight: Channels, bias: Channels, eps: float) -> Maps:
        y, mean, scale = torch.native_batch_norm(h, weight, bias, None, None, True, 0.0, eps)
        ctx.statistics = mean, scale, eps
        ctx.save_for_backward(h, weight)
        ctx.save_for_forward(h, weight)
        return y

    @staticmethod
    def backward(ctx: Any, bar: Maps) -> tuple[Tensor | None, ...]:
        _only_once()
        return *_jacobian(bar, *ctx.saved_tensors, *ctx.statistics, list(ctx.needs_input_grad[:3])), None

    @staticmethod
    def jvp(ctx: Any, d: Maps, *of_weights: Any) -> Maps:
        slope: Maps = _NormalizeSlope.apply(d, *ctx.saved_tensors, *ctx.statistics)  # type: ignore[no-untyped-call]
        return slope


def _jacobian(
    u: Maps, h: Maps, weight: Channels, mean: Channels, scale: Channels, eps: float, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """g J u with J u = r (u - mean u - X mean(X u)), J being symmetric; sum X u; sum u."""
    found = aten.native_batch_norm_backward(u, h, weight, None, None, mean, scale, True, eps, wanted)
    return found[0], found[1], found[2]


class _NormalizeSlope(torch.autograd.Function):
    """g J d, a function of d, h and g. With a bar a and n entries in a channel:

        d~ = g J a;   g~ = r A;   h~ = -(g r / n) (r A X + J a sum X d + J d sum X a),
        A = sum a d - sum a sum d / n - sum X a sum X d / n.
    """

    @staticmethod
    def forward(ctx: Any, d: Maps, h: Maps, weight: Channels, mean: Channels, scale: Channels, eps: float) -> Maps:
        slope, xd, sum_d = _jacobian(d, h, weight, mean, scale, eps, [True] * 3)
        ctx.save_for_backward(d, h, weight, mean, scale, xd, sum_d)
        ctx.eps = eps
        return slope

    @staticmethod
    def backward(ctx: Any, a: Maps) -> tuple[Tensor | None, ...]:
        _only_once()
        d, h, weight, mean, scale, xd, sum_d = ctx.saved_tensors
        n = a.numel() / a.shape[1]
        bar_d, xa, sum_a = _jacobian(a, h, weight, mean, scale, ctx.eps, [True] * 3)
        total = (a * d).sum((0, 2, 3)) - sum_a * sum_d / n - xa * xd / n
        # h~ written out in h, g J a and d: a pass over the maps for each.
        on_d = -weight * scale**2 * xa / n
        on_h = -weight * scale**3 * (total - xa * xd / n) / n
        rest = -on_h * mean - on_d * sum_d / n
        bar_h = torch.addcmul(_wide(rest), _wide(on_h), h).addcmul_(_wide(-scale * xd / n), bar_d)
        return bar_d, bar_h.addcmul_(_wide(on_d), d), scale * total, None, None, None


def _wide(value: Channels) -> Float[Tensor, "channels 1 1"]:
    return value[:, None, None]


def _elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    assert alpha == 1, "left of the kink slope and curvature are the same"
    found: Tensor = _Elu.apply(x)  # type: ignore[no-untyped-call]
    return found


class _Elu(torch.autograd.Function):
    """ELU, of which only the result is kept: its slope there is 1 + min(y, 0)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = F.elu(x)
        ctx.result = y.detach()
        ctx.save_for_forward(x)
        return y

    @staticmethod
    def backward(ctx: Any, bar: Tensor) -> Tensor:
        _only_once()
        return _steepness(bar, ctx.result)

    @staticmethod
    def jvp(ctx: Any, d: Tensor) -> Tensor:
        slope: Tensor = _EluSlope.apply(d, *ctx.saved_tensors, ctx.result)  # type: ignore[no-untyped-call]
        return slope


def _steepness(d: Tensor, y: Tensor) -> Tensor:
    """d times the slope of the ELU where its value is y."""
    found: Tensor = aten.elu_backward(d, 1.0, 1.0, 1.0, True, y)
    return found


class _EluSlope(torch.autograd.Function):
    """d times the slope of the ELU at x, a function of both; left of the kink slope and curvature are the same."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
        slope = _steepness(d, y)
        ctx.save_for_backward(y, slope.detach())
        return slope

    @staticmethod
    def backward(ctx: Any, a: Tensor) -> tuple[Tensor | None, ...]:
        _only_once()
        y, slope = ctx.saved_tensors
        bent = aten.hardtanh_backward(a * slope, y, -2.0, 0.0)  # kept where -2 < y < 0
        return _steepness(a, y), bent, None


def _conv2d(x: Maps, weight: Tensor, bias: Tensor | None = None, *options: Any, **named: Any) -> Maps:
    found: Maps = _Convolve.apply(x, weight, bias, *_geometry(*options, **named))  # type: ignore[no-untyped-call]
    return found


Pair = tuple[int, int]


def _geometry(
    stride: int | Pair = 1, padding: int | Pair = 0, dilation: int | Pair = 1, groups: int = 1
) -> tuple[Pair, Pair, Pair, int]:
    return _pair(stride), _pair(padding), _pair(dilation), groups


def _pair(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else size


class _Convolve(torch.autograd.Function):
    """A convolution whose slope is that of its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Maps, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Maps:
        ctx.geometry, ctx.biases = geometry, None if bias is None else list(bias.shape)
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(weight)
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, bar: Maps) -> tuple[Tensor | None, ...]:
        _only_once()
        *sizes, groups = ctx.geometry
        options = (ctx.biases, *sizes, False, (0, 0), groups, ctx.needs_input_grad[:3])
        return *aten.convolution_backward(bar, *ctx.saved_tensors, *options), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, d: Maps | None, *of_weights: Any) -> Maps | None:
        return None if d is None else F.conv2d(d, *ctx.saved_tensors, None, *ctx.geometry)


LAYERS: dict[Any, Callable[..., Any]] = {
    F.batch_norm: _batch_norm,
    F.elu: _elu,
    torch.conv2d: _conv2d,
}
