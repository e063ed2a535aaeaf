"""How q(z|x) is found: the only door to the encoder for objectives and metrics."""

from functools import singledispatch

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.vae.config.components import Amortized, Inference, NoiseSpec, SemiAmortized, Svi
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.inference.refinement import Energy, descend, refine
from lso.vae.models.vae import VAE
from lso.vae.protocols import Posterior
from lso.vae.utils.random import generator

SMALL = 0.1  # deviation of the random start of SVI, ours


def draws(inference: Inference) -> int:
    """Standard normals that an inference takes for each latent of a datum, as its row declares them.

    Args:
        inference: a value of the axis.
    Returns:
        0 for an amortized one; one for each gradient step, and two for the random start of SVI.
    """
    return sum(spec.count for spec in inference.noise(NoiseSpec(stream="posterior", width=None)))


def group(inference: Inference) -> int:
    """Data whose posteriors are found together outside training, by position: passes should hold whole groups.

    Args:
        inference: a value of the axis.
    Returns:
        The refinement's own batch where it clips over that, else 1.
    """
    if isinstance(inference, Amortized) or inference.refinement.clip_over == "datum":
        return 1
    return inference.refinement.batch


@singledispatch
def infer(
    inference: Inference, model: VAE, x: Tensor, noise: Float[Tensor, "draw batch latent"] | None, w: Tensor | float
) -> Posterior:
    """The posterior of a batch under a value of the inference axis.

    Args:
        inference: a value of the axis.
        model: the VAE.
        x: ``(batch, ...)`` pixels in [0, 1], or tokens.
        noise: ``(draws, batch, latent)`` standard normal, as many as `draws` says; None for none.
        w: KL weight of the step.
    Returns:
        q(z|x), ``(batch, latent)``, differentiable in what it depends on: SVI's is a constant.
    """
    raise TypeError(f"no inference for {type(inference).__name__}")


@infer.register
def _(inference: Amortized, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> Posterior:
    return model.encode(x)


@infer.register
def _(inference: Svi, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> DiagonalGaussian:
    assert noise is not None
    steps = inference.refinement.steps
    start = SMALL * noise[steps:] if inference.initial == "random" else noise.new_zeros(2, *noise.shape[1:])
    end, _, _ = descend(inference.refinement, Energy(model, x, w), start, noise[:steps])
    return DiagonalGaussian(end[0], end[1])


@infer.register
def _(inference: SemiAmortized, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> DiagonalGaussian:
    assert noise is not None
    exact = inference.products == "exact"
    return refine(inference.refinement, Energy(model, x, w), model.encode(x), noise, exact)


@torch.no_grad()
def posterior(model: VAE, x: Shaped[Tensor, "batch ..."], seed: int = 0) -> Posterior:
    """The posterior of data as the model's own method finds it, at KL weight 1.

    Args:
        model: the VAE, in eval mode.
        x: ``(batch, ...)`` pixels in [0, 1], of the model's dtype, or tokens; on its device.
        seed: of the draws of an inference that has some.
    Returns:
        q(z|x), ``(batch, latent)``.
    """
    size = (draws(model.inference), len(x), model.latent_dim)
    noise = torch.randn(size, generator=generator(seed, "inference")).to(next(model.parameters())) if size[0] else None
    return infer(model.inference, model, x, noise, 1.0)
