"""The inference gap of a model, and the true posterior mean on a grid where z is scalar.

    approximation gap = log p(x) - L[q*],   amortization gap = L[q*] - L[q],   together the inference gap,

q the model's own posterior, q* the best diagonal Gaussian for each datum, found from q by gradient steps.
Source: Cremer, Li, Duvenaud (2018), arXiv:1801.03558; the grid: He et al. (2019), arXiv:1901.05534, sec. 3."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from lso.vae.config.components import Amortized
from lso.vae.data.dataset import Data, split_passes, take_batch, to_unit
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.metrics.importance import importance_nll
from lso.vae.metrics.passes import eval_mode, pass_size
from lso.vae.models.vae import VAE
from lso.vae.protocols import Posterior
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import require

RATE = 0.1  # learning rate of Adam on mean and log-variance, decayed to 0 by a half cosine
BLOCK = 50  # data refined together; fixed, as the draws depend on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Estimates from one posterior, nats, means over data.

    Args:
        neg_elbo: -L[q].
        iw_nll: importance-weighted estimate of -log p(x) with q as proposal.
    """

    neg_elbo: float
    iw_nll: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """The gaps of a split, in nats and per datum.

    Args:
        nll: importance-weighted estimate of -log p(x) with q* as proposal. The proposal is fixed beforehand, as the
            least of several noisy estimates would be biased. If another proposal gives a clearly smaller value, q* is
            too narrow as a proposal, and the approximation gap is too small by the difference.
        approximation: log p(x) - L[q*].
        amortization: L[q*] - L[q].
        inference: their sum.
        approximation_error: standard error of its mean over data.
        amortization_error: standard error.
        own: the model's own posterior q.
        refined: q*.
        encoder: the encoder's posterior, where the model's own posterior is a refined one; else None.
        moved: mean decrease of -L over the last tenth of the steps; near 0 if the refinement converged to q*.
        steps: of the refinement.
        samples: codes for each datum and step.
        iw_samples: K of the estimates.
        n: data.
        split: its name.
        seed: of all draws.
        seconds: wall time.
    """

    nll: float
    approximation: float
    amortization: float
    inference: float
    approximation_error: float
    amortization_error: float
    own: Proposal
    refined: Proposal
    encoder: Proposal | None
    moved: float
    steps: int
    samples: int
    iw_samples: int
    n: int
    split: str
    seed: int
    seconds: float

    def to_json(self) -> str:
        """One JSON object with a member for each field."""
        return json.dumps(asdict(self))


def gaps(
    model: VAE,
    x: Shaped[Tensor, "n ..."],
    *,
    steps: int = 200,
    samples: int = 4,
    iw_samples: int = 500,
    seed: int = 0,
    split: str = "test",
    callback: Callable[[int, int], None] | None = None,
) -> Gaps:
    """Estimate the approximation and amortization gaps of a split.

    Args:
        model: the VAE; left in the mode it was found in, its weights and statistics untouched.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1]; or padded sequences, ``(n, length)``.
        steps: of Adam on each datum's mean and log-variance.
        samples: codes for each datum and step, in pairs mirrored at the mean.
        iw_samples: K of the importance-weighted estimates, and codes for each final ELBO.
        seed: of all draws.
        split: name to record.
        callback: called with (data done, data to do).
    Returns:
        The gaps.
    Raises:
        UsageError: if the model has no latents, or a count is out of range.
    """
    require(steps >= 1, "steps >= 1", steps, "200 is the default.")
    require(samples >= 2 and samples % 2 == 0, "an even number of samples >= 2", samples, "4 is the default.")
    require(iw_samples >= 2, "iw_samples >= 2", iw_samples, "500 is usual.")
    if not model.latent_dim:
        raise UsageError("a model without latents has no gaps: its likelihood is exact", "Evaluate it without --gaps.")
    if not model.posterior.diagonal:
        raise UsageError(
            f"gaps are those of diagonal Gaussians, and the posterior is {type(model.posterior).__name__}",
            "Evaluate it without --gaps.",
        )
    start, parts = time.perf_counter(), []
    flags = [p.requires_grad for p in model.parameters()]
    with eval_mode(model):
        model.requires_grad_(False)
        try:
            for first in range(0, len(x), BLOCK):
                parts.append(_block(model, x[first : first + BLOCK], (steps, samples, iw_samples), (seed, first)))
                if callback is not None:
                    callback(min(first + BLOCK, len(x)), len(x))
        finally:
            for p, flag in zip(model.parameters(), flags, strict=True):
                p.requires_grad_(flag)
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    nll = columns["iw/refined"]
    approximation, amortization = columns["elbo/refined"] - nll, columns["elbo/own"] - columns["elbo/refined"]

    def proposal(name: str) -> Proposal:
        return Proposal(neg_elbo=_mean(columns[f"elbo/{name}"]), iw_nll=_mean(columns[f"iw/{name}"]))

    return Gaps(
        nll=_mean(nll),
        approximation=_mean(approximation),
        amortization=_mean(amortization),
        inference=_mean(approximation + amortization),
        approximation_error=_error(approximation),
        amortization_error=_error(amortization),
        own=proposal("own"),
        refined=proposal("refined"),
        encoder=proposal("encoder") if "elbo/encoder" in columns else None,
        moved=_mean(columns["moved"]),
        steps=steps,
        samples=samples,
        iw_samples=iw_samples,
        n=len(x),
        split=split,
        seed=seed,
        seconds=time.perf_counter() - start,
    )


def _block(model: VAE, x: Tensor, counts: tuple[int, int, int], place: tuple[int, int]) -> dict[str, Tensor]:
    """Return for each datum -ELBO and IW-NLL of each proposal, and the last decrease of the refinement."""
    steps, samples, iw_samples = counts
    weight = next(model.parameters())
    pixels = to_unit(x.to(weight.device))
    pixels = pixels.to(weight.dtype) if pixels.is_floating_point() else pixels  # or tokens
    own = posterior(model, pixels, mix_seed(place[0], "gaps/posterior", place[1]))
    refined, moved = best_gaussian(
        model, pixels, own, generator(place[0], "gaps/refinement", place[1]), steps=steps, samples=samples
    )
    proposals: dict[str, Posterior] = {"own": own, "refined": refined}
    if model.has_encoder and not isinstance(model.inference, Amortized):
        with torch.no_grad():
            proposals["encoder"] = model.encode(pixels)
    columns, chunk = {"moved": moved}, max(1, pass_size(model) // BLOCK)
    with torch.no_grad():
        for (
            name,
            q,
        ) in proposals.items():  # the same draws for each proposal, which lowers the noise of their differences
            noise = mirrored(iw_samples, q.mean, generator(place[0], "gaps/elbo", place[1]))
            columns[f"elbo/{name}"] = neg_elbo(model, pixels, q, noise)
            draws = generator(place[0], "gaps/importance", place[1])
            columns[f"iw/{name}"] = importance_nll(model, pixels, q, draws, samples=iw_samples, chunk=chunk)
    return columns


def best_gaussian(
    model: VAE,
    x: Shaped[Tensor, "batch ..."],
    q: Posterior,
    draws: Generator,
    *,
    steps: int = 200,
    samples: int = 4,
) -> tuple[DiagonalGaussian, Float[Tensor, " batch"]]:
    """Fit the diagonal Gaussian of the largest ELBO to each datum, by Adam on mean and log-variance.

    Args:
        model: the VAE, in eval mode, so that data do not affect each other.
        x: ``(batch, ...)`` pixels in [0, 1], or tokens.
        q: ``(batch, latent)`` the initial posterior.
        draws: random generator of the codes.
        steps: of Adam; the rate falls to 0.
        samples: codes for each datum and step, in pairs mirrored at the mean.
    Returns:
        ``(batch, latent)``; and the decrease of each datum's -ELBO between the last two tenths of the steps.
    """
    point = torch.stack([q.mean, q.log_var]).detach()
    first, second = torch.zeros_like(point), torch.zeros_like(point)
    losses = []
    for t in range(steps):
        loss, gradient = _loss_and_gradient(model, x, point, mirrored(samples, point[0], draws))
        losses.append(loss)
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        step = (first / (1 - 0.9 ** (t + 1))) / ((second / (1 - 0.99 ** (t + 1))).sqrt() + 1e-12)
        point = point - RATE * 0.5 * (1 + math.cos(math.pi * t / steps)) * step
    tenth = max(1, steps // 10)
    before = torch.stack(losses[-2 * tenth : -tenth] or losses[:1]).mean(0)
    return DiagonalGaussian(point[0], point[1]), (before - torch.stack(losses[-tenth:]).mean(0)).double()


def mirrored(
    samples: int, like: Float[Tensor, "batch latent"], draws: Generator
) -> Float[Tensor, "sample batch latent"]:
    """Draw antithetic standard normals: each e is followed by -e, but for the last of an odd number.

    Shape, device and dtype are those of ``like``; a CPU generator gives every device the same draws.
    """
    each = [torch.randn(like.shape, generator=draws, device=draws.device) for _ in range(0, samples, 2)]
    return torch.stack([noise for e in each for noise in (e, -e)])[:samples].to(like)


def neg_elbo(
    model: VAE,
    x: Shaped[Tensor, "batch ..."],
    q: Posterior,
    noise: Float[Tensor, "sample batch latent"],
) -> Float[Tensor, " batch"]:
    """Return -L[q], the KL in closed form and -log p(x|z) as a mean over samples, in passes of `pass_size` codes."""
    parts = [_sampled(model, x, q, part).double() * len(part) for part in _split_noise(model, noise)]
    return torch.stack(parts).sum(0) / len(noise)


def _loss_and_gradient(model: VAE, x: Tensor, point: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(batch,)`` -L at (mean, log-variance) and its gradient ``(2, batch, latent)``, summed over passes."""
    point = point.detach().requires_grad_()
    loss, gradient = point.new_zeros(point.shape[1]), torch.zeros_like(point)
    for part in _split_noise(model, noise):
        value = _sampled(model, x, DiagonalGaussian(point[0], point[1]), part) * (len(part) / len(noise))
        gradient += torch.autograd.grad(value.sum(), point)[0]
        loss += value.detach()
    return loss, gradient


def _split_noise(model: VAE, noise: Tensor) -> tuple[Tensor, ...]:
    """Split the noise so that a pass decodes at most `pass_size` codes, but at least one sample of each datum."""
    return torch.split(noise, max(1, pass_size(model) // noise.shape[1]))


def _sampled(model: VAE, x: Tensor, q: Posterior, noise: Tensor) -> Tensor:
    """Return ``(batch,)`` the mean over samples of -log p(x|z), plus the analytic KL."""
    z = q.sample(noise)
    repeated = x.expand(len(noise), *x.shape).flatten(0, 1)
    log_p = model.decode(z.flatten(0, 1), repeated).log_prob(repeated).reshape(z.shape[:2])
    return q.kl(model.prior, z[0]).sum(-1) - log_p.mean(0)


def _mean(value: Tensor) -> float:
    return value.double().mean().item()


def _error(value: Tensor) -> float:
    return (value.double().std() / math.sqrt(len(value))).item() if len(value) > 1 else math.nan


ROWS = 50  # data whose grids are evaluated together
CODES = 250  # codes in one pass on a CPU, so that activations fit its cache; a GPU takes many more


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorGrid:
    """Points at which the posterior is evaluated, both ends among them.

    Args:
        low: smallest.
        high: largest.
        stride: distance of two points; 0.01 is the paper's, 0.1 the default of the authors' code.
    Raises:
        UsageError: if there are fewer than two points.
    """

    low: float = -20.0
    high: float = 20.0
    stride: float = 0.01

    def __post_init__(self) -> None:
        require(self.stride > 0, "stride > 0", self.stride, "0.01 is the paper's.")
        require(
            self.high - self.low >= self.stride, "a grid of two points or more", (self.low, self.high), "-20 to 20."
        )

    def points(self) -> Float[Tensor, " point"]:
        """Return the points, in double."""
        count = math.floor((self.high - self.low) / self.stride + 1e-9) + 1
        return self.low + self.stride * torch.arange(count, dtype=torch.float64)


@torch.no_grad()
def posterior_mean(
    model: VAE,
    x: Data,
    grid: PosteriorGrid = PosteriorGrid(),
    *,
    codes: int | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Float[Tensor, " n"]:
    """Compute the means of the true posteriors p(z|x) under a model with scalar z.

        E[z|x] = sum_g z_g w_g,  w_g = exp(log p(x|z_g) + log p(z_g) - logsumexp over the grid).

    The model is in eval mode (no dropout), an autoregressive decoder is teacher-forced on x. Accurate if the posterior
    lies inside the grid and is not much narrower than its stride. Memory is bounded: a pass decodes ``codes`` codes.

    Args:
        model: with one latent, of images or sequences; left in the mode it was found in.
        x: ``(n, ...)`` images, or a corpus.
        grid: where to evaluate.
        codes: in one pass; None is 250 on a CPU, 20,000 on a GPU.
        callback: called with (codes decoded, codes to decode); an exception from it ends the computation.
    Returns:
        ``(n,)`` in double, on the model's device.
    Raises:
        UsageError: if z is not scalar, or a number is out of range.
    Source: He et al. (2019), sec. 3 and authors' code. Deviations: the code leaves the grid's last point out, and has
        dropout on at the ends of epochs.
    """
    if model.latent_dim != 1:
        raise UsageError(f"a grid needs one latent, the model has {model.latent_dim}", "Train with --latent-dim 1.")
    weight = next(model.parameters())
    size = codes or (CODES * 80 if weight.is_cuda else CODES)
    require(size >= 1, "codes >= 1", size, "They are decoded in one pass.")
    points, parts, order, done = grid.points().to(weight.device), [], [], 0
    with eval_mode(model):
        for rows in split_passes(x, min(ROWS, size)):
            data = to_unit(take_batch(x, rows).to(weight.device))
            data = data.to(weight.dtype) if data.is_floating_point() else data
            joint = []
            for part in torch.split(points, max(1, size // len(data))):
                joint.append(_log_joint(model, data, part))
                done += joint[-1].numel()
                if callback is not None:
                    callback(done, len(x) * len(points))
            parts.append(torch.softmax(torch.cat(joint, 1), 1) @ points)
            order.append(torch.arange(len(x))[rows])
    return torch.cat(parts)[torch.cat(order).argsort().to(points.device)]


def _log_joint(model: VAE, x: Tensor, points: Tensor) -> Float[Tensor, "batch point"]:
    """Return ``(batch, point)`` log p(x|z) + log p(z) in double, for every datum at every point."""
    z = points.repeat(len(x))[:, None]
    each = x.repeat_interleave(len(points), 0)
    likelihood = model.decode(z.to(next(model.parameters()).dtype), each).log_prob(each)
    return (likelihood.double() + model.prior.log_prob(z)).reshape(len(x), len(points))
