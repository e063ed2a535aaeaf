"""Use of each latent dimension: by the encoder (variance of its means) and by the decoder (loss when redrawn)."""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from lso.vae.models.vae import VAE

THRESHOLD = 0.01  # Burda et al. (2016)


def mean_variance(mean: Float[Tensor, "n latent"]) -> Float[Tensor, " latent"]:
    """Variance over the data of the posterior mean, for each dimension.

        A_j = 1/(n - 1) sum_i (mu_j(x_i) - mean_i mu_j)^2, in two passes and in double.

    Args:
        mean: ``(n, latent)`` posterior means of a whole split.
    Returns:
        ``(latent,)`` in double; 0 for a single datum.
    Source: Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519, sec. 5.2. Deviations: none.
    """
    centred = mean.double() - mean.double().mean(0)
    return (centred**2).sum(0) / max(1, len(mean) - 1)


def is_active(variance: Float[Tensor, " latent"], threshold: float = THRESHOLD) -> Bool[Tensor, " latent"]:
    """Which dimensions are active: A_j >= threshold. Their number is AU, the active units.

    Args:
        variance: ``(latent,)`` from `mean_variance`.
        threshold: least variance of an active dimension.
    Returns:
        ``(latent,)``.
    Source: Burda et al. (2016), sec. 5.2 (0.01); Dieng et al. (2019) count from 0.02.
    """
    return variance >= threshold


def redraw_rise(
    model: VAE,
    x: Shaped[Tensor, "batch ..."],
    z: Float[Tensor, "batch latent"],
    redrawn: Float[Tensor, "batch latent"],
) -> Float[Tensor, "batch latent"]:
    """Rise of the reconstruction NLL when one coordinate of the code is redrawn from the prior, in nats.

        U_ij = log p(x_i | z_i) - log p(x_i | z_i with z_ij := e_ij),  e_ij ~ N(0, 1);  exactly 0 where j is ignored.

    Active units are a property of the encoder alone; this measures whether the decoder uses the dimension.

    Args:
        model: the VAE, in eval mode; decodes the batch ``latent + 1`` times.
        x: ``(batch, channels, height, width)`` in [0, 1].
        z: ``(batch, latent)`` posterior samples.
        redrawn: ``(batch, latent)`` standard normal e.
    Returns:
        ``(batch, latent)``; the mean over the data is the decoder use of each dimension. Single terms may be negative.
    Source: ours; a permutation importance (Breiman 2001) with the prior in place of the permutation.
    """
    nll = -model.decode(z, x).log_prob(x)
    rises = []
    # One pass per dimension, all of the shape of the first: another shape may be rounded differently, and a dimension
    # that the decoder ignores must give exactly 0.
    for dimension in range(z.shape[1]):
        code = z.clone()
        code[:, dimension] = redrawn[:, dimension]
        rises.append(-model.decode(code, x).log_prob(x) - nll)
    return torch.stack(rises, 1) if rises else torch.zeros_like(z)
