"""Draws from a model's true posterior by Metropolis-Hastings, for z of any size: the check of `posterior_mean`."""

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

BATCHES = 20  # of a chain, whose means tell the error of its mean where they are longer than what it remembers


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """How a chain is run; the defaults but ``samples`` are those of the authors' code.

    Args:
        samples: kept of each datum's chain.
        burn_in: steps before the first.
        thin: steps from one to the next.
        deviation: of the normal steps that are proposed, in each coordinate.
    Raises:
        UsageError: if a value is out of range.
    """

    samples: int = 2000
    burn_in: int = 100
    thin: int = 1
    deviation: float = 1.0

    def __post_init__(self) -> None:
        remedy = f"Its error is told from {BATCHES} parts."
        require(self.samples >= BATCHES, f"at least {BATCHES} samples", self.samples, remedy)
        require(self.burn_in >= 0, "burn_in >= 0", self.burn_in, "100 is the authors'.")
        require(self.thin >= 1, "thin >= 1", self.thin, "1 keeps the place after every step.")
        require(0 < self.deviation < math.inf, "a finite deviation > 0", self.deviation, "1 is the authors'.")


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What the chains of some data went through.

    Args:
        z: ``(n, sample, latent)`` in double, on the model's device.
        accepted: ``(n,)`` share of the proposals that were taken, burn-in included; 0.2 to 0.5 is efficient.
    """

    z: Float[Tensor, "n sample latent"]
    accepted: Float[Tensor, " n"]

    def mean(self) -> Float[Tensor, "n latent"]:
        """Estimate of E[z|x]."""
        return self.z.mean(1)

    def error(self) -> Float[Tensor, "n latent"]:
        """Standard error of `mean`, by the spread of the means of 20 equal parts of each chain.

        Returns:
            ``(n, latent)``; too small where a part is not much longer than the chain's memory.
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

        z' = z + deviation * e,  e ~ N(0, I);  taken with probability min(1, p(x|z') p(z') / (p(x|z) p(z))).

    The first place is a draw from the model's own q(z|x). The model is in eval mode (no dropout), an autoregressive
    decoder is forced on x. The chains do not depend on how the work is cut.

    Args:
        model: of images or sequences; left in the mode it was found in.
        x: ``(n, ...)`` images, or a corpus.
        chain: its length, and its steps.
        seed: of all draws.
        callback: called with (steps done, steps to do); what it raises ends the work.
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
        z = _first(model, x, rows, stream, seed)
        level, taken, kept = _log_joint(model, x, rows, z), z.new_zeros(n), []
        total = chain.burn_in + chain.samples * chain.thin
        for number in range(total):
            noise = torch.randn(n, model.latent_dim, generator=stream, dtype=torch.float64).to(weight.device)
            proposed = z + chain.deviation * noise
            there = _log_joint(model, x, rows, proposed)
            chance = torch.rand(n, generator=stream, dtype=torch.float64).to(weight.device)
            accept = chance.log() < there - level
            z, level = torch.where(accept[:, None], proposed, z), torch.where(accept, there, level)
            taken += accept
            if number >= chain.burn_in and (number - chain.burn_in) % chain.thin == 0:
                kept.append(z)
            if callback is not None:
                callback(number + 1, total)
    return Draws(torch.stack(kept, 1), taken / total)


def _first(model: VAE, x: Data, rows: list[Tensor | slice], stream: torch.Generator, seed: int) -> Tensor:
    """``(n, latent)`` draws from q(z|x), in double."""
    first = next(model.parameters()).new_zeros(len(x), model.latent_dim)
    spec = model.posterior.code_noise(model.latent_dim)
    noise = draw(spec.kind, spec.size((len(x),)), stream, torch.float64)[0].to(first)
    for part in rows:
        first[part] = posterior(model, to_model_input(model, x, part), seed).sample(noise[part])
    return first.double()


def _log_joint(model: VAE, x: Data, rows: list[Tensor | slice], z: Tensor) -> Float[Tensor, " n"]:
    """log p(x|z) + log p(z) of each datum at its own place, in double."""
    found = model.prior.log_prob(z)
    for part in rows:
        data = to_model_input(model, x, part)
        found[part] += model.decode(z[part].to(next(model.parameters()).dtype), data).log_prob(data).double()
    return found
