"""Importance-weighted bound on the log evidence, accumulated with memory constant in the number of samples K."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from lso.vae.config.components import NoiseSpec
from lso.vae.distributions.families import take_rows
from lso.vae.models.layers import fold_norms
from lso.vae.models.vae import VAE
from lso.vae.protocols import Likelihood, Posterior, Prior
from lso.vae.utils.random import draw
from lso.vae.utils.validation import require

# Number of data whose noise is drawn together. Fixed, so that the draws do not depend on how the split is divided into
# passes. 50 is the test batch of He et al. (2019).
BLOCK = 50


@dataclass(frozen=True, slots=True, eq=False)
class LogMean:
    """State of a running log-mean-exp: the mean so far is exp(maximum) * total / count.

    Args:
        maximum: ``(batch,)`` largest value seen; -inf before the first.
        total: ``(batch,)`` sum of exp(value - maximum).
        count: number of values seen for each datum.
    """

    maximum: Float[Tensor, " batch"]
    total: Float[Tensor, " batch"]
    count: int = 0

    def add(self, value: Float[Tensor, "batch sample"]) -> "LogMean":
        """Return the state after more values."""
        maximum = torch.maximum(self.maximum, value.amax(1))
        # inf - inf is NaN: where nothing finite was seen, or an infinite value, subtract 0 and let exp do.
        shift = torch.where(torch.isinf(maximum), 0.0, maximum)
        total = self.total * torch.exp(self.maximum - shift) + torch.exp(value - shift[:, None]).sum(1)
        return LogMean(maximum, total, self.count + value.shape[1])

    def value(self) -> Float[Tensor, " batch"]:
        """Log of the mean of the exponentials of all values."""
        return self.maximum + torch.log(self.total / self.count)


def log_mean(batch: int, like: Tensor) -> LogMean:
    """Return the running log-mean-exp of no values yet."""
    return LogMean(like.new_full((batch,), -torch.inf), like.new_zeros(batch))


def log_importance_weights(
    decode: Callable[..., Likelihood],
    prior: Prior,
    x: Shaped[Tensor, "batch ..."],
    q: Posterior,
    noise: Float[Tensor, "sample batch width"],
) -> Float[Tensor, "batch sample"]:
    """Log importance weights of posterior samples, in nats.

        log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x),  z_k = mean + sigma * noise_k.

    ``decode`` gets ``sample * batch`` codes in one pass.

    Source: Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519, sec. 3. Deviations: none.
    """
    z = q.sample(noise)  # (K, B, d)
    repeated = x.expand(len(noise), *x.shape).flatten(0, 1)
    log_p = decode(z.flatten(0, 1), repeated).log_prob(repeated).reshape(z.shape[:2])
    return (log_p + prior.log_prob(z) - q.log_prob(z)).T


def importance_nll(
    model: VAE,
    x: Shaped[Tensor, "n ..."],
    q: Posterior,
    generator: Generator,
    *,
    samples: int = 500,
    chunk: int = 100,
) -> Float[Tensor, " n"]:
    """Importance-weighted estimate of the negative log evidence, -L_K, in nats, memory constant in K.

    Data are processed in blocks of ``BLOCK``, samples in chunks, with one running logsumexp in double. Noise is
    drawn sample by sample, so the result depends neither on ``chunk`` nor, for pieces of whole blocks, on how the
    split is cut. Under ``torch.no_grad`` batch-norms of the decoder are folded, which is faster; else gradients reach
    its weights.

    Args:
        model: the VAE, in eval mode.
        x: ``(n, ...)`` pixels in [0, 1], or tokens.
        q: ``(n, latent)`` proposal.
        generator: of the noise, on its own device; a CPU generator gives every device the same noise.
        samples: K >= 1, any count.
        chunk: samples decoded at a time; a pass decodes at most ``BLOCK * chunk`` codes.
    Returns:
        ``(n,)`` in double; at least the negative log evidence in expectation.
    Raises:
        UsageError: if ``samples`` or ``chunk`` is below 1.
    Source: Burda et al. (2016), arXiv:1509.00519; K = 500 is He et al. (2019), arXiv:1901.05534. Deviations: any K,
        normalised by K itself.
    """
    require(samples >= 1, "samples >= 1", samples, "500 is usual; iw_samples=0 leaves the estimate out of `evaluate`.")
    require(chunk >= 1, "chunk >= 1", chunk, "It is the number of samples decoded at a time.")
    # A folded copy has weights of its own, so gradients would not reach the model's.
    decode = model.decode if model.training or torch.is_grad_enabled() else fold_norms(model.decoder)
    parts, spec = [], model.posterior.code_noise(model.latent_dim)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        proposal = take_rows(q, rows)
        bound = log_mean(len(x[rows]), q.mean.new_zeros((), dtype=torch.float64))
        while bound.count < samples:
            noise = _noise(min(chunk, samples - bound.count), spec, proposal.mean, generator)
            bound = bound.add(log_importance_weights(decode, model.prior, x[rows], proposal, noise).double())
        parts.append(-bound.value())
    return torch.cat(parts)


def _noise(count: int, spec: NoiseSpec, like: Tensor, generator: Generator) -> Tensor:
    """Draw ``(count, batch, width)`` noise, one call per sample, as the draws of one call would depend on the count."""
    return torch.cat([draw(spec.kind, spec.size((len(like),)), generator) for _ in range(count)]).to(like)
