"""Laws of every sequence model: masks, causality, soft input, one token at a time, exact refinement, metrics."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lso.vae.config.components import Refinement
from lso.vae.data.corpus import Corpus
from lso.vae.distributions.gaussian import DiagonalGaussian, prior_log_prob
from lso.vae.inference.refinement import Energy, refine
from lso.vae.metrics.evaluation import evaluate_split, validate
from lso.vae.metrics.inference_gap import gaps, mirrored, neg_elbo
from lso.vae.models.dropout import use_dropout_noise
from lso.vae.models.sequence_decoding import decode_greedily
from lso.vae.models.vae import VAE
from lso.vae.protocols import Likelihood, Posterior
from lso.vae.utils.random import generator
from lso.vae.vocabulary import END
from tests.vae.sequence_models import ALL, LATENT, LATENTS, WORDS, codes, forced, mixed, padded, same, tiny, uniforms


@pytest.mark.parametrize(("variant", "skip"), ALL)
def test_a_mixed_batch_is_as_a_loop_over_sentences(variant: str, skip: bool) -> None:
    made, sequences = tiny(variant, skip).eval(), mixed()
    z, x = codes(made, len(sequences)), padded(sequences, extra=3)
    together = made.decode(z, x).log_prob(x)
    for i, sequence in enumerate(sequences):
        alone = torch.tensor([sequence])
        same(together[i : i + 1], made.decode(z[i : i + 1], alone).log_prob(alone))
        # Token by token from probabilities, each prefix for itself.
        steps = [forced(made, z[i : i + 1], alone[:, : t + 1])[0, -1].softmax(-1) for t in range(1, len(sequence))]
        by_hand = sum(step[token].log() for step, token in zip(steps, sequence[1:], strict=True))
        same(together[i], torch.as_tensor(by_hand))


@pytest.mark.parametrize(("variant", "skip"), LATENTS)
def test_padding_does_not_move_a_posterior_nor_its_gradient(variant: str, skip: bool) -> None:
    made, sequences = tiny(variant, skip).eval(), mixed()
    whole = made.encode(padded(sequences, extra=3))
    parts = [made.encode(torch.tensor([sequence])) for sequence in sequences]
    same(whole.mean, torch.cat([q.mean for q in parts]))
    same(whole.log_var, torch.cat([q.log_var for q in parts]))
    weights = list(made.encoder.parameters())
    means = (whole.mean, torch.cat([q.mean for q in parts]))
    one, other = (torch.autograd.grad(mean.square().sum(), weights) for mean in means)
    for a, b in zip(one, other, strict=True):
        same(a, b)


@pytest.mark.parametrize(("variant", "skip"), LATENTS)
def test_one_hot_rows_are_read_as_tokens(variant: str, skip: bool) -> None:
    made, x = tiny(variant, skip), padded(mixed(), extra=2)
    soft = one_hot(x, WORDS).double() * (x != 0).unsqueeze(-1)
    q, again = made.encode(x), made.encode(soft)
    same(q.mean, again.mean)
    same(q.log_var, again.log_var)


@pytest.mark.parametrize(("variant", "skip"), ALL)
def test_one_token_at_a_time_makes_the_logits_of_teacher_forcing(variant: str, skip: bool) -> None:
    made, x = tiny(variant, skip).eval(), padded(mixed())
    z = codes(made, len(x))
    wanted, state = forced(made, z, x), made.stepwise.begin(z)
    for t in range(x.shape[1] - 1):
        logits, state = made.stepwise.advance(state, x[:, t], z)
        assert all(len(part) == len(x) for part in state)
        same(logits, wanted[:, t])


@pytest.mark.parametrize(("variant", "skip"), ALL)
def test_a_token_sees_those_before_it_alone_and_the_code(variant: str, skip: bool) -> None:
    made, x = tiny(variant, skip).eval(), padded([[1, 4, 5, 6, 4, 2]])
    embedded: list[Tensor] = []
    embedding = made.decoder.get_submodule("embedding")
    embedding.register_forward_hook(lambda module, given, out: embedded.append(out))
    z = codes(made, 1).requires_grad_()
    logits = forced(made, z, x)
    for t in range(x.shape[1] - 1):
        at_z, at_tokens = torch.autograd.grad(
            logits[0, t].square().sum(), (z, embedded[0]), retain_graph=True, materialize_grads=True
        )
        reached = at_tokens[0].abs().sum(-1) > 1e-12
        assert reached.tolist() == [s <= t for s in range(x.shape[1] - 1)]
        assert made.latent_dim == 0 or bool((at_z.abs() > 1e-9).all())


def outer(made: VAE, x: Tensor, q: DiagonalGaussian, w: Tensor) -> list[Tensor]:
    """Gradients of a training loss on the refined posterior, in every weight."""
    z = q.sample(torch.randn(len(x), LATENT, generator=generator(1, "z"), dtype=torch.float64))
    loss = (w * q.kl().sum(-1) - made.decode(z, x).log_prob(x)).mean()
    return list(torch.autograd.grad(loss, list(made.parameters()), materialize_grads=True))


def unrolled(spec: Refinement, made: VAE, x: Tensor, q: Posterior, noise: Tensor, w: Tensor) -> DiagonalGaussian:
    """The descent in a loop that autograd sees, without a clip."""
    point = torch.stack([q.mean, q.log_var])
    velocity = torch.zeros_like(point)
    for eps in noise:
        now = DiagonalGaussian(point[0], point[1])
        energy = (w * now.kl().sum(-1) - made.decode(now.sample(eps), x).log_prob(x)).sum()
        gradient = torch.autograd.grad(energy, point, create_graph=True)[0] / spec.batch
        velocity = spec.momentum * velocity - gradient
        point = point + spec.step_size * velocity
    return DiagonalGaussian(point[0], point[1])


@pytest.mark.parametrize(("exact", "rtol"), [(True, 1e-6), (False, 0.005)])  # one-sided differences go with the length
@pytest.mark.parametrize(("variant", "skip"), [("lstm", False), ("lstm of 2 layers", True), ("transformer", True)])
def test_refinement_is_differentiated_as_if_unrolled_dropout_included(
    variant: str, skip: bool, exact: bool, rtol: float
) -> None:
    made, x, w = tiny(variant, skip), padded(mixed()), torch.tensor(0.7, dtype=torch.float64)
    noise = torch.randn(3, len(x), LATENT, generator=generator(0, "noise"), dtype=torch.float64)
    spec = Refinement(steps=3, step_size=0.8, momentum=0.5, clip=0.0, batch=len(x))
    with use_dropout_noise(made, uniforms(made, x)):
        q = refine(spec, Energy(made, x, w), made.encode(x), noise, exact)
        twin = unrolled(spec, made, x, made.encode(x), noise, w)
        same(q.mean, twin.mean)
        found, wanted = (torch.cat([g.flatten() for g in outer(made, x, p, w)]) for p in (q, twin))
        cut = DiagonalGaussian(q.mean.detach(), q.log_var.detach())
        plain = torch.cat([g.flatten() for g in outer(made, x, cut, w)])
    assert (found - wanted).norm() <= rtol * wanted.norm()
    assert (plain - wanted).norm() > 0.01 * wanted.norm()  # the way through the refinement is a part that shows


def numbers(made: VAE, corpus: Corpus, **options: Any) -> dict[str, Tensor]:
    """All metrics but the clock."""
    found = dataclasses.asdict(evaluate_split(made, corpus, iw_samples=options.pop("iw_samples", 6), **options))
    kept = {key: value for key, value in found.items() if isinstance(value, int | float | tuple) and key != "seconds"}
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in kept.items()}


@pytest.mark.parametrize(("variant", "skip"), [("lstm", False), ("lstm without latents", False), ("transformer", True)])
def test_no_metric_knows_of_batches_padding_or_other_sequences_of_the_file(variant: str, skip: bool) -> None:
    made, sequences = tiny(variant, skip), mixed(24)
    corpus = Corpus.of(sequences)
    wanted = numbers(made, corpus, batch_size=1)  # nothing is padded
    view = Corpus.of([[1, 5, 2], *sequences, [1, *[4] * 30, 2]])[1:-1]
    for found in (numbers(made, corpus), numbers(made, corpus, batch_size=7), numbers(made, view)):
        assert found.keys() == wanted.keys() >= {"neg_elbo", "iw_nll", "perplexity", "mi", "decoder_use"}
        for key, value in wanted.items():
            same(found[key], value, key)
    assert wanted["tokens"] == sum(len(s) - 1 for s in sequences) / len(sequences)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["lstm", "transformer"])
def test_metrics_are_those_of_a_loop_over_sentences_in_their_order(variant: str) -> None:
    made, sequences, k = tiny(variant), mixed(24), 5
    corpus, tokens = Corpus.of(sequences), sum(len(s) - 1 for s in sequences)
    row, q = validate(made, corpus, 3)
    found = evaluate_split(made, corpus, iw_samples=k, seed=3)
    made.eval()
    z = torch.randn(24, LATENT, generator=generator(3, "metrics/posterior")).double()
    # One block, in the order of lengths; noise sample by sample.
    stream, by_length = generator(3, "metrics/importance"), sorted(range(24), key=lambda i: len(sequences[i]))
    noise = torch.stack([torch.randn(24, LATENT, generator=stream) for _ in range(k)]).double()
    elbo, nll = 0.0, 0.0
    for i, sequence in enumerate(sequences):
        x = torch.tensor([sequence])
        own = made.encode(x)
        same(q.mean[i : i + 1], own.mean)
        same(q.log_var[i : i + 1], own.log_var)
        elbo += float(made.decode(own.sample(z[i : i + 1]), x).log_prob(x) - own.kl(made.prior, z[i : i + 1]).sum())
        code = own.sample(noise[:, by_length.index(i)])  # (k, latent)
        log_p = made.decode(code, x.expand(k, -1)).log_prob(x.expand(k, -1))
        nll -= float((log_p + prior_log_prob(code) - own.log_prob(code)).logsumexp(0)) - math.log(k)
    for numbers in (row, dataclasses.asdict(found)):
        assert numbers["neg_elbo"] == pytest.approx(-elbo / 24, rel=1e-10)
    assert row["perplexity"] == pytest.approx(math.exp(-elbo / tokens), rel=1e-10)
    assert found.iw_nll == pytest.approx(nll / 24, rel=1e-10)
    assert found.perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-10) != row["perplexity"]


def test_an_exact_match_is_of_a_sentence_with_the_decode_of_its_own_mean_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tiny(longest=12).eval()
    z = 2 * codes(made, 60)
    said = [tuple(token for token in row if token) for row in decode_greedily(made.stepwise, z, 40).tolist()]
    # What each code says, and what it says cut short, which it must not be given for.
    means = dict(zip(said, z, strict=True))
    cut = {(*x[: 2 + i % 9], END): mean for i, (x, mean) in enumerate(means.items()) if len(x) > 3 + i % 9}
    means = {x: mean for x, mean in ({**cut, **means}).items() if len(x) < 40}
    wanted = sum(x in said for x in means) / len(means)
    assert 0.1 < wanted < 0.9 and len({len(x) for x in means}) > 3

    def encode(x: Tensor) -> DiagonalGaussian:
        rows = [z[0] if x.is_floating_point() else means[tuple(token for token in row if token)] for row in x.tolist()]
        return DiagonalGaussian(torch.stack(rows), torch.zeros(len(x), LATENT, dtype=torch.float64))

    monkeypatch.setattr(made, "encode", encode)
    for order in (list(means), list(means)[::-1]):
        assert evaluate_split(made, Corpus.of(order), iw_samples=0, batch_size=7).exact_match == wanted


def test_the_order_of_sentences_changes_no_number_that_takes_no_draw() -> None:
    made, corpus = tiny("transformer"), Corpus.of(mixed(60))
    order = torch.randperm(60, generator=generator(0, "order"))
    one, other = numbers(made, corpus, iw_samples=0), numbers(made, corpus[order], iw_samples=0)
    for key in ("kl", "kl_per_dimension", "activity", "active_units", "reencoding_error_mean", "tokens", "exact_match"):
        same(one[key], other[key])
    model = tiny("lstm without latents")
    one, other = numbers(model, corpus), numbers(model, corpus[order])
    for key in ("neg_elbo", "iw_nll", "perplexity", "tokens"):
        same(one[key], other[key])
    same(one["perplexity"], (one["neg_elbo"] / one["tokens"]).exp())


def test_a_model_without_latents_is_measured_by_one_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    made, corpus, calls = tiny("lstm without latents"), Corpus.of(mixed(24)), list[int]()
    real = made.decode

    def spy(z: Tensor, x: Tensor) -> Likelihood:
        calls.append(len(x))
        return real(z, x)

    monkeypatch.setattr(made, "decode", spy)
    row, _ = validate(made, corpus, 0, batch_size=10)
    assert calls == [10, 10, 4] and row["reencoding_error"] == row["reencoding_error_mean"] == 0


def test_gaps_of_a_mixed_batch_are_those_of_its_sentences() -> None:
    made, sequences = tiny().eval(), mixed(8)
    x = padded(sequences, extra=2)
    q, noise = made.encode(x), mirrored(4, torch.zeros(8, LATENT, dtype=torch.float64), generator(0, "gaps"))
    together = neg_elbo(made, x, q, noise)
    for i, sequence in enumerate(sequences):
        alone = torch.tensor([sequence])
        same(together[i : i + 1], neg_elbo(made, alone, made.encode(alone), noise[:, i : i + 1]))
    one, other = (gaps(made, data, steps=5, samples=2, iw_samples=4) for data in (x, padded(sequences)))
    assert (one.nll, one.amortization, one.moved) == pytest.approx((other.nll, other.amortization, other.moved))
    assert one.own.neg_elbo > one.refined.neg_elbo
