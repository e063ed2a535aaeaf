"""What the latents of a model carry, measured from the codes of its validation split."""

import torch

from lso.vae.checkpoint import Codes
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.metrics.active_units import is_active, mean_variance
from lso.vae.metrics.collapse import MIN_DIMENSION_NATS, LatentUse
from lso.vae.metrics.information import log_mixture, mutual_information
from lso.vae.utils.random import generator

MAX_CODES = 5000  # codes; 5000 x 5000 x 32 take a tenth of a second


def latent_use(codes: Codes, seed: int = 0) -> LatentUse:
    """Measure codes, as diagonal Gaussians under N(0, I): of other posteriors their mean and variance.

    Args:
        codes: posteriors of a split, of which the first `MAX_CODES` are taken, with the decoder's use of each dimension
            where that is known.
        seed: of the one draw from each posterior.
    Returns:
        The numbers that a verdict rests on. Where the decoder's use is not known, dimensions are counted by their KL.
    """
    q = DiagonalGaussian(codes.mean[:MAX_CODES].double().cpu(), codes.log_var[:MAX_CODES].double().cpu())
    noise = torch.randn(q.mean.shape, generator=generator(seed, "latent-use"), dtype=torch.float64)
    z = q.sample(noise)
    kl = q.kl().mean(0)
    use = kl if codes.decoder_use is None else codes.decoder_use.double().cpu()
    return LatentUse(
        latent_dim=q.mean.shape[1],
        data=len(q),
        # Estimated from one draw a datum: that may fall below zero, what it estimates cannot.
        mutual_information=max(0.0, mutual_information(q, z, log_mixture(q, z)).mean().item()),
        kl=kl.sum().item(),
        used=int(((use >= MIN_DIMENSION_NATS) & (kl >= MIN_DIMENSION_NATS)).sum()),
        active_units=int(is_active(mean_variance(codes.mean)).sum()),
    )
