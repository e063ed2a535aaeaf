"""Objectives: what is minimized for one batch, per datum and in nats."""

import math
from dataclasses import dataclass
from functools import singledispatch

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.vae.config.components import Elbo, FreeBits, ImportanceWeighted, Objective
from lso.vae.distributed import mean_over_batch
from lso.vae.models.vae import VAE
from lso.vae.protocols import Likelihood, Posterior


@dataclass(frozen=True, slots=True, eq=False)
class ObjectiveTerms:
    """One batch seen through an objective.

    Args:
        loss: ``(batch,)`` what is minimized, nats.
        reconstruction: ``(batch,)`` -log p(x|z), mean over the samples drawn.
        kl: ``(batch,)`` KL(q(z|x) || p(z)), unweighted; in closed form where there is one.
        z: ``(batch, latent)`` the first sample, which a penalty goes on from.
        likelihood: p(x|z), of that sample first.
    """

    loss: Float[Tensor, " batch"]
    reconstruction: Float[Tensor, " batch"]
    kl: Float[Tensor, " batch"]
    z: Float[Tensor, "batch latent"]
    likelihood: Likelihood


@singledispatch
def evaluate(
    objective: Objective,
    model: VAE,
    x: Shaped[Tensor, "batch ..."],
    q: Posterior,
    noise: Float[Tensor, "sample batch width"],
    w: Tensor,
) -> ObjectiveTerms:
    """Loss of a batch under an objective."""
    raise TypeError(f"no objective for {type(objective).__name__}")


@evaluate.register(Elbo)
@evaluate.register(FreeBits)
def _(objective: Elbo | FreeBits, model: VAE, x: Tensor, q: Posterior, noise: Tensor, w: Tensor) -> ObjectiveTerms:
    """-log p(x|z) + w KL, one sample, the KL counted as `counted_kl` does."""
    z = q.sample(noise[0])
    likelihood, kl = model.decode(z, x), q.kl(model.prior, z)
    reconstruction = -likelihood.log_prob(x)
    return ObjectiveTerms(reconstruction + w * counted_kl(objective, kl), reconstruction, kl.sum(-1), z, likelihood)


def counted_kl(
    objective: Elbo | FreeBits, kl: Float[Tensor, "batch part"]
) -> Float[Tensor, " batch"] | Float[Tensor, " 1"]:
    """The KL as an objective of one sample counts it: sum_j KL_j, or with free bits sum_j max(floor, KL_j).

    Args:
        objective: a value of the axis.
        kl: ``(batch, part)`` KL of each datum and dimension, nats; of a datum as a whole where it has no such parts.
    Returns:
        ``(batch,)`` nats; ``(1,)`` of free bits over a batch, whose KL_j is its mean over the batch (Kingma et al.
        2016, eq. 15).
    """
    if isinstance(objective, Elbo):
        return kl.sum(-1)
    counted = kl if objective.over == "datum" else mean_over_batch(kl.mean(0, keepdim=True))
    return counted.clamp(min=objective.floor).sum(-1)


@evaluate.register
def _(objective: ImportanceWeighted, model: VAE, x: Tensor, q: Posterior, noise: Tensor, w: Tensor) -> ObjectiveTerms:
    """-log (1/K) sum_k p(x|z_k) (p(z_k) / q(z_k|x))^w (Burda et al. 2016, eq. 8 at w = 1)."""
    k = len(noise)
    z = q.sample(noise)  # (K, B, d)
    repeated = x.repeat(k, *[1] * (x.dim() - 1))  # (K B, ...), one copy of the batch after another
    likelihood = model.decode(z.flatten(0, 1), repeated)
    log_p = likelihood.log_prob(repeated).reshape(k, len(x))
    log_weight = log_p + w * (model.prior.log_prob(z) - q.log_prob(z))
    loss = math.log(k) - torch.logsumexp(log_weight, dim=0)
    return ObjectiveTerms(loss, -log_p.mean(0), q.kl(model.prior, z[0]).sum(-1), z[0], likelihood)
