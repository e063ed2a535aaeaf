"""Within which batches mutual information is estimated: of one length, as in published tables, or of any."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lso.vae.config.architectures import Architecture
from lso.vae.data.corpus import Corpus
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.metrics.evaluation import evaluate_split, validate
from lso.vae.metrics.information import log_mixture_within
from lso.vae.models.vae import VAE, build
from lso.vae.utils.random import generator
from lso.vae.vocabulary import PAD
from tests.vae.sequence_models import LATENT, WORDS, mixed, same, tiny


def telling(what: Callable[[Tensor], Tensor], deviation: float, monkeypatch: pytest.MonkeyPatch) -> VAE:
    """A model of whose codes the first coordinate says one number of a sentence, and the others say nothing."""
    made = tiny().eval()

    def encode(x: Tensor) -> DiagonalGaussian:
        mean, log_var = torch.zeros(2, len(x), LATENT, dtype=torch.float64)
        log_var[:, 0] = 2 * math.log(deviation)
        mean[:, 0] = 0 if x.is_floating_point() else what(x)
        return DiagonalGaussian(mean, log_var)

    monkeypatch.setattr(made, "encode", encode)
    return made


def length(x: Tensor) -> Tensor:
    return (x != PAD).sum(1)


def sentences(lengths: Tensor, last: int = 4) -> Corpus:
    """Sentences of these lengths, start and end counted, each with the same token before its end."""
    return Corpus.of([[1, *[4] * (n - 3), last, 2] for n in lengths.tolist()])


@torch.no_grad()
def test_a_code_of_length_alone_tells_nothing_within_batches_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    made = telling(length, 0.1, monkeypatch)
    lengths = torch.randint(3, 7, (2000,), generator=generator(0, "lengths"))  # four of them, equally likely
    row = validate(made, sentences(lengths), 0)[0]
    # Batches of 32 hold their four lengths in shares whose entropy is some 3 / (2 * 32) below log 4.
    assert row["mi"] == pytest.approx(0.0, abs=1e-9) and row["mi_mixed"] == pytest.approx(math.log(4) - 0.047, abs=0.02)
    assert row["mi_split"] == pytest.approx(math.log(4), abs=0.01)
    found = evaluate_split(made, sentences(lengths[:200]), iw_samples=0)
    assert found.mi_mixed is not None and found.mi == pytest.approx(0.0, abs=1e-9) and found.mi_mixed > 1


@torch.no_grad()
def test_on_short_yelp_a_code_of_length_alone_scores_181_in_mixed_batches_and_nothing_in_those_of_one_length(
    data_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lso.tasks.datasets.loading import load_dataset
    from lso.vae.config.protocol import DataConfig

    data = DataConfig(task="short-yelp", path=str(data_path("yelp_short")))
    corpus = load_dataset(data, "none", 0).corpus("validation")
    few = Corpus(corpus.tokens.clamp(max=WORDS - 1), corpus.starts, corpus.lengths)[:3000]  # the decoder is a tiny one
    row = validate(telling(length, 0.5, monkeypatch), few, 0)[0]
    # Terms deviate by 0.7 nats, so the mean by 0.013. One that tells the very length would score 2.37.
    assert row["mi"] == pytest.approx(0.00, abs=1e-9) and row["mi_mixed"] == pytest.approx(1.81, abs=0.04)


@torch.no_grad()
def test_a_corpus_sorted_by_class_is_not_taken_to_have_batches_of_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    made = telling(lambda x: x.gather(1, length(x)[:, None] - 2)[:, 0], 0.1, monkeypatch)  # the last word
    lengths = torch.randint(3, 5, (1000,), generator=generator(0, "lengths"))
    halves = [sentences(lengths, last) for last in (4, 5)]
    starts = torch.cat([halves[0].starts, halves[1].starts + len(halves[0].tokens)])
    both = Corpus(torch.cat([half.tokens for half in halves]), starts, lengths.repeat(2))
    assert validate(made, both, 0)[0]["mi"] == pytest.approx(math.log(2), abs=0.03)


@torch.no_grad()
def test_information_within_lengths_is_that_of_a_loop_over_them() -> None:
    made, sequences = tiny().eval(), mixed(24)
    row, q = validate(made, Corpus.of(sequences), 3, mi_batch=5)
    z = q.sample(torch.randn(24, LATENT, generator=generator(3, "metrics/posterior")).double())
    order = torch.randperm(24, generator=generator(3, "metrics/order")).tolist()
    total = 0.0
    for size in {len(sequence) for sequence in sequences}:
        alike = [i for i in order if len(sequences[i]) == size]
        for batch in (alike[start : start + 5] for start in range(0, len(alike), 5)):
            here = torch.distributions.Normal(q.mean[batch], q.log_var[batch].div(2).exp())
            density = torch.stack([here.log_prob(z[i]).sum(1) for i in batch])  # type: ignore[no-untyped-call]
            total += float((density.diagonal() - density.logsumexp(1) + math.log(len(batch))).sum())
    assert len({len(sequence) for sequence in sequences}) > 2 and abs(total) > 0.01
    same(torch.tensor(row["mi"]).double(), torch.tensor(total / 24).double())


def test_images_have_one_number() -> None:
    made, x = build(Architecture(latent_dim=2, width=8), False, (1, 8, 8)), torch.rand(20, 1, 8, 8)
    assert "mi_mixed" not in validate(made, x, 0)[0] and evaluate_split(made, x, iw_samples=0).mi_mixed is None


def test_batches_that_leave_out_a_datum_or_hold_it_twice_are_refused() -> None:
    q = DiagonalGaussian(torch.zeros(4, 1), torch.zeros(4, 1))
    for rows in ([0, 1], [2]), ([0, 1], [1, 2, 3]):
        with pytest.raises(UsageError, match="batches that hold each of 4 data once"):
            log_mixture_within(q, q.mean, [torch.tensor(part) for part in rows])
