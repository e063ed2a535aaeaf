"""Mutual information of data and codes, and KL of the aggregated posterior, both from one mixture density.

The aggregated posterior of n data is the mixture q(z) = (1/n) sum_j q(z|x_j). Everything here is computed in double.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.distributions.families import map_tensors, take_rows
from lso.vae.distributions.gaussian import LOG_2PI, DiagonalGaussian, StandardNormal
from lso.vae.protocols import Posterior, Prior
from lso.vae.utils.validation import require

# Entries of the (codes x components) matrix held at a time: 4 MB of doubles stay in cache. 10,000 x 10,000 x 32 on
# 2 cores takes 0.25 s, against 0.6 s at 2**22.
ENTRIES = 2**19
# Largest error in nats accepted of the expanded square (z - m)^2 = z^2 - 2zm + m^2; beyond, differences are squared one
# by one. Its terms cancel where means are large relative to deviations: it was off by 1,000 nats at means of 1e6 and
# deviations of 1e-3.
ROUNDING = 1e-8


def log_mixture(q: Posterior, z: Float[Tensor, "code latent"]) -> Float[Tensor, " code"]:
    """Log density of the aggregated posterior at some codes, in nats.

        log q(z_i) = logsumexp_j log q(z_i|x_j) - log n,  j over all n data.

    Args:
        q: ``(n, latent)`` posteriors, the components.
        z: ``(code, latent)`` the codes.
    Returns:
        ``(code,)`` in double; memory is bounded, time grows as code * n * latent, and is some 20 times longer for
        posteriors so narrow, or so far from 0, that the square cannot be expanded.
    Source: Hoffman & Johnson (2016), "ELBO surgery"; as He et al. (2019), arXiv:1901.05534, estimate it.
    """
    if not isinstance(q, DiagonalGaussian):
        return _log_mixture_one_by_one(map_tensors(q, Tensor.double), z.double())
    # log N(z; m, v) = -1/2 (z^2/v - 2 z m/v + m^2/v + log v + log 2 pi): one matrix product over 2d columns.
    mean, precision = q.mean.double(), torch.exp(-q.log_var.double())
    columns = torch.cat([-0.5 * precision, mean * precision], 1).T  # (2d, n)
    constant = -0.5 * (mean**2 * precision + q.log_var.double() + LOG_2PI).sum(1)  # (n,)
    # Largest term of the expanded square, for any code and component; its rounding error bounds that of the difference.
    largest = ((z.double().abs().amax(0) + mean.abs()) ** 2 * precision).sum(1).amax()
    if not bool(largest * torch.finfo(torch.float64).eps <= ROUNDING):  # "not <=" holds for an overflow to NaN too
        return _log_mixture_one_by_one(map_tensors(q, Tensor.double), z.double())
    rows = max(16, ENTRIES // len(q))
    parts = []
    for start in range(0, len(z), rows):
        part = z[start : start + rows].double()
        parts.append(torch.logsumexp(torch.addmm(constant, torch.cat([part**2, part], 1), columns), 1))
    return torch.cat(parts) - math.log(len(q))


def _log_mixture_one_by_one(q: Posterior, z: Tensor) -> Tensor:
    """`log_mixture` from the log density of each code under each component, in double."""
    rows, parts = max(1, ENTRIES // (len(q) * z.shape[1])), []
    for part in torch.split(z, rows):
        parts.append(torch.logsumexp(q.log_prob(part[:, None].expand(-1, len(q), -1)), 1))
    return torch.cat(parts) - math.log(len(q))


def log_mixture_within(
    q: Posterior, z: Float[Tensor, "n latent"], batches: Sequence[Int[Tensor, " _"]]
) -> Float[Tensor, " n"]:
    """Log density of each code under the mixture of its own batch, in nats: `log_mixture` batch by batch.

    Args:
        q: ``(n, latent)`` posteriors.
        z: ``(n, latent)`` one code for each, so that the sum over j includes i.
        batches: row numbers of each; every datum is in one of them.
    Returns:
        ``(n,)`` in double, in the order of the data.
    Raises:
        UsageError: if the batches do not hold each datum once.
    """
    rows = torch.cat([batch.cpu() for batch in batches])
    once = torch.equal(rows.sort().values, torch.arange(len(z)))
    remedy = "Cut a permutation of them: torch.split(torch.randperm(n), 50)."
    require(once, f"batches that hold each of {len(z)} data once", f"{len(rows)} row numbers", remedy)
    parts = [log_mixture(take_rows(q, here), z[here]) for here in (batch.to(z.device) for batch in batches)]
    return torch.cat(parts)[rows.argsort().to(z.device)]


def mutual_information(
    q: Posterior, z: Float[Tensor, "n latent"], log_mixture: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Terms whose mean estimates the mutual information of data and codes, in nats.

        I(x; z) = mean_i [ log q(z_i|x_i) - log q(z_i) ],  one z_i ~ q(z|x_i).

    The mean over n data in batches of B is the average over batches weighted by their size. As the mixture includes the
    datum itself, the expectation is at most the true value, and each term at most log B (log 50 = 3.91): report B
    beside the number. At full collapse each is 0.

    Args:
        q: ``(n, latent)`` posteriors.
        z: ``(n, latent)`` the codes.
        log_mixture: ``(n,)`` log q(z_i), from `log_mixture` (whole split) or `log_mixture_within` (batches of B).
    Returns:
        ``(n,)`` in double.
    Source: He et al. (2019), arXiv:1901.05534. Deviations: they take -H(q(z|x_i)), the mean of log q(z_i|x_i), whose
        noise of sqrt(latent / 2) nats a datum does not cancel (theirs is negative at times); they call the estimate
        an upper bound, but with i among the j it is a lower one (InfoNCE with the true density as critic).
    """
    return map_tensors(q, Tensor.double).log_prob(z.double()) - log_mixture


def aggregate_kl(
    z: Float[Tensor, "n latent"], log_mixture: Float[Tensor, " n"], prior: Prior = StandardNormal()
) -> Float[Tensor, " n"]:
    """Terms whose mean estimates the KL of the aggregated posterior from the prior, in nats.

        KL(q(z) || p(z)) = mean_i [ log q(z_i) - log p(z_i) ],  z_i ~ q(z).

    Args:
        z: ``(n, latent)`` one code for each datum.
        log_mixture: ``(n,)`` log q(z_i) over the whole split, from `log_mixture`.
        prior: p(z).
    Returns:
        ``(n,)`` in double; each 0 at full collapse.
    Source: Hoffman & Johnson (2016): mean KL(q(z|x) || p) = I(x; z) + KL(q(z) || p).
    """
    return log_mixture - prior.log_prob(z.double())
