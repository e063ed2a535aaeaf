"""Refinement of posteriors by gradient steps, and its exact reverse pass (Kim et al. 2018, arXiv:1802.02550).

With f the sampled negative ELBO summed over the batch, c_k the factor of the clip and s = 1 / batch:

    v_{k+1} = m v_k - s c_k grad f(l_k; noise_k, theta),   l_{k+1} = l_k + eta v_{k+1},   l = (mean, log_var).

The reverse pass takes the clip factors as constants. With l~ for the gradient of the outer loss in l, from k = K - 1
down:

    v~ += eta l~;   u = s c_k v~;   l~ -= H_ll u;   theta~ -= H_tl u;   v~ *= m,

H being the second derivatives of f at l_k with the noise of that step. (H_ll u, H_tl u) is the gradient of the slope of
f along u: it costs about 2 forward passes for values and slopes and 4 for the backward pass, and twice the memory of a
plain gradient. By differences it costs one gradient more a product, the memory of a plain gradient, and K gradients in
the decoder's weights, kept from the descent. A decoder's dropout has one mask for all steps and the outer loss; the
published code draws one for each step.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.autograd import forward_ad

from lso.vae.config.components import Refinement
from lso.vae.distributed import current_share, norm_over_batch
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.inference.forward_ad import DualLayers
from lso.vae.models.vae import VAE
from lso.vae.protocols import Posterior

# Root mean square of the displacement of the entries of (mean, log_var) in a difference. The error from the kinks of
# ELUs grows with its root, that from rounding with its inverse, and in single precision they are equal about here:
# early in training products of a PixelCNN are wrong by 1.1 to 3.2 % (`he2019` after 15 steps: 1.39 % along the
# posterior, 2.89 % in the weights; docs/log.md). The gradients of a whole step are what has to be right to 1 %: they
# are wrong by 0.14 % at most on the networks of the log. Central differences would be better by a third to a half, and
# cost as much as exact products.
DISPLACEMENT = 1e-3


class Energy(NamedTuple):
    """The function f that is minimized over l: the negative ELBO of data ``x`` at KL weight ``w``."""

    model: VAE
    x: Shaped[Tensor, "batch ..."]
    w: Float[Tensor, ""] | float


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """A context in which batch-norm in train mode uses the batch's statistics and leaves the running ones alone."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    training = [layer for layer in layers if layer.training]
    for layer in training:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in training:
            layer.track_running_stats = True


def run_descent(
    spec: Refinement,
    energy: Energy,
    start: Float[Tensor, "two batch latent"],
    noise: Float[Tensor, "step batch latent"],
) -> tuple[Float[Tensor, "two batch latent"], list[Tensor], list[Tensor]]:
    """K steps of the descent, without gradients through them.

    Args:
        spec: steps, sizes and clip.
        energy: the function to minimize. Where the model is in eval mode, a clip over the batch is one over each
            ``spec.batch`` consecutive data, so that a datum's result does not depend on the size of a pass.
        start: ``(2, batch, latent)`` mean and log-variance.
        noise: ``(K, batch, latent)`` standard normal.
    Returns:
        The result, and for each step the point that it started from and the factor on its gradient.
    """
    end, steps = _run_descent(spec, energy, start, noise, ())
    return end, [step.point for step in steps], [step.factor for step in steps]


class RefinementStep(NamedTuple):
    """What the reverse pass needs of a step of the descent."""

    point: Tensor  # (2, batch, latent), where the step started
    factor: Tensor  # (2, batch or 1, 1), on its gradient
    gradients: tuple[Tensor, ...]  # of f at the point, in the point and in the weights that were asked for


Weights = tuple[Tensor, ...]


def _run_descent(
    spec: Refinement, energy: Energy, start: Tensor, noise: Tensor, weights: Weights
) -> tuple[Tensor, list[RefinementStep]]:
    point, velocity = start.detach(), torch.zeros_like(start)
    steps, together = [], len(energy.x) if energy.model.training else spec.batch
    with frozen_statistics(energy.model):
        for eps in noise:
            gradients = _gradients(energy, point, eps, weights)
            factor = _clip_factor(spec, gradients[0] / spec.batch, together) / spec.batch
            steps.append(RefinementStep(point, factor, gradients))
            velocity = spec.momentum * velocity - factor * gradients[0]
            point = point + spec.step_size * velocity
    return point, steps


def refine(
    spec: Refinement, energy: Energy, q: Posterior, noise: Float[Tensor, "step batch latent"], exact: bool = True
) -> DiagonalGaussian:
    """The posterior after K steps of the descent from q, differentiable in q and in the decoder's weights.

    It has no second derivatives: a backward pass with ``create_graph`` raises a UsageError.

    Args:
        spec: steps, sizes and clip.
        energy: the function to minimize; in train mode batch-norm uses the batch's statistics and moves no others.
        q: where the descent starts.
        noise: ``(K, batch, latent)`` standard normal.
        exact: second derivatives by automatic differentiation, else by one-sided differences.
    """
    weights = [p for p in energy.model.halves["decoder"] if p.requires_grad]
    start = torch.stack([q.mean, q.log_var])
    return DiagonalGaussian(*_Refine.apply(spec, energy, exact, start, noise, *weights))  # type: ignore[no-untyped-call]


class _Refine(torch.autograd.Function):
    """`run_descent` as a function of the start and the decoder's weights, with the reverse pass of this module."""

    @staticmethod
    def forward(
        ctx: Any, spec: Refinement, energy: Energy, exact: bool, start: Tensor, noise: Tensor, *weights: Tensor
    ) -> Tensor:
        ctx.autocast = _autocast_for_backward(start.device.type, exact)
        with ctx.autocast:
            end, steps = _run_descent(spec, energy, start, noise, () if exact else weights)
        ctx.spec, ctx.energy, ctx.exact, ctx.weights = spec, energy, exact, weights
        ctx.save_for_backward(noise, *(t for step in steps for t in (step.point, step.factor, *step.gradients)))
        return end

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # `once_differentiable` would let autograd.grad return a part of the derivative
            raise UsageError("a refined posterior has no second derivatives", "Leave create_graph out.")
        spec, (noise, *kept) = ctx.spec, ctx.saved_tensors
        each = len(kept) // spec.steps
        point_bar, velocity_bar = gradients[0], torch.zeros_like(gradients[0])
        weights_bar = [torch.zeros_like(p) for p in ctx.weights]
        with frozen_statistics(ctx.energy.model), ctx.autocast:
            for k in reversed(range(spec.steps)):
                point, factor, *at_point = kept[k * each : (k + 1) * each]
                velocity_bar = velocity_bar + spec.step_size * point_bar
                u = factor * velocity_bar
                if ctx.exact:
                    along, *over = _exact_product(ctx.energy, point, noise[k], u, ctx.weights)
                else:
                    along, *over = _difference_product(ctx.energy, point, noise[k], u, ctx.weights, at_point)
                point_bar = point_bar - along
                torch._foreach_sub_(weights_bar, over)
                velocity_bar = spec.momentum * velocity_bar
        return None, None, None, point_bar, None, *weights_bar


def _autocast_for_backward(device: str, exact: bool) -> torch.autocast:
    """The current precision of the layers, to be used again in the backward pass.

    Differences of gradients are computed in single precision: they would be lost in bfloat16.
    """
    return torch.autocast(device, torch.get_autocast_dtype(device), exact and torch.is_autocast_enabled(device))


def _evaluate_energy(energy: Energy, point: Tensor, eps: Tensor) -> Tensor:
    """f: the sampled negative ELBO, summed over the batch."""
    q = DiagonalGaussian(point[0], point[1])
    z = q.sample(eps)
    likelihood = energy.model.decode(z, energy.x)
    return (energy.w * q.kl(energy.model.prior, z).sum(-1) - likelihood.log_prob(energy.x)).sum()


def _gradients(energy: Energy, point: Tensor, eps: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """The gradients of f in the point and in weights."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        return torch.autograd.grad(_evaluate_energy(energy, point, eps), (point, *weights), materialize_grads=True)


def _clip_factor(spec: Refinement, gradient: Tensor, together: int) -> Tensor:
    """The factors, at most 1, that clip the gradients in mean and log-variance, each by its own norm, as published.

    ``together`` is the number of consecutive data over which a clip over the batch takes the norm.
    """
    if spec.clip == 0:
        return gradient.new_ones(2, 1, 1)
    norm, limit = gradient.norm(dim=2, keepdim=True), spec.clip / math.sqrt(spec.batch)
    if spec.clip_over == "batch":
        groups = torch.split(norm, max(1, together), dim=1)
        norm, limit = torch.cat([norm_over_batch(g, 1).expand_as(g) for g in groups], 1), spec.clip
    factor: Tensor = (limit / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
    return factor


def _exact_product(energy: Energy, point: Tensor, eps: Tensor, u: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """H_ll u, and H_tl u for each of the weights: the gradient of the slope of f along u, by `DualLayers`."""
    if energy.model.kind == "sequence" or current_share() is not None:
        return _double_backward_product(energy, point, eps, u, weights)
    point = point.detach().requires_grad_()
    with torch.enable_grad(), DualLayers(), forward_ad.dual_level():
        value = _evaluate_energy(energy, forward_ad.make_dual(point, u), eps)  # type: ignore[no-untyped-call]
        slope = forward_ad.unpack_dual(value).tangent  # type: ignore[no-untyped-call]
    return torch.autograd.grad(slope, (point, *weights), materialize_grads=True)


def _double_backward_product(
    energy: Energy, point: Tensor, eps: Tensor, u: Tensor, weights: Weights
) -> tuple[Tensor, ...]:
    """The product of `_exact_product` by differentiating the gradient along u: `DualLayers` has no recurrent layers,
    and no batch-norms whose statistics are summed over processes.
    """
    # The recurrent networks of cuDNN cannot be differentiated twice; torch's own can.
    recurrent = any(isinstance(module, nn.RNNBase) for module in energy.model.modules())
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_evaluate_energy(energy, point, eps), point, create_graph=True)
        return torch.autograd.grad(gradient, (point, *weights), grad_outputs=u, materialize_grads=True)


def _difference_product(
    energy: Energy, point: Tensor, eps: Tensor, u: Tensor, weights: Weights, at_point: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The product of `_exact_product` by one-sided differences; ``at_point`` are the gradients at the point itself."""
    part = current_share()
    entries = u.numel() if part is None else u.numel() * part.size // part.mine
    step = DISPLACEMENT * math.sqrt(entries) / norm_over_batch(u).clamp(min=torch.finfo(u.dtype).tiny)
    displaced = _gradients(energy, point + step * u, eps, weights)
    return tuple((a - b) / step for a, b in zip(displaced, at_point, strict=True))
