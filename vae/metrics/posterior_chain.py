"""Samples of the true posterior by Metropolis-Hastings, for z of any size; checks the posterior mean of a grid."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lso.vae.data.dataset import Data, split_passes
from lso.vae.inference.posterior import posterior
from lso.vae.metrics.passes import eval_mode, pass_size, to_model_input
from lso.vae.models.vae import VAE
from lso.vae.utils.random import draw, generator
from lso.vae.utils.validation import require

BATCHES = (
    20  # parts of a chain, whose means give the error of its mean if a part is longer than the autocorrelation time
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Settings of a chain; all defaults but that of ``samples`` are those of the authors' code.

    Args:
        samples: number of samples kept for each datum.
        burn_in: steps before the first sample.
        thin: steps from one sample to the next.
        deviation: standard deviation of the proposed normal steps, in each coordinate.
    Raises:
        UsageError: if a value is out of range.
    """

    samples: int = 2000
    burn_in: int = 100
    thin: int = 1
    deviation: float = 1.0

    def __post_init__(self) -> None:
        remedy = f"The standard error is estimated from {BATCHES} parts of a chain."
        require(self.samples >= BATCHES, f"at least {BATCHES} samples", self.samples, remedy)
        require(self.burn_in >= 0, "burn_in >= 0", self.burn_in, "100 is the authors'.")
        require(self.thin >= 1, "thin >= 1", self.thin, "1 keeps the sample after every step.")
        require(0 < self.deviation < math.inf, "a finite deviation > 0", self.deviation, "1 is the authors'.")


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Samples of the chains of some data.

    Args:
        z: ``(n, sample, latent)`` in double, on the model's device.
        accepted: ``(n,)`` share of proposals accepted, burn-in included; 0.2 to 0.5 is efficient.
    """

    z: Float[Tensor, "n sample latent"]
    accepted: Float[Tensor, " n"]

    def mean(self) -> Float[Tensor, "n latent"]:
        """Estimate of E[z|x]."""
        return self.z.mean(1)

    def error(self) -> Float[Tensor, "n latent"]:
        """Standard error of `mean`, from the spread of the means of 20 equal parts of each chain.

        Too small where a part is not much longer than the autocorrelation time of the chain.
        """
        n, samples, latent = self.z.shape
        each = samples // BATCHES
        parts = self.z[:, : each * BATCHES].reshape(n, BATCHES, each, latent).mean(2)  # (n, part, latent)
        return parts.std(1) / math.sqrt(BATCHES)


@torch.no_grad()
def posterior_draws(
    model: VAE,
    x: Data,
    chain: Chain = Chain(),
    *,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Draws:
    """Draw from the true posterior p(z|x) of each datum under a model.

        z' = z + deviation * e,  e ~ N(0, I);  accepted with probability min(1, p(x|z') p(z') / (p(x|z) p(z))).

    A chain starts at a draw from the model's own q(z|x). The model is in eval mode (no dropout), an autoregressive
    decoder is teacher-forced on x. The samples do not depend on the size of passes.

    Args:
        model: of images or sequences; left in the mode it was found in.
        x: ``(n, ...)`` images, or a corpus.
        chain: length and proposals.
        seed: of all draws.
        callback: called with (steps done, steps to do); an exception from it ends the computation.
    Returns:
        The samples.
    Source: He et al. (2019), arXiv:1901.05534, app. A, and authors' code (jxhe/vae-lagging-encoder,
        `VAE.sample_from_posterior`; burn-in, thinning and deviation are the defaults of its commit 96b53cf, and its
        last one lacks the function that the chain begins with). Deviations: acceptance is decided in log space.
    """
    weight, n = next(model.parameters()), len(x)
    rows = split_passes(x, pass_size(model))
    stream = generator(seed, "posterior-chain")
    with eval_mode(model):
        z = _draw_initial(model, x, rows, stream, seed)
        level, taken, kept = _log_joint(model, x, rows, z), z.new_zeros(n), []
        total = chain.burn_in + chain.samples * chain.thin
        for number in range(total):
            noise = torch.randn(n, model.latent_dim, generator=stream, dtype=torch.float64).to(weight.device)
            proposed = z + chain.deviation * noise
            proposed_level = _log_joint(model, x, rows, proposed)
            uniform = torch.rand(n, generator=stream, dtype=torch.float64).to(weight.device)
            accept = uniform.log() < proposed_level - level
            z, level = torch.where(accept[:, None], proposed, z), torch.where(accept, proposed_level, level)
            taken += accept
            if number >= chain.burn_in and (number - chain.burn_in) % chain.thin == 0:
                kept.append(z)
            if callback is not None:
                callback(number + 1, total)
    return Draws(torch.stack(kept, 1), taken / total)


def _draw_initial(model: VAE, x: Data, rows: list[Tensor | slice], stream: torch.Generator, seed: int) -> Tensor:
    """Draw the initial ``(n, latent)`` codes from q(z|x), in double."""
    first = next(model.parameters()).new_zeros(len(x), model.latent_dim)
    spec = model.posterior.code_noise(model.latent_dim)
    noise = draw(spec.kind, spec.size((len(x),)), stream, torch.float64)[0].to(first)
    for part in rows:
        first[part] = posterior(model, to_model_input(model, x, part), seed).sample(noise[part])
    return first.double()


def _log_joint(model: VAE, x: Data, rows: list[Tensor | slice], z: Tensor) -> Float[Tensor, " n"]:
    """Return log p(x|z) + log p(z) of each datum at its own code, in double."""
    log_joint = model.prior.log_prob(z)
    for part in rows:
        data = to_model_input(model, x, part)
        log_joint[part] += model.decode(z[part].to(next(model.parameters()).dtype), data).log_prob(data).double()
    return log_joint
