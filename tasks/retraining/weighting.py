"""Weights of data in retraining, by the rank of their values (Tripp et al. 2020)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.tasks.retraining.options import PUBLISHED_K as PUBLISHED_K
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require


def rank_data(values: Float[Tensor, " n"], maximize: bool = False) -> Int[Tensor, " n"]:
    """Rank of each datum, the number of better ones; equal values share a rank, and NaN comes last."""
    from scipy.stats import rankdata  # late: it takes a second to import

    loss = (-values if maximize else values).double()
    loss = torch.where(torch.isnan(loss), torch.inf, loss)
    return torch.from_numpy(rankdata(loss.cpu().numpy(), method="min")).long().to(loss.device) - 1


def rank_weights(values: Float[Tensor, " n"], k: float = PUBLISHED_K, maximize: bool = False) -> Float[Tensor, " n"]:
    """Weight of each datum in retraining.

        w_i = 1 / (k N + rank_i), scaled to a sum of 1;  rank_i = |{j: f(x_j) better than f(x_i)}|

    Args:
        values: ``(n,)``, NaN for an invalid datum.
        k: small for the best data alone; infinite for equal weights.
        maximize: sense of the values.
    Returns:
        ``(n,)`` double.
    Raises:
        UsageError: unless k > 0.
    Source: Tripp, Daxberger, Hernandez-Lobato (2020), arXiv:2006.09191, eq. 3. Deviations: none; the authors' code
        breaks ties at random, their formula does not.
    """
    require(k > 0, "k > 0", k, f"{PUBLISHED_K:g} is published; inf weighs all data alike.")
    if math.isinf(k):
        return torch.full((len(values),), 1 / len(values), dtype=torch.float64)
    raw = 1 / (1 + rank_data(values, maximize).double() / (k * len(values)))  # times k N, which may be next to nothing
    return raw / raw.sum()


def effective_size(weight: Float[Tensor, " n"]) -> float:
    """How many equally weighted data would make as noisy a mean: (sum w)^2 / sum w^2.

    Args:
        weight: ``(n,)`` nonnegative.
    Returns:
        Between 1 and n.
    Source: Kish (1965).
    """
    share = weight.double() / weight.max()
    return min(float(len(weight)), max(1.0, float(share.sum() ** 2 / (share**2).sum())))


def draw_rows(weight: Float[Tensor, " n"], count: int, seed: int, *counters: int) -> Int[Tensor, " count"]:
    """Draw row indices with replacement, with probabilities proportional to the weights."""
    stream = generator(seed, "weighted draws", *counters)
    return torch.multinomial(weight, count, replacement=True, generator=stream)
