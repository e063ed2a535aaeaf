"""Batch-norm over the global batch of several processes; with one process torch's own."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.processes import Share, mean_over_batch, shared, total

Grids = Float[Tensor, "batch channels height width"]


class BatchNorm2d(nn.BatchNorm2d):
    """Torch's batch-norm, whose statistics in a step are those of the batches of all processes.

        mean = c + E[x - c],  var = E[(x - c)^2] - E[x - c]^2,  E over the global batch, c the running mean,

    so that one all-reduce a pass does, forward and backward, and a mean far from zero costs no digits.
    """

    def forward(self, x: Grids) -> Grids:
        """Normalize.

        Args:
            x: ``(batch, channels, height, width)``; in training one value a channel has no variance, and is normalized
                by the running statistics, which stay.
        Returns:
            The same shape.
        """
        part = shared() if self.training else None
        values = x.numel() // self.num_features
        if part is not None:
            values = values * part.size // part.mine
        if values == 1 and self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if part is None:
            alone: Tensor = super().forward(x)
            return alone
        mean, var = self._moments(x)
        if self.track_running_stats:
            self._move(mean, var * (values / (values - 1)))
        found: Tensor = _Normalize.apply(x, self.weight, self.bias, mean, var, self.eps)  # type: ignore[no-untyped-call]
        return found

    @torch.no_grad()
    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None and self.running_var is not None
        # The copies are not looked at: given some, the kernel computes in their precision, also where x has less.
        mean, var = torch.batch_norm_update_stats(x, self.running_mean.clone(), self.running_var.clone(), 0.0)
        first = mean - self.running_mean
        first, second = mean_over_batch(torch.stack([first, var + first.square()]))
        return self.running_mean + first, (second - first.square()).clamp(min=0)

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


class _Normalize(torch.autograd.Function):
    """y = s (x - mean) + bias, s = weight / sqrt(var + eps), mean and var functions of all x, by torch's fused kernels.

    With g the gradient of y, u the normalized x and n the values a channel of the global batch,

        gradient of x = s (g - sum g / n - u sum (g u) / n),  sums over the global batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.eps, ctx.part = eps, shared()
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, var = ctx.saved_tensors
        part: Share = ctx.part
        if torch.is_grad_enabled():  # to be differentiated again: by the equations, not by their derivatives
            found = torch.autograd.grad(
                _equations(x, weight, bias, mean, ctx.eps), (x, weight, bias), gradients[0], create_graph=True
            )
            return *found, None, None, None
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        means = total(torch.stack([of_bias, of_weight])) * (part.weight * len(mean) / x.numel())
        deviation = (var + ctx.eps).rsqrt()
        slope = -weight * deviation.square() * means[1]
        offset = -weight * deviation * means[0] - slope * mean
        coupled = torch.addcmul(direct, x, slope[:, None, None]).add_(offset[:, None, None])
        return coupled.to(x.dtype), of_weight, of_bias, None, None, None


def _equations(x: Tensor, weight: Tensor, bias: Tensor, about: Tensor, eps: float) -> Tensor:
    """The same by elementary operations; ``about`` is a constant near the mean."""
    shifted = x - about[:, None, None]
    mean, square = mean_over_batch(torch.stack([shifted.mean((0, 2, 3)), shifted.square().mean((0, 2, 3))]))
    scale = weight * ((square - mean.square()).clamp(min=0) + eps).rsqrt()
    normalized: Tensor = (shifted - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]
    return normalized.to(x.dtype)
