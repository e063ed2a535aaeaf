"""What a VAE is measured by: the row of an epoch (`validate`) and the full account of a split (`evaluate`).

All numbers are per datum and in nats; formulas are in `losses`, `importance`, `information` and `activity`. Every draw
comes from ``(seed, purpose)`` on the CPU and for the whole split at once, so that a call gives the same numbers again,
on every device, and whatever the batch size (1e-10 relative in double).
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.vae.activity import active, activity, redraw_rise
from lso.vae.axes import Inference
from lso.vae.data import to_unit
from lso.vae.gaussian import DiagonalGaussian, cat
from lso.vae.importance import BLOCK, importance_nll
from lso.vae.inference import draws, group, infer
from lso.vae.information import aggregate_kl, log_mixture, log_mixture_within, mutual_information
from lso.vae.losses import kl_per_dimension, negative_elbo, reconstruction, reencoding_error
from lso.vae.model import VAE
from lso.vae.seeds import generator
from lso.vae.values import require

USE_DATA = 200  # data from which the decoder use of an autoregressive decoder is estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The account of one split, in nats and per datum.

    Args:
        neg_elbo: -ELBO at KL weight 1, one sample.
        reconstruction: -log p(x|z), the same sample.
        kl: analytic KL(q(z|x) || p(z)).
        kl_per_dimension: its parts.
        iw_nll: importance-weighted estimate of -log p(x); None if it was left out.
        iw_samples: its K.
        mi: mutual information within batches of ``mi_batch``, in a seeded order; at most log ``mi_batch``.
        mi_batch: B; no more than ``n``.
        mi_split: mutual information over the whole split; at most log ``n``.
        aggregate_kl: KL of the aggregated posterior from the prior.
        active_units: dimensions whose ``activity`` is at least 0.01.
        activity: variance of the posterior mean, for each dimension.
        decoder_use: rise of the reconstruction loss when a dimension is redrawn from the prior.
        reencoding_error: sampled-sampled, mean over data and dimensions; 2 at full collapse.
        reencoding_error_mean: mean-mean.
        reencoding_error_per_dimension: sampled-sampled, mean over data.
        n: data in the split.
        split: its name.
        seed: of all draws.
        seconds: wall time.
    """

    neg_elbo: float
    reconstruction: float
    kl: float
    kl_per_dimension: tuple[float, ...]
    iw_nll: float | None
    iw_samples: int
    mi: float
    mi_batch: int
    mi_split: float
    aggregate_kl: float
    active_units: int
    activity: tuple[float, ...]
    decoder_use: tuple[float, ...]
    reencoding_error: float
    reencoding_error_mean: float
    reencoding_error_per_dimension: tuple[float, ...]
    n: int
    split: str
    seed: int
    seconds: float

    def to_json(self) -> str:
        """One JSON object with a member for each field.

        Returns:
            Strict JSON: numbers that are not finite become null.
        """
        return json.dumps({key: _strict(value) for key, value in dataclasses.asdict(self).items()})


@torch.no_grad()
def validate(
    model: VAE,
    x: Shaped[Tensor, "n channels height width"],
    seed: int,
    *,
    inference: Inference | None = None,
    batch_size: int | None = None,
    mi_batch: int = 50,
) -> tuple[dict[str, float | int], DiagonalGaussian]:
    """The cheap metrics of a split, for each epoch's row, with one host read.

    Args:
        model: the VAE; left in the mode it was found in.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1].
        seed: of all draws; the same seed at every epoch makes epochs comparable.
        inference: how q(z|x) is found; None is the model's own way.
        batch_size: data in one pass, rounded to whole groups of data that are refined together; None is 1000, for an
            autoregressive decoder on a CPU 100.
        mi_batch: B of the mutual information within batches.
    Returns:
        ``(row, q)``: neg_elbo, reconstruction, kl, mi, mi_batch, aggregate_kl, active_units, reencoding_error and
        reencoding_error_mean, as `Metrics` defines them, and the posteriors ``(n, latent)``.
    """
    with evaluating(model):
        codes = _encode(model, x, seed, inference, batch_size)
    return _row(codes, seed, mi_batch), codes.q


@torch.no_grad()
def evaluate(
    model: VAE,
    x: Shaped[Tensor, "n channels height width"],
    *,
    iw_samples: int = 500,
    seed: int = 0,
    batch_size: int | None = None,
    mi_batch: int = 50,
    split: str = "test",
    inference: Inference | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Metrics:
    """All metrics of a split. At the same seed the shared numbers equal those of `validate`.

    Args:
        model: the VAE; left in the mode it was found in.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1].
        iw_samples: K of the importance-weighted NLL; 0 leaves it out.
        seed: of all draws.
        batch_size: data or codes in one pass (of the importance weights at least one block of 50, of data that are
            refined together one group); bounds memory alone. None is 1000, for an autoregressive decoder on a CPU 100.
        mi_batch: B of the mutual information within batches.
        split: name to record.
        inference: how q(z|x) is found, the proposal of the importance weights too; None is the model's own way.
        watch: called with (data done, data to do) of the importance-weighted NLL, where the time goes.
    Returns:
        The metrics.
    Raises:
        UsageError: if a count is out of range.
    """
    require(iw_samples >= 0, "iw_samples >= 0", iw_samples, "500 is usual; 0 leaves the estimate out.")
    start = time.perf_counter()
    samples = iw_samples if model.latent_dim else min(1, iw_samples)  # without latents one pass is exact
    with evaluating(model):
        codes = _encode(model, x, seed, inference, batch_size)
        use = decoder_use(model, x, codes.q, seed=seed, batch_size=batch_size)
        nll = _iw_nll(model, x, codes.q, samples, seed, batch_size, watch) if samples else None
    row = _row(codes, seed, mi_batch)
    return Metrics(
        neg_elbo=row["neg_elbo"],
        reconstruction=row["reconstruction"],
        kl=row["kl"],
        kl_per_dimension=tuple(kl_per_dimension(codes.q).tolist()),
        iw_nll=nll,
        iw_samples=samples,
        mi=row["mi"],
        mi_batch=int(row["mi_batch"]),
        mi_split=mutual_information(codes.q, codes.log_mixture).mean().item(),
        aggregate_kl=row["aggregate_kl"],
        active_units=int(row["active_units"]),
        activity=tuple(activity(codes.q.mean).tolist()),
        decoder_use=tuple(use.tolist()),
        reencoding_error=row["reencoding_error"],
        reencoding_error_mean=row["reencoding_error_mean"],
        reencoding_error_per_dimension=tuple(codes.error.double().mean(0).tolist()),
        n=len(x),
        split=split,
        seed=seed,
        seconds=time.perf_counter() - start,
    )


@torch.no_grad()
def decoder_use(
    model: VAE,
    x: Shaped[Tensor, "n channels height width"],
    q: DiagonalGaussian,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, " latent"]:
    """Mean rise of the reconstruction NLL when a dimension is redrawn from the prior, in nats (see `redraw_rise`).

    The split is decoded ``latent + 1`` times; by an autoregressive decoder, which is slow, only 200 data of it, drawn
    by the seed, as a split may be sorted.

    Args:
        model: the VAE; left in the mode it was found in.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1].
        q: ``(n, latent)`` posteriors of the split.
        seed: of the codes, which are those of `validate`, and of what they are redrawn with.
        batch_size: data in one pass; None as in `evaluate`.
    Returns:
        ``(latent,)`` in double; exactly 0 where the decoder ignores the dimension.
    """
    z, redrawn = q.sample(_normal(model, x, seed, "posterior")), _normal(model, x, seed, "decoder-use")
    used = torch.arange(len(x))
    if model.autoregressive and len(x) > USE_DATA:
        used = torch.randperm(len(x), generator=generator(seed, "metrics/decoder-use/data"))[:USE_DATA].sort().values
    total = z.new_zeros(model.latent_dim, dtype=torch.float64)
    with evaluating(model):
        for cut in _cuts(len(used), batch_size or pass_size(model)):
            rows = used[cut].to(z.device)
            pixels = _pixels(model, x[rows.to(x.device)])
            total += redraw_rise(model, pixels, z[rows], redrawn[rows]).double().sum(0)
    return total / len(used)


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """One pass over a split: posteriors and one code each, ``(n, latent)``, and per-datum values, ``(n,)``."""

    q: DiagonalGaussian
    z: Tensor
    reconstruction: Tensor
    error: Tensor
    error_mean: Tensor
    log_mixture: Tensor


def _encode(model: VAE, x: Tensor, seed: int, inference: Inference | None, batch_size: int | None) -> _Codes:
    batch_size = pass_size(model) if batch_size is None else batch_size
    require(batch_size >= 1, "batch_size >= 1", batch_size, "1000 is the default; less needs less memory.")
    how = model.inference if inference is None else inference
    unit = math.lcm(group(how), group(model.inference))  # whole groups in each pass
    batch_size = max(unit, batch_size - batch_size % unit)
    first, second = (_normal(model, x, seed, purpose) for purpose in ("posterior", "reencoding"))
    start = _starts(model, x, seed, draws(how))
    again = _starts(model, x, seed, draws(model.inference))
    posteriors, parts = [], []
    for rows in _cuts(len(x), batch_size):
        pixels = _pixels(model, x[rows])
        q = infer(how, model, pixels, start[:, rows], 1.0)
        z = q.sample(first[rows])
        likelihood = model.decode(z, pixels)
        error = reencoding_error(model, z, likelihood.mean, second[rows], again[:, rows])
        error_mean = reencoding_error(model, q.mean, model.decode(q.mean, pixels).mean, start=again[:, rows])
        posteriors.append(q)
        parts.append((z, reconstruction(likelihood, pixels), error, error_mean))
    q = cat(posteriors)
    z, loss, error, error_mean = (torch.cat(column) for column in zip(*parts, strict=True))
    return _Codes(q, z, loss, error, error_mean, log_mixture(q, z))


def _row(codes: _Codes, seed: int, mi_batch: int) -> dict[str, float | int]:
    q, n = codes.q, len(codes.q)
    # A split may be sorted, by class say: batches are made in a seeded order.
    order = torch.randperm(n, generator=generator(seed, "metrics/order")).to(q.mean.device)
    within = log_mixture_within(q[order], codes.z[order], mi_batch)
    values = {
        "neg_elbo": negative_elbo(codes.reconstruction.double(), q).mean(),
        "reconstruction": codes.reconstruction.double().mean(),
        "kl": kl_per_dimension(q).sum(),
        "mi": mutual_information(q[order], within).mean(),
        "aggregate_kl": aggregate_kl(codes.z, codes.log_mixture).mean(),
        "active_units": active(activity(q.mean)).sum().double(),
        "reencoding_error": codes.error.double().sum() / max(1, codes.error.numel()),  # 0 where there are no latents
        "reencoding_error_mean": codes.error_mean.double().sum() / max(1, codes.error.numel()),
    }
    row: dict[str, float] = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
    return row | {"mi_batch": min(mi_batch, n), "active_units": int(row["active_units"])}


def _iw_nll(
    model: VAE,
    x: Tensor,
    q: DiagonalGaussian,
    samples: int,
    seed: int,
    batch_size: int | None,
    watch: Callable[[int, int], None] | None,
) -> float:
    draws, chunk = generator(seed, "metrics/importance"), max(1, (batch_size or pass_size(model)) // BLOCK)
    total = torch.zeros((), dtype=torch.float64, device=q.mean.device)
    for rows in _cuts(len(x), BLOCK):
        pixels = _pixels(model, x[rows])
        total += importance_nll(model, pixels, q[rows], draws, samples=samples, chunk=chunk).sum()
        if watch is not None:
            watch(min(rows.stop, len(x)), len(x))
    return total.item() / len(x)


@contextmanager
def evaluating(model: VAE) -> Iterator[None]:
    """Eval mode inside; every module's own mode as it was after.

    Args:
        model: the VAE.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _pixels(model: VAE, x: Tensor) -> Tensor:
    """A batch on the model's device, in [0, 1] and in its dtype."""
    weight = next(model.parameters())
    return to_unit(x.to(weight.device)).to(weight.dtype)


def _normal(model: VAE, x: Tensor, seed: int, purpose: str) -> Tensor:
    """Standard normals ``(n, latent)`` for a whole split, drawn on the CPU in single precision whatever the model's."""
    draws = torch.randn(len(x), model.latent_dim, generator=generator(seed, f"metrics/{purpose}"))
    return draws.to(next(model.parameters()))


def _starts(model: VAE, x: Tensor, seed: int, count: int) -> Tensor:
    """``(count, n, latent)`` normals for an inference."""
    found = [_normal(model, x, seed, f"inference/{i}") for i in range(count)]
    return torch.stack(found) if found else next(model.parameters()).new_zeros(0, len(x), model.latent_dim)


def pass_size(model: VAE) -> int:
    """Data or codes in one pass: an autoregressive decoder has many maps of an image, which should fit a CPU's cache.

    Args:
        model: the VAE.
    Returns:
        How many.
    """
    return 1000 if not model.autoregressive or next(model.parameters()).is_cuda else 100


def _cuts(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def _strict(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
