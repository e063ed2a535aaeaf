"""Measures how much information the latents carry, from the codes of the validation split."""

import torch

from lso.vae.checkpoint import Codes
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.metrics.active_units import is_active, mean_variance
from lso.vae.metrics.collapse import MIN_DIMENSION_NATS, LatentUse
from lso.vae.metrics.information import log_mixture, mutual_information
from lso.vae.utils.random import generator

MAX_CODES = 5000  # the mixture density of 5000 codes of size 32 takes a tenth of a second


def latent_use(codes: Codes, seed: int = 0) -> LatentUse:
    """Measure the first `MAX_CODES` posteriors of a split, with one draw from each.

    All are treated as diagonal Gaussians under the prior N(0, I); of other posteriors the mean and variance are used.
    Where the decoder's use of each dimension was not measured, used dimensions are counted by their KL alone.
    """
    q = DiagonalGaussian(codes.mean[:MAX_CODES].double().cpu(), codes.log_var[:MAX_CODES].double().cpu())
    noise = torch.randn(q.mean.shape, generator=generator(seed, "latent-use"), dtype=torch.float64)
    z = q.sample(noise)
    kl = q.kl().mean(0)
    use = kl if codes.decoder_use is None else codes.decoder_use.double().cpu()
    return LatentUse(
        latent_dim=q.mean.shape[1],
        data=len(q),
        # The estimate from one draw per datum may be negative, the mutual information cannot.
        mutual_information=max(0.0, mutual_information(q, z, log_mixture(q, z)).mean().item()),
        kl=kl.sum().item(),
        used=int(((use >= MIN_DIMENSION_NATS) & (kl >= MIN_DIMENSION_NATS)).sum()),
        active_units=int(is_active(mean_variance(codes.mean)).sum()),
    )
