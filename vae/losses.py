"""Per-datum terms of the metrics: reconstruction, negative ELBO, KL by dimension, re-encoding error."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.vae.axes import Svi
from lso.vae.gaussian import DiagonalGaussian
from lso.vae.inference import infer
from lso.vae.likelihoods import Likelihood
from lso.vae.model import VAE


def reconstruction(likelihood: Likelihood, x: Shaped[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """Reconstruction loss -log p(x|z), in nats.

    Args:
        likelihood: p(x|z) of sampled codes.
        x: ``(batch, ...)`` pixels in [0, 1], or tokens.
    Returns:
        ``(batch,)``.
    Source: Kingma & Welling (2014), arXiv:1312.6114, eq. 7.
    """
    return -likelihood.log_prob(x)


def negative_elbo(reconstruction: Float[Tensor, " batch"], q: DiagonalGaussian) -> Float[Tensor, " batch"]:
    """Negative evidence lower bound at KL weight 1 with an analytic KL, in nats.

        -ELBO = -log p(x|z) + sum_j KL(q(z_j|x) || N(0, 1)),  z ~ q(z|x).

    Args:
        reconstruction: ``(batch,)`` -log p(x|z).
        q: ``(batch, latent)`` posterior.
    Returns:
        ``(batch,)`` in double; at least -log p(x) in expectation, by KL(q(z|x) || p(z|x)).
    Source: Kingma & Welling (2014), arXiv:1312.6114, eq. 3 and app. B.
    """
    return reconstruction + kl(q).sum(-1)


def kl(q: DiagonalGaussian) -> Float[Tensor, "batch latent"]:
    """KL(q(z_j|x) || N(0, 1)) as it is measured: `DiagonalGaussian.kl` in double, and nonnegative.

        1/2 (mean^2 + (exp(log_var) - 1) - log_var)

    Near the prior the sum in single precision, which training takes, cancels to some 1e-7 of either sign.

    Args:
        q: ``(batch, latent)`` posteriors.
    Returns:
        ``(batch, latent)`` in double, nats.
    """
    log_var = q.log_var.double()
    return 0.5 * (q.mean.double() ** 2 + (torch.expm1(log_var) - log_var).clamp(min=0))


def kl_per_dimension(q: DiagonalGaussian) -> Float[Tensor, " latent"]:
    """Mean over the data of KL(q(z_j|x) || N(0, 1)) = 1/2 (mean^2 + var - 1 - log var), in nats.

    Args:
        q: ``(n, latent)`` posteriors of a split.
    Returns:
        ``(latent,)`` in double, nonnegative; the sum is the KL.
    Source: Kingma & Welling (2014), arXiv:1312.6114, app. B.
    """
    return kl(q).mean(0)


def reencoding_error(
    model: VAE,
    z: Float[Tensor, "batch latent"],
    likelihood: Likelihood,
    noise: Float[Tensor, "batch latent"] | None = None,
    start: Float[Tensor, "draw batch latent"] | None = None,
) -> Float[Tensor, "batch latent"]:
    """Squared distance of a code and the code of its soft reconstruction, for each dimension.

        E_ij = (z_ij - z~_ij)^2,  z~ = mu~ + sigma~ * noise, or mu~ without noise;  (mu~, sigma~) = encoder(E[x|z]).

    Sampled-sampled (z and z~ drawn) is 2 at full collapse; mean-mean (z a posterior mean, no noise) is 0 there. A model
    without an encoder finds the second code as its method does.

    Args:
        model: the VAE, in eval mode.
        z: ``(batch, latent)`` codes.
        likelihood: p(x|z), whose mean is re-encoded.
        noise: ``(batch, latent)`` standard normal, or None for the mean.
        start: what an inference without an encoder draws with.
    Returns:
        ``(batch, latent)``, dimensionless; the error is the mean over both axes.
    Source: the se loss of NE-VAE (2021), reduced by a mean over dimensions.
    """
    if isinstance(model.inference, Svi):
        shown = likelihood.mode if model.kind == "sequence" else likelihood.mean  # tokens are what it can be forced on
        again = infer(model.inference, model, shown, start, 1.0)
    else:
        again = model.encode(likelihood.mean)
    return (z - (again.mean if noise is None else again.sample(noise))) ** 2
