"""Longer evaluations of a trained model: repeated with other seeds, and the inference gaps of its ELBO."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lso.tasks.datasets.loading import model_inputs
from lso.tasks.training.experiment import evaluate
from lso.vae.data.dataset import Dataset, Split, take_batch
from lso.vae.metrics import inference_gap as inference_gaps
from lso.vae.metrics.evaluation import Metrics
from lso.vae.metrics.inference_gap import Gaps
from lso.vae.models.vae import VAE
from lso.vae.utils.validation import require

# The metrics that He et al. (2019), Tables 7 and 8 evaluate repeatedly.
REPEATED_METRICS = ("iw_nll", "neg_elbo", "kl", "mi", "active_units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean, standard deviation and range of one metric over repeated evaluations."""

    mean: float
    deviation: float  # with n - 1
    least: float
    most: float
    values: tuple[float, ...]  # in the order of seeds


def summarize_values(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and range of values."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(
        mean=statistics.fmean(values), deviation=deviation, least=min(values), most=max(values), values=tuple(values)
    )


def evaluate_repeatedly(
    model: VAE,
    dataset: Dataset,
    count: int = 10,
    *,
    split: Split = "test",
    iw_samples: int = 500,
    limit: int | None = None,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> list[Metrics]:
    """Evaluate one model with the seeds ``seed``, ``seed + 1``, ...: the metrics differ by the noise of the estimators.

    The other arguments are those of `evaluate`; ``callback`` counts over all evaluations. Source: He et al. (2019),
    Tables 7 and 8.
    """
    require(count >= 1, "repeats >= 1", count, "10 is that of the paper.")
    repeats: list[Metrics] = []

    def one(done: int, total: int) -> None:
        if callback is not None:
            callback(len(repeats) * total + done, count * total)

    for i in range(count):
        repeats.append(
            evaluate(model, dataset, split=split, iw_samples=iw_samples, limit=limit, seed=seed + i, callback=one)
        )
    return repeats


def summarize_repeats(accounts: Sequence[Metrics]) -> dict[str, Spread]:
    """Mean and spread of each of `REPEATED_METRICS` over evaluations, without the NLL where it was left out."""
    summary = {}
    for name in REPEATED_METRICS:
        values = [getattr(account, name) for account in accounts]
        if None not in values:
            summary[name] = summarize_values([float(value) for value in values])
    return summary


def estimate_gaps(
    model: VAE,
    dataset: Dataset,
    *,
    split: Split = "test",
    steps: int = 200,
    samples: int = 4,
    iw_samples: int = 500,
    limit: int | None = None,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Gaps:
    """Estimate the approximation and amortization gaps of a model on one split, see `lso.vae.metrics.inference_gap`."""
    device: torch.device = next(model.parameters()).device
    x = take_batch(model_inputs(dataset, split), slice(limit)).to(device)
    options = {"steps": steps, "samples": samples, "iw_samples": iw_samples}
    return inference_gaps.gaps(model, x, seed=seed, split=split, callback=callback, **options)
