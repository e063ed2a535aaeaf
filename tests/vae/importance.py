"""The importance-weighted bound in one piece, which the running form of the library is held to."""

from jaxtyping import Float
from torch import Tensor

from lso.vae.metrics.importance import log_mean


def importance_bound(log_weight: Float[Tensor, "batch sample"]) -> Float[Tensor, " batch"]:
    """L_K = log((1/K) sum_k w_k) of each datum, in nats; K = 1 gives the ELBO (Burda et al. 2016)."""
    return log_mean(len(log_weight), log_weight).add(log_weight).value()
