"""Penalties added to an objective: NE-VAE's re-encoding losses.

x -> z ~ q(z|x) -> soft reconstruction x~ = E[x|z] -> q(z|x~) = N(mu~, sigma~^2) -> z~. Both codes are sampled, and
gradients run through the decoder and both passes of the encoder. With an autoregressive decoder x~ is teacher-forced,
each pixel's mean given z and the pixels of x before it: one parallel pass, which leaks x into x~, so that the penalty
acts mostly on the posterior's variance. Of a sequence x~ is soft too: the probabilities of each token, which the
encoder reads as their expected embedding, with the length and the padding of x.
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
    """The penalty of a batch, weighted, from its codes on.

    Args:
        penalty: a value of the axis.
        model: the VAE.
        z: ``(batch, latent)`` sampled codes.
        likelihood: p(x|z) of these codes first, of further samples after them.
        noise: stream -> ``(count, batch, ...)``, the streams that the penalty declares among them.
    Returns:
        ``(batch,)`` nats, or what the penalty is measured in, times its weight.
    """
    raise TypeError(f"no penalty for {type(penalty).__name__}")


@penalty_of.register(SquaredReencoding)
@penalty_of.register(LogProbReencoding)
def _(
    penalty: Reencoding,
    model: VAE,
    z: Tensor,
    likelihood: Likelihood,
    noise: Mapping[str, Tensor],
) -> Tensor:
    """Reconstruct, encode again, compare."""
    pixels, second = (noise[name][0] if name in noise else None for name in ("pixels", "reencode"))
    again = model.encode(reencoded(penalty, likelihood, pixels)[: len(z)])
    return penalize(penalty, z, again, second)


def reencoded(penalty: Reencoding, likelihood: Likelihood, noise: Tensor | None) -> Tensor:
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
    penalty: Reencoding,
    z: Float[Tensor, "batch latent"],
    reencoded: Posterior,
    noise: Float[Tensor, "batch width"] | None,
) -> Float[Tensor, " batch"]:
    """Penalty of a batch, weighted.

    Args:
        penalty: a value of the axis.
        z: ``(batch, latent)`` sampled codes.
        reencoded: posterior of their soft reconstructions.
        noise: ``(batch, width)`` what the posterior draws z~ by; None where none is drawn.
    Returns:
        ``(batch,)``: squared error per dimension (dimensionless) or nats, times the weight.
    """
    raise TypeError(f"no penalty for {type(penalty).__name__}")


@penalize.register
def _(penalty: SquaredReencoding, z: Tensor, reencoded: Posterior, noise: Tensor | None) -> Tensor:
    """weight * mean_j (z_j - z~_j)^2 with z~ sampled; 2 per dimension at full collapse."""
    assert noise is not None
    return penalty.weight * _reduce((z - reencoded.sample(noise)) ** 2, penalty.reduction)


@penalize.register
def _(penalty: LogProbReencoding, z: Tensor, reencoded: DiagonalGaussian, noise: Tensor | None) -> Tensor:
    """weight * sum_j max(c, -log N(z_j; mu~_j, sigma~_j^2)); no gradient in dimensions below the floor."""
    nats = -normal_log_prob(z, reencoded.mean, reencoded.log_var)
    return penalty.weight * _reduce(nats.clamp(min=penalty.c), penalty.reduction)


def _reduce(value: Tensor, reduction: str) -> Tensor:
    return value.mean(-1) if reduction == "mean" else value.sum(-1)
