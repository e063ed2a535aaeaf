"""Objectives: the negative ELBO, with free bits, and the importance-weighted bound, per datum and in nats."""

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
    """The terms of an objective on a batch."""

    loss: Float[Tensor, " batch"]  # minimized, nats
    reconstruction: Float[Tensor, " batch"]  # -log p(x|z), nats, the mean over the posterior samples
    kl: Float[Tensor, " batch"]  # KL(q(z|x) || p(z)), nats, unweighted; in closed form where there is one
    z: Float[Tensor, "batch latent"]  # the first sample, from which a penalty continues
    likelihood: Likelihood  # p(x|z) of the first sample, then of the others


@singledispatch
def objective_terms(
    objective: Objective,
    model: VAE,
    x: Shaped[Tensor, "batch ..."],
    q: Posterior,
    noise: Float[Tensor, "sample batch width"],
    w: Tensor,
) -> ObjectiveTerms:
    """The terms of an objective on a batch, from random numbers for each posterior sample, at KL weight ``w``."""
    raise TypeError(f"no objective for {type(objective).__name__}")


@objective_terms.register(Elbo)
@objective_terms.register(FreeBits)
def _(objective: Elbo | FreeBits, model: VAE, x: Tensor, q: Posterior, noise: Tensor, w: Tensor) -> ObjectiveTerms:
    """-log p(x|z) + w KL, with one sample z and the KL of `counted_kl`."""
    z = q.sample(noise[0])
    likelihood, kl = model.decode(z, x), q.kl(model.prior, z)
    reconstruction = -likelihood.log_prob(x)
    return ObjectiveTerms(reconstruction + w * counted_kl(objective, kl), reconstruction, kl.sum(-1), z, likelihood)


def counted_kl(
    objective: Elbo | FreeBits, kl: Float[Tensor, "batch part"]
) -> Float[Tensor, " batch"] | Float[Tensor, " 1"]:
    """The KL in the loss, nats: sum_j KL_j, or with free bits sum_j max(floor, KL_j).

    Args:
        objective: the ELBO, or free bits.
        kl: ``(batch, part)`` KL of each datum and dimension, nats; of each datum as a whole where it has no such parts.
    Returns:
        ``(batch,)``; with free bits over the batch ``(1,)``, KL_j being its mean over the batch (Kingma et al. 2016,
        eq. 15).
    """
    if isinstance(objective, Elbo):
        return kl.sum(-1)
    counted = kl if objective.over == "datum" else mean_over_batch(kl.mean(0, keepdim=True))
    return counted.clamp(min=objective.floor).sum(-1)


@objective_terms.register
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
