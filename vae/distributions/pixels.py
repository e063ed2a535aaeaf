"""Likelihoods of images: Bernoulli, Gaussian and discretized logistic pixels, with log-probabilities in nats.

A likelihood is a frozen dataclass over ``(batch, channels, height, width)``; `Head` makes one of the raw output of a
decoder network and holds the learned scale where there is one.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.distributions.gaussian import LOG_2PI
from lso.vae.errors import unknown_name
from lso.vae.precision import to_float32
from lso.vae.protocols import Likelihood

LEVELS = 256  # grey levels of the discretized logistic
# Soft floor of the learned log-scale: a decoder that fits exactly must not reach an infinite density, and one near the
# floor must be able to leave it, which a hard clamp (no gradient below) would prevent. As in the code of Rybkin et al.
# (2021).
MIN_LOG_SCALE = -6.0


def per_datum(value: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """Sum over all axes but the first."""
    return value.flatten(1).sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class Bernoulli:
    """Independent binary pixels with logits l: log p = x l - softplus(l); for real-valued x in [0, 1] this is minus the
    cross-entropy.

    Args:
        logits: ``(batch, channels, height, width)``.
    """

    logits: Float[Tensor, "batch channels height width"]

    @property
    def mean(self) -> Float[Tensor, "batch channels height width"]:
        """``(batch, ...)`` probabilities sigmoid(l)."""
        return torch.sigmoid(self.logits)

    @property
    def mode(self) -> Float[Tensor, "batch channels height width"]:
        """``(batch, ...)`` 1 where the probability is at least a half, else 0."""
        return (self.logits >= 0).to(self.logits.dtype)

    def log_prob(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, " batch"]:
        """Log-probability of a datum, in nats."""
        return -per_datum(F.binary_cross_entropy_with_logits(self.logits, x, reduction="none"))

    def sample(
        self, noise: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Binary pixels 1[u < p]."""
        return (noise < self.mean).to(self.logits.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """Independent Gaussian pixels, one learned scale for each channel (sigma-VAE, Rybkin et al. 2021,
    arXiv:2006.13202).

    Args:
        mean: ``(batch, channels, height, width)``, in [0, 1].
        log_scale: ``(channels, 1, 1)``, log of the standard deviation.
    """

    mean: Float[Tensor, "batch channels height width"]
    log_scale: Float[Tensor, "channels 1 1"]

    @property
    def mode(self) -> Float[Tensor, "batch channels height width"]:
        """``(batch, ...)`` the mean."""
        return self.mean

    def log_prob(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, " batch"]:
        """Log-density of a datum, in nats (may be positive)."""
        error = (x - self.mean) * torch.exp(-self.log_scale)
        return -per_datum(0.5 * (error**2 + LOG_2PI) + self.log_scale)

    def sample(
        self, noise: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """mean + scale * Phi^-1(u)."""
        u = noise.clamp(1e-6, 1 - 1e-6)
        normal: Tensor = torch.special.ndtri(u)
        return self.mean + torch.exp(self.log_scale) * normal


@dataclass(frozen=True, slots=True, eq=False)
class DiscretizedLogistic:
    """Pixels on 256 levels k/255: the logistic mass of each level's bin, the end bins taking the tails.

        p(x) = S((x + 1/510 - m)/s) - S((x - 1/510 - m)/s),  S the logistic function, computed in log space.

    Source: Kingma et al. (2016), arXiv:1606.04934, app. A (learned scale). Deviation: one scale per channel.

    Args:
        mean: ``(batch, channels, height, width)``, in [0, 1].
        log_scale: ``(channels, 1, 1)``, log of the logistic scale s.
    """

    mean: Float[Tensor, "batch channels height width"]
    log_scale: Float[Tensor, "channels 1 1"]

    @property
    def mode(self) -> Float[Tensor, "batch channels height width"]:
        """``(batch, ...)`` the level nearest to the mean."""
        return (self.mean * (LEVELS - 1)).round() / (LEVELS - 1)

    def log_prob(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, " batch"]:
        """Log-probability of the levels of each datum, in nats (never positive).

        A value between two levels is given the mass of a bin around itself.
        """
        half = 0.5 / (LEVELS - 1)
        inverse = torch.exp(-self.log_scale)
        upper, lower = (x - self.mean + half) * inverse, (x - self.mean - half) * inverse
        # log(S(u) - S(l)) = log S(u) + log S(-l) + log(1 - exp(l - u)), stable in both tails; u - l = 2 half / s
        width = 2 * half * inverse
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        value = torch.where(x < half, F.logsigmoid(upper), torch.where(x > 1 - half, F.logsigmoid(-lower), inner))
        return per_datum(value)

    def sample(
        self, noise: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The level nearest to mean + scale * logit(u), clipped to [0, 1]."""
        value = self.mean + torch.exp(self.log_scale) * torch.logit(noise, eps=1e-6)
        return (value.clamp(0, 1) * (LEVELS - 1)).round() / (LEVELS - 1)


class Head(nn.Module):
    """Makes a likelihood of a decoder's raw output; holds the learned scales of the Gaussian and the logistic.

    Args:
        likelihood: row of `LIKELIHOODS`.
        channels: of the images, each with one scale.
    """

    def __init__(self, likelihood: str, channels: int) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise unknown_name("likelihood", likelihood, LIKELIHOODS)
        self.likelihood = likelihood
        if likelihood != "bernoulli":
            # A tenth of the pixel range: wide enough to start from, and quickly learned.
            self.log_scale = nn.Parameter(torch.full((channels, 1, 1), math.log(0.1)))

    def forward(self, raw: Float[Tensor, "batch channels height width"]) -> Likelihood:
        """The likelihood of a batch from the network's output; sigmoid(raw) is the mean of every likelihood."""
        raw = to_float32(raw)
        if self.likelihood == "bernoulli":
            return Bernoulli(raw)
        family = Gaussian if self.likelihood == "gaussian" else DiscretizedLogistic
        return family(torch.sigmoid(raw), MIN_LOG_SCALE + F.softplus(self.log_scale - MIN_LOG_SCALE))


LIKELIHOODS = {
    "bernoulli": "binary pixels, or grey values as probabilities",
    "gaussian": "real-valued pixels, learned scale per channel",
    "logistic": "256 grey levels, discretized logistic with learned scale per channel",
}
