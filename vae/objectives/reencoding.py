"""Penalties added to an objective: the re-encoding losses of NE-VAE.

x -> z ~ q(z|x) -> soft reconstruction x~ = E[x|z] -> q(z|x~) = N(mu~, sigma~^2) -> z~. Both codes are sampled, and
gradients run through the decoder and both passes of the encoder. With an autoregressive decoder x~ is teacher-forced,
each pixel's mean given z and the pixels of x before it: one parallel pass, which leaks x into x~, so that the penalty
acts mostly on the posterior's variance. For sequences x~ holds the probabilities of each token, which the encoder reads
as their expected embedding, with the length and the padding of x.
"""

from collections.abc import Mapping
from functools import singledispatch

from jaxtyping import Float
from torch import Tensor

from lso.vae.config.components import Component, LogProbReencoding, Reencoding, SquaredReencoding
from lso.vae.distributions.categorical import Categorical, one_hot
from lso.vae.distributions.gaussian import DiagonalGaussian, normal_log_prob
from lso.vae.models.vae import VAE
from lso.vae.protocols import Likelihood, Posterior


@singledispatch
def penalty_of(
    penalty: Component,
    model: VAE,
    z: Float[Tensor, "batch latent"],
    likelihood: Likelihood,
    noise: Mapping[str, Tensor],
) -> Float[Tensor, " batch"]:
    """The weighted penalty of a batch, computed from its codes and their likelihood.

    Args:
        penalty: the method's penalty.
        model: the VAE.
        z: ``(batch, latent)`` sampled codes.
        likelihood: p(x|z) of these codes, then of further samples.
        noise: stream -> ``(count, batch, ...)`` random numbers, those that the penalty declares among them.
    """
    raise TypeError(
        f"no penalty for {type(penalty).__name__}: register a function for it with penalty_of, in a module that "
        "lso/vae/objectives/__init__.py imports"
    )


@penalty_of.register(SquaredReencoding)
@penalty_of.register(LogProbReencoding)
def _(
    penalty: Reencoding,
    model: VAE,
    z: Tensor,
    likelihood: Likelihood,
    noise: Mapping[str, Tensor],
) -> Tensor:
    """Encode the reconstruction and compare its posterior with the code."""
    pixels, second = (noise[name][0] if name in noise else None for name in ("pixels", "reencode"))
    again = model.encode(select_reconstruction(penalty, likelihood, pixels)[: len(z)])
    return penalize(penalty, z, again, second)


def select_reconstruction(penalty: Reencoding, likelihood: Likelihood, noise: Tensor | None) -> Tensor:
    """The reconstruction that is encoded again: x~, x~ without gradients, or a draw with the gradients of x~.

    Args:
        penalty: its ``reconstruction`` says which.
        likelihood: p(x|z), whose mean is x~.
        noise: uniforms of the shape of the data for a draw (binary pixels; tokens as one-hot rows).
    """
    mean = likelihood.mean
    if penalty.reconstruction == "detached":
        return mean.detach()
    if penalty.reconstruction == "hard":
        assert noise is not None
        noise = noise.repeat(len(mean) // len(noise), *[1] * (noise.ndim - 1))  # the same for every posterior sample
        if isinstance(likelihood, Categorical):
            inside = mean.sum(-1, keepdim=True) > 0
            drawn = one_hot(likelihood.sample(noise), mean.shape[-1]) * inside
        else:
            drawn = noise < mean
        return mean + (drawn.to(mean.dtype) - mean).detach()
    return mean


@singledispatch
def penalize(
    penalty: Reencoding,
    z: Float[Tensor, "batch latent"],
    reencoded: Posterior,
    noise: Float[Tensor, "batch width"] | None,
) -> Float[Tensor, " batch"]:
    """The weighted penalty of a batch: a squared error (dimensionless) or nats.

    Args:
        penalty: the method's penalty.
        z: ``(batch, latent)`` sampled codes.
        reencoded: posterior of their reconstructions.
        noise: ``(batch, width)`` random numbers for the draw of z~; None where none is drawn.
    """
    raise TypeError(f"no penalty for {type(penalty).__name__}")


@penalize.register
def _(penalty: SquaredReencoding, z: Tensor, reencoded: Posterior, noise: Tensor | None) -> Tensor:
    """weight * mean_j (z_j - z~_j)^2 with z~ sampled; in expectation 2 weight where all latents have collapsed."""
    assert noise is not None
    return penalty.weight * _reduce((z - reencoded.sample(noise)) ** 2, penalty.reduction)


@penalize.register
def _(penalty: LogProbReencoding, z: Tensor, reencoded: DiagonalGaussian, noise: Tensor | None) -> Tensor:
    """weight * sum_j max(c, -log N(z_j; mu~_j, sigma~_j^2)); no gradient in dimensions below the floor."""
    nats = -normal_log_prob(z, reencoded.mean, reencoded.log_var)
    return penalty.weight * _reduce(nats.clamp(min=penalty.c), penalty.reduction)


def _reduce(value: Tensor, reduction: str) -> Tensor:
    return value.mean(-1) if reduction == "mean" else value.sum(-1)
