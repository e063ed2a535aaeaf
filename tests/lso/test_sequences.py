"""Searches through decoders of sequences: the teacher-forced likelihood, scores on texts, and a search end to end."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from lso.analysis.latent_dimensions import token_effect
from lso.analysis.summary import search_summary
from lso.decoders.decoder import Decoder
from lso.gradient.initial_points import make_starts
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.reports.key_numbers import key_numbers
from lso.results.export import read_evaluations, write_evaluations
from lso.vae.config.architectures import architecture
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import take_batch
from lso.vae.errors import ShapeError, UsageError
from lso.vae.models.vae import VAE, build
from lso.vae.utils.random import generator
from lso.vae.vocabulary import END, PAD, START, UNKNOWN
from tests.lso.example_decoders import draws
from tests.vae.sequence_models import LATENT, tiny
from tests.vae.small import sentences

TARGETS = torch.tensor([[START, 4, 5, 6, END], [START, 6, END, PAD, PAD], [START, END, PAD, PAD, PAD]])


def model(variant: str = "lstm", skip: bool = False) -> VAE:
    return tiny(variant, skip).eval()


# --- the likelihood of given sequences ------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["lstm", "lstm of 2 layers", "kim2018-text", "transformer"])
@pytest.mark.parametrize("skip", [False, True])
def test_the_value_is_the_teacher_forced_likelihood_each_target_on_its_own(variant: str, skip: bool) -> None:
    vae, z = model(variant, skip), draws(3, 2, LATENT)
    objective = LatentObjective.reconstruct(Decoder(vae), TARGETS, prior_weight=1.0)
    twin = torch.stack(
        [-vae.decode(z[:, s], TARGETS).log_prob(TARGETS) + 0.5 * z[:, s].square().sum(-1) for s in range(2)], 1
    )
    torch.testing.assert_close(objective(z), twin, rtol=1e-10, atol=1e-10)
    pairs = torch.tensor([[2, 0], [0, 1]])
    torch.testing.assert_close(objective.take(pairs)(z[pairs[:, 0], pairs[:, 1]]), twin[[2, 0], [0, 1]])
    chunked = LatentObjective.reconstruct(Decoder(vae, batch_size=2), pad(TARGETS, (0, 4)), "nll", prior_weight=1.0)
    torch.testing.assert_close(chunked(z), twin, rtol=1e-10, atol=1e-10)
    every = chunked.take(torch.arange(3)).loss_and_grad(z[:, 0])
    torch.testing.assert_close(every[0], twin[:, 0])
    whole = objective.take(torch.arange(3)).loss_and_grad(z[:, 0])
    torch.testing.assert_close(every[1], whole[1], rtol=1e-8, atol=1e-10)
    step = 1e-6 * torch.eye(LATENT, dtype=torch.float64)[0]
    change = (objective(z + step) - objective(z - step))[:, 0] / 2e-6
    torch.testing.assert_close(whole[1][:, 0], change, rtol=1e-5, atol=1e-7)


def test_one_sequence_is_a_target_and_a_blank_context_knows_no_token() -> None:
    vae, z = model(), draws(2, LATENT)
    assert LatentObjective.reconstruct(Decoder(vae), TARGETS[0])(z).shape == (2,)
    given = Corpus.of([[START, 4, 5, END], [START, 6, END]])
    packed, padded = (LatentObjective.reconstruct(Decoder(vae), x)(z) for x in (given, given.padded()))
    torch.testing.assert_close(packed, padded, rtol=0, atol=0)
    blank = LatentObjective.reconstruct(Decoder(vae), TARGETS, context="blank")
    unknown = torch.where(TARGETS > UNKNOWN, UNKNOWN, TARGETS)
    logits = vae.decode(z[:1].expand(3, -1), unknown).logits  # type: ignore[attr-defined]
    log_p = torch.log_softmax(logits, -1).gather(-1, TARGETS[:, 1:, None])[..., 0]
    wanted = -(log_p * (TARGETS[:, 1:] != PAD)).sum(1)
    torch.testing.assert_close(blank(z[:1].expand(3, -1)), wanted)


@pytest.mark.parametrize(
    ("loss", "context", "text"),
    [
        ("sse", "target", "the loss sse compares numbers, and this decoder makes sequences"),
        ("bce", "target", "the loss bce compares numbers"),
        (lambda x, y: x, "target", "the loss lambda .*compares numbers"),
        ("mse", "target", "unknown loss 'mse'"),
        ("nll", "own", "context own is for images"),
        ("nll", "targets", "unknown context 'targets'"),
    ],
)
def test_other_losses_and_contexts_are_refused_by_name(loss: Any, context: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        LatentObjective.reconstruct(Decoder(model()), TARGETS, loss, context=context)


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        (TARGETS.double(), "expected token numbers"),
        (TARGETS[:0], "expected token numbers"),
        (TARGETS[:, :1], "expected token numbers"),
        (TARGETS + 4, "expected token numbers below 7"),
        (TARGETS[:, 1:], "from 1"),
        (TARGETS[:1, :-1], "to 2"),
        (torch.tensor([[START, END, 4]]), "padding"),
        (torch.tensor([[START, PAD, 4, END]]), "padding"),
    ],
)
def test_what_is_no_sequence_of_the_model_is_refused(targets: Tensor, text: str) -> None:
    with pytest.raises((UsageError, ShapeError), match=text):
        LatentObjective.reconstruct(Decoder(model()), targets)


def test_a_dimension_that_the_decoder_ignores_has_no_effect() -> None:
    vae = model()
    with torch.no_grad():
        vae.decoder.layers[0].weight_ih_l0[:, -LATENT] = 0
        vae.decoder.starts[0].weight[:, 0] = 0
    effect = token_effect(Decoder(vae, batch_size=3), draws(8, LATENT))
    assert effect[0] == 0 and bool((effect[1:] > 1e-3).all())
    torch.testing.assert_close(effect, token_effect(Decoder(vae), draws(8, LATENT)))


# --- scores on texts ------------------------------------------------------------------------------------------------


def test_a_score_sees_each_text_once_over_all_calls() -> None:
    decoder, seen = Decoder(model()), list[str]()

    def score(texts: list[str]) -> list[float | None]:
        seen.extend(texts)
        return [None if "4" in text else float(len(text)) for text in texts]

    objective = LatentObjective(decoder, score, on="objects", maximize=True)
    z = draws(40, LATENT)
    value, texts = objective(z.reshape(4, 10, -1)), decoder(z)
    wanted = [math.nan if "4" in text else float(len(text)) for text in texts]
    torch.testing.assert_close(value.flatten(), torch.tensor(wanted, dtype=torch.float64), equal_nan=True)
    assert sorted(seen) == sorted(set(texts)) and any(map(math.isnan, wanted))
    objective.take([0])(z[:5]), objective(z)
    unique = len(set(texts))
    assert len(seen) == unique < 40
    invalid = sum("4" in text for text in set(texts))
    assert objective.counters == {"calls": 85, "unique": unique, "duplicate": 85 - unique, "invalid": invalid}
    fresh = LatentObjective(decoder, score, on="objects", remember=False)
    fresh(z)
    assert len(seen) == unique + 40 and fresh.counters == {}
    with pytest.raises(UsageError, match="adam cannot optimize objective 'score'"):
        minimize(objective, z)


def test_scores_on_other_objects_are_asked_every_time() -> None:
    calls = []

    def score(rows: list[Any]) -> list[float]:
        calls.append(len(rows))
        return [0.0] * len(rows)

    objective = LatentObjective(Decoder(lambda z: z, latent_dim=2), score, on="objects")
    objective(draws(3, 2)), objective(draws(3, 2))
    assert calls == [3, 3] and objective.counters["calls"] == 0


# --- a search, end to end -------------------------------------------------------------------------------------------


@cache
def trained() -> VAE:
    """An autoencoder of a few short sentences: an LSTM that has learned them by heart."""
    data = sentences()
    x = take_batch(data.train, slice(0, 24))
    made = build(
        architecture("lstm", 4, width=24, embedding=8, dropout=0.0), False, data.shape, vocabulary=data.vocabulary
    )
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    stream = generator(0, "trained")
    for _ in range(250):
        z = made.encode(x).mean
        loss = (
            -made.decode(z + 0.1 * torch.randn(z.shape, generator=stream), x).log_prob(x).mean()
            + 0.01 * z.square().mean()
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return made.eval()


def test_a_search_finds_codes_of_given_sentences_and_shows_them(tmp_path: Path) -> None:
    decoder = Decoder(trained())
    x = take_batch(sentences().train, slice(0, 5))
    objective = LatentObjective.reconstruct(decoder, x, prior_weight=0.01)
    z0 = make_starts(["mean", "prior", "prior"], objective.space, decoder, objective.targets, 3, generator(0, "starts"))
    result = minimize(objective, z0, max_steps=150, lr=0.1, start_names=["mean", "prior 1", "prior 2"])
    control = minimize(objective, z0, "lbfgs", max_steps=60)
    assert (result.value <= result.value0 + 1e-6).all() and (control.best_value < 1.0).all()
    summary = search_summary(result, control=control)
    assert summary.texts is not None and summary.texts.target == decoder.texts(x)
    assert summary.texts.exact.sum() >= 4 and summary.explained is not None and float(summary.explained.median()) > 0.9
    assert {check.name for check in summary.verdict.checks} >= {"model", "fit", "starts", "typicality"}
    essence = key_numbers(summary)
    assert essence["share of targets reproduced exactly"] >= 0.8 and essence["tokens to edit"] == 0
    assert summary.best.reencoding is not None and bool(summary.best.reencoding.isfinite().all())

    results = write_evaluations(tmp_path, result, names=["a", "b", "c", "d", "e"])
    texts = decoder(result.best_z)
    assert (results / "best.txt").read_text().splitlines() == texts
    assert (results / "targets.txt").read_text().splitlines() == decoder.texts(x)
    records = read_evaluations(tmp_path)
    assert [record.decoded for record in records] == decoder(result.z)
    assert "decoded" in (results / "results.csv").read_text().splitlines()[0]

    page = result.report(tmp_path, control=control).read_text()
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert f"{int(summary.texts.exact.sum())} of 5" in page and "decoded from the best code" in page
    assert numbers["fit"]["best"] == texts and numbers["fit"]["edits"] == summary.texts.edits.tolist()
    assert "share of tokens to edit" in page and "KL, nats per sequence" in numbers["dimensions"]["how"]
