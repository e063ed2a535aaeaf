"""Gaussians: the diagonal posterior, the standard normal prior, and the typicality of codes under it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lso.vae.protocols import Posterior, Prior

LOG_2PI = math.log(2 * math.pi)
# Squared norms below which a code counts as zero, so that powers, roots and logarithms stay finite; no code of a search
# is that short.
TINY_SQUARE = 1e-30
SOFT_SQUARE = 1e-6


def normal_log_prob(
    z: Float[Tensor, "*batch latent"], mean: Float[Tensor, "*#batch latent"], log_var: Float[Tensor, "*#batch latent"]
) -> Float[Tensor, "*batch latent"]:
    """Log density of N(mean, exp(log_var)) in each dimension, nats:
    -1/2 (log 2 pi + log_var + (z - mean)^2 / exp(log_var)).
    """
    # Scaled before it is squared: exp(-log_var) alone overflows in single precision below log_var = -88.
    return -0.5 * (LOG_2PI + log_var + ((z - mean) * torch.exp(-0.5 * log_var)) ** 2)


def prior_log_prob(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """Log density of the standard normal prior N(0, I), in nats."""
    return -0.5 * (z**2 + LOG_2PI).sum(-1)


def norm_percentile(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """The share of draws from the prior whose norm is smaller: the chi(d) distribution function at |z|, in [0, 1].

        P(d/2, |z|^2 / 2),  P the regularized lower incomplete gamma function.

    0.5 is the median norm. The gradient at z = 0 is 0.
    """
    half = _half_square(z)
    kept = half.clamp_min(TINY_SQUARE)
    percentile: Tensor = torch.special.gammainc(torch.full_like(half, 0.5 * z.shape[-1]), kept)
    return torch.where(half <= TINY_SQUARE, 0.0, percentile).clamp(max=1.0)


def log_typicality(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """Log density of the norm r = |z| under chi(d), in nats; finite at z = 0, with gradient 0 there.

        (d - 1) log r - r^2 / 2 - (d/2 - 1) log 2 - log Gamma(d/2),  with r^2 + 1e-6 in the logarithm.

    Unlike log N(z; 0, I), which is largest at the origin, it is largest on the shell r = sqrt(d - 1).
    """
    d = z.shape[-1]
    square = 2 * _half_square(z)
    constant = (0.5 * d - 1) * math.log(2) + math.lgamma(0.5 * d)
    return 0.5 * (d - 1) * torch.log(square + SOFT_SQUARE) - 0.5 * square - constant


def _half_square(z: Tensor) -> Tensor:
    """|z|^2 / 2, bounded so that it does not overflow."""
    return (0.5 * (z**2).sum(-1)).clamp_max(0.25 * torch.finfo(z.dtype).max)


def sampled_kl(q: Posterior, prior: Prior, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 1"]:
    """An unbiased estimate of KL(q(z|x) || p(z)) from one draw z of each posterior, nats, of either sign:
    log q(z|x) - log p(z).
    """
    return (q.log_prob(z) - prior.log_prob(z)).unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class StandardNormal:
    """p(z) = N(0, I), of any number of dimensions."""

    def sample(self, noise: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Codes: the noise itself.

        Args:
            noise: ``(..., latent)`` standard normal.
        Returns:
            ``(..., latent)``.
        """
        return noise

    def log_prob(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Log density of codes, in nats: `prior_log_prob`.

        Args:
            z: ``(..., latent)``.
        Returns:
            ``(...)`` log p(z).
        """
        return prior_log_prob(z)

    def typicality(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Share of prior draws with a shorter norm: `norm_percentile`.

        Args:
            z: ``(..., latent)``.
        Returns:
            ``(...)`` in [0, 1].
        """
        return norm_percentile(z)


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalGaussian:
    """q(z|x) = N(mean, diag(exp(log_var))), one row for each datum.

    Args:
        mean: ``(batch, latent)``.
        log_var: ``(batch, latent)``, the log of the variance.
    """

    mean: Float[Tensor, "batch latent"]
    log_var: Float[Tensor, "batch latent"]

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: slice | Tensor) -> "DiagonalGaussian":
        return DiagonalGaussian(self.mean[rows], self.log_var[rows])

    def sample(self, noise: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch latent"]:
        """Reparameterised draws mean + sigma * noise (Kingma & Welling 2014).

        Args:
            noise: ``(..., batch, latent)`` standard normal draws.
        Returns:
            ``(..., batch, latent)`` codes.
        """
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """Log density of codes, in nats.

        Args:
            z: ``(..., batch, latent)`` codes.
        Returns:
            ``(..., batch)`` log q(z|x).
        """
        return normal_log_prob(z, self.mean, self.log_var).sum(-1)

    def entropy(self) -> Float[Tensor, " batch"]:
        """Differential entropy 1/2 sum_j (log 2 pi + 1 + log_var_j), in nats.

        Returns:
            ``(batch,)`` entropies.
        """
        return 0.5 * (LOG_2PI + 1 + self.log_var).sum(-1)

    def kl(
        self, prior: Prior = StandardNormal(), z: Float[Tensor, "batch latent"] | None = None
    ) -> Float[Tensor, "batch part"]:
        """KL(q(z_j|x) || N(0, 1)) in each dimension: 1/2 (mean^2 + var - 1 - log_var), in nats.

        Args:
            prior: p(z); of another than the standard normal the KL is estimated at z.
            z: ``(batch, latent)`` one draw of each, for such an estimate.
        Returns:
            ``(batch, latent)``, nonnegative up to rounding, the sum over dimensions being the KL of a datum; or
            ``(batch, 1)`` an estimate of that KL, of either sign.
        """
        if not isinstance(prior, StandardNormal):
            assert z is not None
            return sampled_kl(self, prior, z)
        return 0.5 * (self.mean**2 + torch.exp(self.log_var) - 1 - self.log_var)
