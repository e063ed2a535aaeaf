"""How far a code lies from where codes live. All finite, with finite gradients, at z = 0."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Below these the squared norm counts as zero. They keep powers, roots and logarithms finite; no code of a search is
# that short.
TINY_SQUARE = 1e-30
SOFT_SQUARE = 1e-6


def norm_percentile(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """Share of prior draws with a shorter norm: the chi(d) distribution function of |z|.

        P(d/2, |z|^2 / 2),  P the regularized lower incomplete gamma function.

    Args:
        z: ``(..., d)`` codes, d >= 1.
    Returns:
        ``(...)`` in [0, 1]; 0.5 is the middle of the shell. The gradient at z = 0 is 0.
    """
    half = _half_square(z)
    kept = half.clamp_min(TINY_SQUARE)
    percentile: Tensor = torch.special.gammainc(torch.full_like(half, 0.5 * z.shape[-1]), kept)
    return torch.where(half <= TINY_SQUARE, 0.0, percentile).clamp(max=1.0)


def log_typicality(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """Log density of the norm |z| = r under chi(d), in nats.

        (d - 1) log r - r^2 / 2 - (d/2 - 1) log 2 - log Gamma(d/2),  with r^2 + 1e-6 in the logarithm.

    Unlike log N(z; 0, I), which pulls to the origin, it is largest on the shell r = sqrt(d - 1).

    Args:
        z: ``(..., d)`` codes, d >= 1.
    Returns:
        ``(...)`` nats; finite at z = 0, with gradient 0 there.
    """
    d = z.shape[-1]
    square = 2 * _half_square(z)
    constant = (0.5 * d - 1) * math.log(2) + math.lgamma(0.5 * d)
    return 0.5 * (d - 1) * torch.log(square + SOFT_SQUARE) - 0.5 * square - constant


def _half_square(z: Tensor) -> Tensor:
    """|z|^2 / 2, short of overflow."""
    return (0.5 * (z**2).sum(-1)).clamp_max(0.25 * torch.finfo(z.dtype).max)


def mahalanobis(
    z: Float[Tensor, "*batch latent"], mean: Float[Tensor, " latent"], whitening: Float[Tensor, "latent latent"]
) -> Float[Tensor, "*batch"]:
    """Distance |W (z - m)| = sqrt((z - m)^T C^-1 (z - m)) from a cloud of codes of covariance C.

    As a norm it is never below 0, and as sharp as its dtype; the quadratic form of C^-1 is neither in single precision
    where C is ill-conditioned, as it is with dead dimensions.

    Args:
        z: ``(..., d)`` codes.
        mean: ``(d,)`` mean m of the cloud.
        whitening: ``(d, d)`` W, see `whitening_of`.
    Returns:
        ``(...)`` distance in standard deviations; at z = m it is 0, and so is its gradient.
    """
    square = ((z - mean) @ whitening.T).square().sum(-1)
    return torch.where(square <= TINY_SQUARE, 0.0, square.clamp_min(TINY_SQUARE).sqrt())


def whitening_of(
    mean: Float[Tensor, "n latent"], variance: Float[Tensor, "n latent"] | None = None
) -> Float[Tensor, "latent latent"]:
    """What makes the aggregated posterior of n data white: W = L^-1, L L^T = C.

    C is the covariance of the means + the mean posterior variance.

    The covariance of the means alone would call prior draws far out: posterior means of weak dimensions hardly vary.
    A ridge of 1e-6 of the mean variance makes it exist.

    Args:
        mean: ``(n, d)`` posterior means, n >= 2.
        variance: ``(n, d)`` posterior variances; None where only points are known.
    Returns:
        ``(d, d)`` W, lower triangular, W^T W = C^-1; NaN where a code is not finite.
    """
    away = mean.double() - mean.double().mean(0)
    covariance = away.T @ away / (len(mean) - 1)
    if variance is not None:
        covariance = covariance + torch.diag(variance.double().mean(0))
    ridge = 1e-6 * covariance.diagonal().mean() + 1e-12
    one = torch.eye(mean.shape[1], dtype=covariance.dtype, device=mean.device)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * one)
    whitening: Tensor = torch.linalg.solve_triangular(factor, one, upper=False)
    return torch.where(failed == 0, whitening, torch.nan).to(mean.dtype)
