"""Diagonal Gaussians: the posterior family and the standard normal prior."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def normal_log_prob(
    z: Float[Tensor, "*batch latent"], mean: Float[Tensor, "*#batch latent"], log_var: Float[Tensor, "*#batch latent"]
) -> Float[Tensor, "*batch latent"]:
    """Log density of N(mean, exp(log_var)) for each dimension, in nats.

    Args:
        z: ``(..., latent)`` points.
        mean: ``(..., latent)`` means.
        log_var: ``(..., latent)`` log-variances.
    Returns:
        ``(..., latent)`` with -1/2 (log 2 pi + log_var + (z - mean)^2 / exp(log_var)).
    """
    # Scaled before it is squared: exp(-log_var) alone overflows in single precision below log_var = -88.
    return -0.5 * (LOG_2PI + log_var + ((z - mean) * torch.exp(-0.5 * log_var)) ** 2)


def prior_log_prob(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """Log density of the standard normal prior N(0, I), in nats."""
    return -0.5 * (z**2 + LOG_2PI).sum(-1)


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
            noise: ``(..., batch, latent)`` standard normal.
        Returns:
            ``(..., batch, latent)`` codes.
        """
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """Log density of codes, in nats.

        Args:
            z: ``(..., batch, latent)``.
        Returns:
            ``(..., batch)`` log q(z|x).
        """
        return normal_log_prob(z, self.mean, self.log_var).sum(-1)

    def entropy(self) -> Float[Tensor, " batch"]:
        """Differential entropy 1/2 sum_j (log 2 pi + 1 + log_var_j), in nats.

        Returns:
            ``(batch,)``.
        """
        return 0.5 * (LOG_2PI + 1 + self.log_var).sum(-1)

    def kl(self) -> Float[Tensor, "batch latent"]:
        """KL(q(z_j|x) || N(0, 1)) for each dimension: 1/2 (mean^2 + var - 1 - log_var), in nats.

        Returns:
            ``(batch, latent)``, nonnegative to rounding; the sum over dimensions is the KL of the datum.
        """
        return 0.5 * (self.mean**2 + torch.exp(self.log_var) - 1 - self.log_var)


def cat(parts: list[DiagonalGaussian]) -> DiagonalGaussian:
    """Concatenate posteriors along the batch."""
    return DiagonalGaussian(torch.cat([q.mean for q in parts]), torch.cat([q.log_var for q in parts]))
