"""The posterior q(z|x) of data under a method's inference; objectives and metrics call the encoder only through it."""

from functools import singledispatch

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.vae.config.components import Amortized, Inference, NoiseSpec, SemiAmortized, Svi
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.inference.refinement import Energy, refine, run_descent
from lso.vae.models.vae import VAE
from lso.vae.protocols import Posterior
from lso.vae.utils.random import generator

INITIAL_DEVIATION = 0.1  # standard deviation of SVI's random start; our choice, not a published one


def count_draws(inference: Inference) -> int:
    """The number of standard normal draws that an inference declares for each latent dimension of a datum.

    One for each gradient step, and two for the random start of SVI; none where the encoder alone gives q(z|x).
    """
    return sum(spec.count for spec in inference.noise(NoiseSpec(stream="posterior", width=None)))


def clip_group_size(inference: Inference) -> int:
    """The number of consecutive data whose gradients are clipped together outside training, else 1.

    Passes over a split should hold whole groups, so that a datum's posterior does not depend on the pass.
    """
    if isinstance(inference, Amortized) or inference.refinement.clip_over == "datum":
        return 1
    return inference.refinement.batch


@singledispatch
def infer(
    inference: Inference, model: VAE, x: Tensor, noise: Float[Tensor, "draw batch latent"] | None, w: Tensor | float
) -> Posterior:
    """The posterior q(z|x) of a batch, differentiable in the weights that it depends on (that of SVI is a constant).

    Args:
        inference: the method's inference.
        model: the VAE.
        x: ``(batch, ...)`` pixels in [0, 1], or tokens.
        noise: ``(draw, batch, latent)`` standard normal, `count_draws` of them; None where it needs none.
        w: KL weight in the ELBO that the gradient steps optimize.
    """
    raise TypeError(f"no inference for {type(inference).__name__}")


@infer.register
def _(inference: Amortized, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> Posterior:
    return model.encode(x)


@infer.register
def _(inference: Svi, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> DiagonalGaussian:
    assert noise is not None
    steps = inference.refinement.steps
    start = INITIAL_DEVIATION * noise[steps:] if inference.initial == "random" else noise.new_zeros(2, *noise.shape[1:])
    end, _, _ = run_descent(inference.refinement, Energy(model, x, w), start, noise[:steps])
    return DiagonalGaussian(end[0], end[1])


@infer.register
def _(inference: SemiAmortized, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> DiagonalGaussian:
    assert noise is not None
    exact = inference.products == "exact"
    return refine(inference.refinement, Energy(model, x, w), model.encode(x), noise, exact)


@torch.no_grad()
def posterior(model: VAE, x: Shaped[Tensor, "batch ..."], seed: int = 0) -> Posterior:
    """The posterior of data under the model's own inference, at KL weight 1.

    Args:
        model: the VAE, in eval mode.
        x: ``(batch, ...)`` pixels in [0, 1], of the model's dtype, or tokens; on its device.
        seed: of the noise of gradient steps.
    """
    size = (count_draws(model.inference), len(x), model.latent_dim)
    noise = torch.randn(size, generator=generator(seed, "inference")).to(next(model.parameters())) if size[0] else None
    return infer(model.inference, model, x, noise, 1.0)
