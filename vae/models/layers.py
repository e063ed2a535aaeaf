"""Layers: causal convolutions, batch-norm over several processes, and the fusion of batch-norms into convolutions."""

import copy
import math
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.distributed import Share, current_share, mean_over_batch, sum_over_processes


class MaskedConv2d(nn.Module):
    """A masked convolution: it sees causal channels at the pixels before its own in raster order, open ones everywhere.

    The stored weight is the full kernel, as in the published code, so that parameter counts and initialization are
    the same. Only the rows up to the centre are computed; masked taps have a gradient of exactly 0 and so stay out of
    gradient norms, in which the published code counts them. There is no bias, unless a norm was fused into it.

    Args:
        causal: number of input channels that are seen causally.
        out: number of output channels.
        kernel: odd side of the window.
        centre: whether a causal channel is seen at the pixel itself (type B) or not (type A).
        open_channels: number of further input channels, seen in the whole window.
    Source: van den Oord et al. (2016), arXiv:1601.06759; normal initialization of variance 2 / (kernel^2 out) over all
        taps: He et al. (2019), authors' code.
    """

    mask: Tensor

    def __init__(self, causal: int, out: int, kernel: int, *, centre: bool, open_channels: int = 0) -> None:
        super().__init__()
        self.causal, self.kernel = causal, kernel
        self.weight = nn.Parameter(torch.empty(out, causal + open_channels, kernel, kernel))
        self.bias: nn.Parameter | None = None
        nn.init.normal_(self.weight, std=math.sqrt(2 / (kernel**2 * out)))
        mask = torch.ones(kernel // 2 + 1, kernel)
        mask[-1, kernel // 2 + centre :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def causal_weight(self) -> Float[Tensor, "out causal rows kernel"]:
        """The weight on causal channels, in rows up to the centre, masked taps set to 0."""
        return self.weight[:, : self.causal, : self.kernel // 2 + 1] * self.mask

    def forward(
        self,
        x: Float[Tensor, "batch causal height width"],
        opened: Float[Tensor, "batch open height width"] | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """The convolution of causal and open channels, of the size of the input."""
        half = self.kernel // 2
        seen = F.conv2d(F.pad(x, (half, half, half, 0)), self.causal_weight(), self.bias)
        return seen if opened is None else seen + self.convolve_open(opened)

    def convolve_open(
        self, opened: Float[Tensor, "batch open height width"]
    ) -> Float[Tensor, "batch out height width"]:
        """The part of the open channels in the output."""
        return F.conv2d(opened, self.weight[:, self.causal :], padding=self.kernel // 2)


Grids = Float[Tensor, "batch channels height width"]


class BatchNorm2d(nn.BatchNorm2d):
    """Torch's batch-norm, with the statistics of the global batch where a step is shared by several processes.

        mean = c + E[x - c],  var = E[(x - c)^2] - E[x - c]^2,  E over the global batch, c the running mean,

    so that one all-reduce each suffices in the forward and the backward pass, and a mean far from zero loses no digits.
    """

    def forward(self, x: Grids) -> Grids:
        """The normalized maps.

        In train mode, a single value of a channel has no variance: it is normalized by the running statistics, which
        are not updated.
        """
        part = current_share() if self.training else None
        values = x.numel() // self.num_features
        if part is not None:
            values = values * part.size // part.mine
        if self.training and values == 1:  # in this order: torch.export would take the size for a constant
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if part is None:
            unshared: Tensor = super().forward(x)
            return unshared
        mean, var = self._moments(x)
        if self.track_running_stats:
            self._update_running_statistics(mean, var * (values / (values - 1)))
        result: Tensor = _SharedNormalize.apply(x, self.weight, self.bias, mean, var, self.eps)  # type: ignore[no-untyped-call]
        return result

    @torch.no_grad()
    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None and self.running_var is not None
        # The copies are not used: given some, the kernel computes in their precision, also where x has less.
        mean, var = torch.batch_norm_update_stats(x, self.running_mean.clone(), self.running_var.clone(), 0.0)
        first = mean - self.running_mean
        first, second = mean_over_batch(torch.stack([first, var + first.square()]))
        return self.running_mean + first, (second - first.square()).clamp(min=0)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


class _SharedNormalize(torch.autograd.Function):
    """y = s (x - mean) + bias, s = weight / sqrt(var + eps), mean and var functions of all x, by torch's fused kernels.

    With g the gradient of y, u the normalized x and n the values a channel of the global batch,

        gradient of x = s (g - sum g / n - u sum (g u) / n),  sums over the global batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.eps, ctx.part = eps, current_share()
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, var = ctx.saved_tensors
        part: Share = ctx.part
        if torch.is_grad_enabled():  # this pass is to be differentiated itself, which the fused kernels cannot be
            computed = torch.autograd.grad(
                _normalize_by_equations(x, weight, bias, mean, ctx.eps),
                (x, weight, bias),
                gradients[0],
                create_graph=True,
            )
            return *computed, None, None, None
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        means = sum_over_processes(torch.stack([of_bias, of_weight])) * (part.weight * len(mean) / x.numel())
        deviation = (var + ctx.eps).rsqrt()
        slope = -weight * deviation.square() * means[1]
        offset = -weight * deviation * means[0] - slope * mean
        coupled = torch.addcmul(direct, x, slope[:, None, None]).add_(offset[:, None, None])
        return coupled.to(x.dtype), of_weight, of_bias, None, None, None


def _normalize_by_equations(x: Tensor, weight: Tensor, bias: Tensor, about: Tensor, eps: float) -> Tensor:
    """The output of `_SharedNormalize` by elementary operations; ``about`` is a constant near the mean."""
    shifted = x - about[:, None, None]
    mean, square = mean_over_batch(torch.stack([shifted.mean((0, 2, 3)), shifted.square().mean((0, 2, 3))]))
    scale = weight * ((square - mean.square()).clamp(min=0) + eps).rsqrt()
    normalized: Tensor = (shifted - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]
    return normalized.to(x.dtype)


@runtime_checkable
class FoldableNetwork(Protocol):
    """A network with batch-norms that can be fused into its convolutions."""

    def folded(self) -> nn.Module:
        """A copy of the network in eval mode with its norms fused, for inference only."""
        ...


def fold_norms(network: nn.Module) -> nn.Module:
    """A network in its fastest form for inference: a copy with fused norms, or itself where it has none to fuse."""
    return network.folded() if isinstance(network, FoldableNetwork) else network


T = TypeVar("T", bound=nn.Module)


def shallow_copy(network: T) -> T:
    """A copy in eval mode with modules of its own and the same parameters, which may be replaced but not changed."""
    twin = copy.copy(network)  # a deep copy takes longer than to draw a small image
    twin._parameters, twin._buffers = dict(network._parameters), dict(network._buffers)
    twin._modules = {name: child and shallow_copy(child) for name, child in network._modules.items()}
    twin.training = False
    return twin


@torch.no_grad()
def fuse_norm(convolution: nn.Module, norm: nn.Module) -> nn.Identity:
    """Fuse a norm, with its running statistics, into the convolution before it, of a `shallow_copy` and without a bias.

        s (w x - mean) + b = (s w) x + (b - s mean),  s = weight / sqrt(variance + eps)

    The convolution's parameters are replaced; the identity is returned to take the norm's place.
    """
    assert isinstance(convolution, nn.Conv2d | MaskedConv2d) and convolution.bias is None
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(norm.bias - scale * norm.running_mean, requires_grad=False)
    return nn.Identity()
