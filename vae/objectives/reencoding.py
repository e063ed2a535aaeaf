"""Penalties added to an objective: NE-VAE's re-encoding losses.

x -> z ~ q(z|x) -> soft reconstruction x~ = E[x|z] -> q(z|x~) = N(mu~, sigma~^2) -> z~. Both codes are sampled, and
gradients run through the decoder and both passes of the encoder. With an autoregressive decoder x~ is teacher-forced,
each pixel's mean given z and the pixels of x before it: one parallel pass, which leaks x into x~, so that the penalty
acts mostly on the posterior's variance. Of a sequence x~ is soft too: the probabilities of each token, which the
encoder reads as their expected embedding, with the length and the padding of x.
"""

from functools import singledispatch

from jaxtyping import Float
from torch import Tensor

from lso.vae.config.components import LogProbReencoding, Penalty, SquaredReencoding
from lso.vae.distributions.categorical import Categorical, one_hot
from lso.vae.distributions.gaussian import DiagonalGaussian, normal_log_prob
from lso.vae.distributions.pixels import Likelihood
from lso.vae.models.vae import VAE


def penalty_of(
    penalty: Penalty,
    model: VAE,
    z: Float[Tensor, "batch latent"],
    likelihood: Likelihood,
    noise: Float[Tensor, "batch latent"],
    shown: Tensor | None,
) -> Float[Tensor, " batch"]:
    """The penalty of a batch from its codes on: reconstruct, encode again, compare.

    Args:
        penalty: a value of the axis.
        model: the VAE.
        z: ``(batch, latent)`` sampled codes.
        likelihood: p(x|z) of these codes first, of further samples after them.
        noise: ``(batch, latent)`` standard normal for z~.
        shown: uniforms of the shape of the data for ``hard``, else None.
    Returns:
        ``(batch,)`` see `penalize`.
    """
    again = model.encode(reencoded(penalty, likelihood, shown)[: len(z)])
    return penalize(penalty, z, again, noise)


def reencoded(penalty: Penalty, likelihood: Likelihood, noise: Tensor | None) -> Tensor:
    """What of a reconstruction is encoded again.

    Args:
        penalty: a value of the axis; its ``shown`` says which.
        likelihood: p(x|z), whose mean is x~.
        noise: uniforms of the shape of the data for ``hard``.
    Returns:
        ``(batch, ...)``: x~ itself, x~ without gradients, or a draw (binary pixels; tokens as one-hot rows) with the
        gradients of x~.
    """
    mean = likelihood.mean
    if penalty.reconstruction == "detached":
        return mean.detach()
    if penalty.reconstruction == "hard":
        assert noise is not None
        noise = noise.repeat(len(mean) // len(noise), *[1] * (noise.ndim - 1))  # of several samples, one after another
        if isinstance(likelihood, Categorical):
            inside = mean.sum(-1, keepdim=True) > 0
            drawn = one_hot(likelihood.sample(noise), mean.shape[-1]) * inside
        else:
            drawn = noise < mean
        return mean + (drawn.to(mean.dtype) - mean).detach()
    return mean


@singledispatch
def penalize(
    penalty: Penalty,
    z: Float[Tensor, "batch latent"],
    reencoded: DiagonalGaussian,
    noise: Float[Tensor, "batch latent"],
) -> Float[Tensor, " batch"]:
    """Penalty of a batch, weighted.

    Args:
        penalty: a value of the axis.
        z: ``(batch, latent)`` sampled codes.
        reencoded: posterior of their soft reconstructions.
        noise: ``(batch, latent)`` standard normal for z~.
    Returns:
        ``(batch,)``: squared error per dimension (dimensionless) or nats, times the weight.
    """
    raise TypeError(f"no penalty for {type(penalty).__name__}")


@penalize.register
def _(penalty: SquaredReencoding, z: Tensor, reencoded: DiagonalGaussian, noise: Tensor) -> Tensor:
    """weight * mean_j (z_j - z~_j)^2 with z~ sampled; 2 per dimension at full collapse."""
    return penalty.weight * _reduce((z - reencoded.sample(noise)) ** 2, penalty.reduction)


@penalize.register
def _(penalty: LogProbReencoding, z: Tensor, reencoded: DiagonalGaussian, noise: Tensor) -> Tensor:
    """weight * sum_j max(c, -log N(z_j; mu~_j, sigma~_j^2)); no gradient in dimensions below the floor."""
    nats = -normal_log_prob(z, reencoded.mean, reencoded.log_var)
    return penalty.weight * _reduce(nats.clamp(min=penalty.c), penalty.reduction)


def _reduce(value: Tensor, reduction: str) -> Tensor:
    return value.mean(-1) if reduction == "mean" else value.sum(-1)
