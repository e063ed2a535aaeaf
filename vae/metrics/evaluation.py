"""Evaluation of a split: reconstruction, negative ELBO, KL per dimension, re-encoding error, and all other metrics."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from lso.vae.config.components import Inference, Svi
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Data, split_passes
from lso.vae.distributions.categorical import count_tokens
from lso.vae.distributions.families import concatenate_posteriors, take_rows
from lso.vae.distributions.gaussian import DiagonalGaussian, StandardNormal
from lso.vae.inference.posterior import clip_group_size, count_draws, infer
from lso.vae.metrics.active_units import is_active, mean_variance, redraw_rise
from lso.vae.metrics.importance import BLOCK, importance_nll
from lso.vae.metrics.information import aggregate_kl, log_mixture, log_mixture_within, mutual_information
from lso.vae.metrics.passes import (
    draw_code_noise,
    draw_inference_noise,
    draw_normals,
    eval_mode,
    pass_size,
    to_model_input,
)
from lso.vae.models.sequence_decoding import decode_greedily
from lso.vae.models.vae import VAE
from lso.vae.protocols import Likelihood, Posterior, Prior
from lso.vae.utils.notebook import html_table
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require
from lso.vae.vocabulary import PAD


def reconstruction(likelihood: Likelihood, x: Shaped[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """Reconstruction loss -log p(x|z), in nats.

    Args:
        likelihood: p(x|z) of sampled codes.
        x: ``(batch, ...)`` pixels in [0, 1], or tokens.
    Returns:
        ``(batch,)``.
    Source: Kingma & Welling (2014), arXiv:1312.6114, eq. 7.
    """
    return -likelihood.log_prob(x)


def negative_elbo(
    reconstruction: Float[Tensor, " batch"],
    q: Posterior,
    prior: Prior = StandardNormal(),
    z: Float[Tensor, "batch latent"] | None = None,
) -> Float[Tensor, " batch"]:
    """Negative evidence lower bound at KL weight 1, its KL in closed form where there is one, in nats.

        -ELBO = -log p(x|z) + sum_j KL(q(z_j|x) || p(z_j)),  z ~ q(z|x).

    Args:
        reconstruction: ``(batch,)`` -log p(x|z).
        q: ``(batch, latent)`` posterior.
        prior: p(z).
        z: ``(batch, latent)`` the draw, for pairs of q and p without a closed form.
    Returns:
        ``(batch,)`` in double; at least -log p(x) in expectation, by KL(q(z|x) || p(z|x)).
    Source: Kingma & Welling (2014), arXiv:1312.6114, eq. 3 and app. B.
    """
    return reconstruction + kl(q, prior, z).sum(-1)


def kl(
    q: Posterior, prior: Prior = StandardNormal(), z: Float[Tensor, "batch latent"] | None = None
) -> Float[Tensor, "batch part"]:
    """KL(q(z|x) || p(z)) of each part, in double; nonnegative for diagonal Gaussians and the prior N(0, I).

        1/2 (mean^2 + (exp(log_var) - 1) - log_var)

    In single precision, as in training, the terms cancel near the prior and leave some 1e-7 of either sign.
    """
    if not (isinstance(q, DiagonalGaussian) and isinstance(prior, StandardNormal)):
        assert z is not None
        return q.kl(prior, z).double()
    log_var = q.log_var.double()
    return 0.5 * (q.mean.double() ** 2 + (torch.expm1(log_var) - log_var).clamp(min=0))


def kl_per_dimension(
    q: Posterior, prior: Prior = StandardNormal(), z: Float[Tensor, "n latent"] | None = None
) -> Float[Tensor, " part"]:
    """Mean over the data of `kl`; of diagonal Gaussians to N(0, 1), 1/2 (mean^2 + var - 1 - log var), in nats.

    Args:
        q: ``(n, latent)`` posteriors of a split.
        prior: p(z).
        z: ``(n, latent)`` a draw of each, for pairs of q and p without a closed form.
    Returns:
        ``(latent,)`` in double, nonnegative, or ``(1,)`` where there are no such parts; the sum is the KL.
    Source: Kingma & Welling (2014), arXiv:1312.6114, app. B.
    """
    return kl(q, prior, z).mean(0)


def reencoding_error(
    model: VAE,
    z: Float[Tensor, "batch latent"],
    likelihood: Likelihood,
    noise: Float[Tensor, "batch width"] | None = None,
    start: Float[Tensor, "draw batch latent"] | None = None,
) -> Float[Tensor, "batch latent"]:
    """Squared distance of a code and the code of its soft reconstruction, for each dimension.

        E_ij = (z_ij - z~_ij)^2,  z~ = mu~ + sigma~ * noise, or mu~ without noise;  (mu~, sigma~) = encoder(E[x|z]).

    Sampled-sampled (z and z~ drawn) is 2 at full collapse; mean-mean (z a posterior mean, no noise) is 0 there. A model
    without an encoder infers the second code by its own method.

    Args:
        model: the VAE, in eval mode.
        z: ``(batch, latent)`` codes.
        likelihood: p(x|z), whose mean is re-encoded.
        noise: ``(batch, width)`` noise of the second code, or None for the posterior mean.
        start: random numbers of an inference without an encoder.
    Returns:
        ``(batch, latent)``, dimensionless; the error is the mean over both axes.
    Source: the se loss of NE-VAE (2021), reduced by a mean over dimensions.
    """
    if isinstance(model.inference, Svi):
        shown = (
            likelihood.mode if model.kind == "sequence" else likelihood.mean
        )  # the decoder can be teacher-forced on tokens only
        again = infer(model.inference, model, shown, start, 1.0)
    else:
        again = model.encode(likelihood.mean)
    return (z - (again.mean if noise is None else again.sample(noise))) ** 2


MI_BATCH = {"image": 50, "sequence": 32}  # batch sizes in which He et al. (2019) estimate MI
USE_DATA = 200  # data for the decoder use of an autoregressive decoder, whose passes are slow
MATCH_DATA = 1000  # sequences that are reconstructed for the exact-match rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All metrics of one split, in nats and per datum.

    Args:
        neg_elbo: -ELBO at KL weight 1, one sample.
        reconstruction: -log p(x|z), the same sample.
        kl: analytic KL(q(z|x) || p(z)).
        kl_per_dimension: the KL of each dimension.
        iw_nll: importance-weighted estimate of -log p(x); None if it was left out.
        iw_samples: K of this estimate.
        mi: mutual information within batches of at most ``mi_batch`` data in a seeded order; at most log ``mi_batch``.
            A batch of sequences holds a single length, as in published tables, so that the length is not counted.
        mi_mixed: the same within batches of any lengths: a code of length alone scores 1.8 nats in it on Short Yelp,
            and 0 in ``mi``; None for images.
        mi_batch: B; no more than ``n``.
        mi_split: mutual information over the whole split; at most log ``n``.
        aggregate_kl: KL of the aggregated posterior from the prior.
        active_units: dimensions whose ``mean_variance`` is at least 0.01.
        activity: variance of the posterior mean, for each dimension.
        decoder_use: rise of the reconstruction loss when a dimension is redrawn from the prior.
        reencoding_error: sampled-sampled, mean over data and dimensions; 2 at full collapse.
        reencoding_error_mean: mean-mean.
        reencoding_error_per_dimension: sampled-sampled, mean over data.
        tokens: mean number per sequence, with the end symbol, without the start symbol; None for images.
        perplexity: exp(summed NLL / summed tokens), of the importance-weighted NLL, or of -ELBO where that was left
            out; None for images.
        exact_match: share of the first 1000 sequences that the greedy decode of the posterior mean equals; None for
            images and without latents.
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
    mi_mixed: float | None
    mi_batch: int
    mi_split: float
    aggregate_kl: float
    active_units: int
    activity: tuple[float, ...]
    decoder_use: tuple[float, ...]
    reencoding_error: float
    reencoding_error_mean: float
    reencoding_error_per_dimension: tuple[float, ...]
    tokens: float | None
    perplexity: float | None
    exact_match: float | None
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

    def _repr_html_(self) -> str:
        """What a notebook shows: every metric that is one number."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return html_table("Metrics", {key: v for key, v in values.items() if isinstance(v, int | float | str)})


@torch.no_grad()
def validate(
    model: VAE,
    x: Data,
    seed: int,
    *,
    inference: Inference | None = None,
    batch_size: int | None = None,
    mi_batch: int | None = None,
) -> tuple[dict[str, float | int], Posterior]:
    """Compute the cheap metrics of a split, for the row of each epoch, with a single host read.

    Args:
        model: the VAE; left in the mode it was found in.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1]; or a corpus.
        seed: of all draws; the same seed at every epoch makes epochs comparable.
        inference: how q(z|x) is found; None is the model's own way.
        batch_size: data in one pass, rounded to whole groups of data that are refined together; None is as `pass_size`
            has it.
        mi_batch: B of the mutual information within batches; None is that of the literature, 50 images or 32 sequences.
    Returns:
        ``(row, q)``: neg_elbo, reconstruction, kl, mi, mi_batch, mi_split, aggregate_kl, active_units,
        reencoding_error, reencoding_error_mean, and mi_mixed, tokens and perplexity of sequences, as `Metrics` defines
        them; and the posteriors ``(n, latent)``.
    """
    with eval_mode(model):
        codes = _encode(model, x, seed, inference, batch_size)
    return _row(model, x, codes, seed, mi_batch), codes.q


@torch.no_grad()
def evaluate_split(
    model: VAE,
    x: Data,
    *,
    iw_samples: int = 500,
    seed: int = 0,
    batch_size: int | None = None,
    mi_batch: int | None = None,
    split: str = "test",
    inference: Inference | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Metrics:
    """Compute all metrics of a split; at the same seed those of `validate` have the same values.

    Args:
        model: the VAE; left in the mode it was found in.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1]; or a corpus.
        iw_samples: K of the importance-weighted NLL; 0 leaves it out.
        seed: of all draws.
        batch_size: data or codes in one pass (of the importance weights at least one block of 50, of data that are
            refined together one group); bounds memory alone. None is as `pass_size` has it.
        mi_batch: B of the mutual information within batches; None is that of the literature, 50 images or 32 sequences.
        split: name to record.
        inference: how q(z|x) is found, the proposal of the importance weights too; None is the model's own way.
        callback: called with (data done, data to do) of the importance-weighted NLL, where the time goes.
    Returns:
        The metrics.
    Raises:
        UsageError: if a count is out of range.
    """
    require(iw_samples >= 0, "iw_samples >= 0", iw_samples, "500 is usual; 0 leaves the estimate out.")
    start = time.perf_counter()
    samples = iw_samples if model.latent_dim else min(1, iw_samples)  # without latents one pass is exact
    with eval_mode(model):
        codes = _encode(model, x, seed, inference, batch_size)
        use = decoder_use(model, x, codes.q, seed=seed, batch_size=batch_size)
        nll = _iw_nll(model, x, codes.q, samples, seed, batch_size, callback) if samples else None
        matched = _exact_match(model, x, codes.q) if isinstance(x, Corpus) and model.latent_dim else None
    row = _row(model, x, codes, seed, mi_batch)
    perplexity = row.get("perplexity")
    if perplexity is not None and nll is not None:
        perplexity = torch.tensor(nll / row["tokens"], dtype=torch.float64).exp().item()
    return Metrics(
        neg_elbo=row["neg_elbo"],
        reconstruction=row["reconstruction"],
        kl=row["kl"],
        kl_per_dimension=tuple(kl_per_dimension(codes.q, model.prior, codes.z).tolist()),
        iw_nll=nll,
        iw_samples=samples,
        mi=row["mi"],
        mi_mixed=row.get("mi_mixed"),
        mi_batch=int(row["mi_batch"]),
        mi_split=row["mi_split"],
        aggregate_kl=row["aggregate_kl"],
        active_units=int(row["active_units"]),
        activity=tuple(mean_variance(codes.q.mean).tolist()),
        decoder_use=tuple(use.tolist()),
        reencoding_error=row["reencoding_error"],
        reencoding_error_mean=row["reencoding_error_mean"],
        reencoding_error_per_dimension=tuple(codes.error.double().mean(0).tolist()),
        tokens=row.get("tokens"),
        perplexity=perplexity,
        exact_match=matched,
        n=len(x),
        split=split,
        seed=seed,
        seconds=time.perf_counter() - start,
    )


@torch.no_grad()
def decoder_use(
    model: VAE,
    x: Data,
    q: Posterior,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Float[Tensor, " latent"]:
    """Mean rise of the reconstruction NLL when a dimension is redrawn from the prior, in nats (see `redraw_rise`).

    The split is decoded ``latent + 1`` times. For autoregressive decoders, which are slow, 200 data are used, drawn at
    random because a split may be sorted.

    Args:
        model: the VAE; left in the mode it was found in.
        x: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1]; or a corpus.
        q: ``(n, latent)`` posteriors of the split.
        seed: of the codes, which equal those of `validate`, and of the redrawn values.
        batch_size: data in one pass; None as in `evaluate`.
    Returns:
        ``(latent,)`` in double; exactly 0 where the decoder ignores the dimension.
    """
    z = q.sample(draw_code_noise(model, x, seed, "posterior"))
    redrawn = model.prior.sample(draw_normals(model, x, seed, "decoder-use"))
    used = torch.arange(len(x))
    if model.autoregressive and len(x) > USE_DATA:
        used = torch.randperm(len(x), generator=generator(seed, "metrics/decoder-use/data"))[:USE_DATA].sort().values
    total = z.new_zeros(model.latent_dim, dtype=torch.float64)
    with eval_mode(model):
        part, z, redrawn = x[used], z[used.to(z.device)], redrawn[used.to(z.device)]
        for rows in split_passes(part, batch_size or pass_size(model)):
            total += redraw_rise(model, to_model_input(model, part, rows), z[rows], redrawn[rows]).double().sum(0)
    return total / len(used)


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """Results of a pass over a split: posteriors and one code each, ``(n, latent)``, and per-datum values, ``(n,)``."""

    q: Posterior
    z: Tensor
    reconstruction: Tensor
    error: Tensor
    error_mean: Tensor
    tokens: Tensor
    log_mixture: Tensor


def _encode(model: VAE, x: Data, seed: int, inference: Inference | None, batch_size: int | None) -> _Codes:
    batch_size = pass_size(model) if batch_size is None else batch_size
    require(batch_size >= 1, "batch_size >= 1", batch_size, "1000 is the default; less needs less memory.")
    how = model.inference if inference is None else inference
    unit = math.lcm(clip_group_size(how), clip_group_size(model.inference))  # whole groups in each pass
    batch_size = max(unit, batch_size - batch_size % unit)
    first, second = (draw_code_noise(model, x, seed, purpose) for purpose in ("posterior", "reencoding"))
    start = draw_inference_noise(model, x, seed, count_draws(how))
    again = draw_inference_noise(model, x, seed, count_draws(model.inference))
    posteriors, parts, order = [], [], []
    for rows in split_passes(x, batch_size):
        data = to_model_input(model, x, rows)
        q = infer(how, model, data, start[:, rows], 1.0)
        z = q.sample(first[rows])
        likelihood = model.decode(z, data)
        loss = reconstruction(likelihood, data)
        error = error_mean = z  # empty without latents, which saves the second decode
        if model.latent_dim:
            error = reencoding_error(model, z, likelihood, second[rows], again[:, rows])
            error_mean = reencoding_error(model, q.mean, model.decode(q.mean, data), start=again[:, rows])
        posteriors.append(q)
        parts.append(
            (z, loss, error, error_mean, count_tokens(data) if isinstance(x, Corpus) else torch.ones_like(loss))
        )
        order.append(torch.arange(len(x))[rows])
    back = torch.cat(order).argsort().to(first.device)  # the parts of a corpus are sorted by length
    z, loss, error, error_mean, tokens = (torch.cat(column)[back] for column in zip(*parts, strict=True))
    q = take_rows(concatenate_posteriors(posteriors), back)
    return _Codes(q, z, loss, error, error_mean, tokens, log_mixture(q, z))


def _row(model: VAE, x: Data, codes: _Codes, seed: int, mi_batch: int | None) -> dict[str, float | int]:
    q, n, size = codes.q, len(codes.q), MI_BATCH[model.kind] if mi_batch is None else mi_batch
    require(size >= 1, "mi_batch >= 1", size, "He et al. (2019) use 50 for images, 32 for text.")
    # A split may be sorted, e.g. by class, so the batches are taken in a seeded random order.
    order = torch.randperm(n, generator=generator(seed, "metrics/order"))
    mixed = _information(codes, torch.split(order, size))
    values = {
        "neg_elbo": negative_elbo(codes.reconstruction.double(), q, model.prior, codes.z).mean(),
        "reconstruction": codes.reconstruction.double().mean(),
        "kl": kl_per_dimension(q, model.prior, codes.z).sum(),
        "mi": mixed,
        "mi_split": mutual_information(q, codes.z, codes.log_mixture).mean(),
        "aggregate_kl": aggregate_kl(codes.z, codes.log_mixture, model.prior).mean(),
        "active_units": is_active(mean_variance(q.mean)).sum().double(),
        "reencoding_error": codes.error.double().sum() / max(1, codes.error.numel()),  # 0 where there are no latents
        "reencoding_error_mean": codes.error_mean.double().sum() / max(1, codes.error.numel()),
    }
    if isinstance(x, Corpus):
        # One length per batch, as in the authors' code (jxhe/vae-lagging-encoder, data/text_data.py), whose order
        # within a length is that of an unstable sort.
        values["mi"], values["mi_mixed"] = _information(codes, [order[g] for g in x[order].groups(size)]), mixed
        values["tokens"] = codes.tokens.double().mean()
        values["perplexity"] = (values["neg_elbo"] / values["tokens"]).exp()
    row: dict[str, float] = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
    return row | {"mi_batch": min(size, n), "active_units": int(row["active_units"])}


def _information(codes: _Codes, batches: Sequence[Tensor]) -> Tensor:
    """Return the mutual information within batches, a scalar."""
    return mutual_information(codes.q, codes.z, log_mixture_within(codes.q, codes.z, batches)).mean()


def _iw_nll(
    model: VAE,
    x: Data,
    q: Posterior,
    samples: int,
    seed: int,
    batch_size: int | None,
    callback: Callable[[int, int], None] | None,
) -> float:
    draws, chunk = generator(seed, "metrics/importance"), max(1, (batch_size or pass_size(model)) // BLOCK)
    total, done = torch.zeros((), dtype=torch.float64, device=q.mean.device), 0
    for rows in split_passes(x, BLOCK):
        data = to_model_input(model, x, rows)
        total += importance_nll(model, data, take_rows(q, rows), draws, samples=samples, chunk=chunk).sum()
        done += len(data)
        if callback is not None:
            callback(done, len(x))
    return total.item() / len(x)


def _exact_match(model: VAE, x: Corpus, q: Posterior) -> float:
    """Return the share of the first `MATCH_DATA` sequences that greedy decoding of the posterior mean reproduces."""
    part, matches = x[:MATCH_DATA], 0
    for rows in split_passes(part, pass_size(model)):
        data = to_model_input(model, part, rows)
        found = decode_greedily(
            model.stepwise, q.mean[:MATCH_DATA][rows], data.shape[1] + 1
        )  # one more token, to see whether it ends
        both = [pad(part, (0, data.shape[1] + 1 - part.shape[1]), value=PAD) for part in (found, data)]
        matches += int((both[0] == both[1]).all(1).sum())
    return matches / len(part)


def _strict(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
