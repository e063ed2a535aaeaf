"""Longer accounts of a trained model: its evaluation repeated under other seeds, and the gaps of its ELBO."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lso.tasks.datasets.loading import seen
from lso.tasks.training.experiment import evaluate
from lso.vae.data.dataset import Dataset, Split, take
from lso.vae.metrics import inference_gap as inference_gaps
from lso.vae.metrics.evaluation import Metrics
from lso.vae.metrics.inference_gap import Gaps
from lso.vae.models.vae import VAE
from lso.vae.utils.validation import require

# What He et al. (2019), Tables 7 and 8 repeat.
REPEATED = ("iw_nll", "neg_elbo", "kl", "mi", "active_units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One metric over repeated evaluations.

    Args:
        mean: over repeats.
        deviation: standard deviation, n - 1.
        least: smallest value.
        most: largest.
        values: all, in the order of seeds.
    """

    mean: float
    deviation: float
    least: float
    most: float
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """Mean, deviation and range."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(
        mean=statistics.fmean(values), deviation=deviation, least=min(values), most=max(values), values=tuple(values)
    )


def repeats(
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
    """The evaluation of one model under ``count`` seeds, whose spread is that of the estimators (He et al. 2019,
    Tables 7 and 8).

    Args:
        model: the VAE.
        dataset: the data.
        count: evaluations.
        split: which part of the data.
        iw_samples: importance samples for the NLL; 0 leaves it out.
        limit: use the first so many data.
        seed: of the first; the others follow.
        callback: called with (data done, data to do) over all evaluations.
    Returns:
        One account for each seed; `spread_of` sums them up.
    Raises:
        UsageError: if ``count`` is below 1.
    """
    require(count >= 1, "repeats >= 1", count, "10 is that of the paper.")
    found: list[Metrics] = []

    def one(done: int, total: int) -> None:
        if callback is not None:
            callback(len(found) * total + done, count * total)

    for i in range(count):
        found.append(
            evaluate(model, dataset, split=split, iw_samples=iw_samples, limit=limit, seed=seed + i, callback=one)
        )
    return found


def spread_of(accounts: Sequence[Metrics]) -> dict[str, Spread]:
    """Each repeated metric over evaluations.

    Args:
        accounts: from `repeats`.
    Returns:
        Metric name -> spread, without the NLL where it was left out.
    """
    found = {}
    for name in REPEATED:
        values = [getattr(account, name) for account in accounts]
        if None not in values:
            found[name] = spread([float(value) for value in values])
    return found


def gaps(
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
    """Approximation and amortization gap of a model on one split (see `lso.vae.metrics.inference_gap`)."""
    device: torch.device = next(model.parameters()).device
    x = take(seen(dataset, split), slice(limit)).to(device)
    options = {"steps": steps, "samples": samples, "iw_samples": iw_samples}
    return inference_gaps.gaps(model, x, seed=seed, split=split, callback=callback, **options)
