"""Laws of every sequence model: masks, causality, soft input, one token at a time, exact refinement, metrics."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lso.vae.axes import Refinement
from lso.vae.corpus import Corpus
from lso.vae.dropout import handed
from lso.vae.gaussian import DiagonalGaussian
from lso.vae.metrics import evaluate, validate
from lso.vae.model import VAE
from lso.vae.refinement import Energy, refine
from lso.vae.seeds import generator
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


def unrolled(spec: Refinement, made: VAE, x: Tensor, q: DiagonalGaussian, noise: Tensor, w: Tensor) -> DiagonalGaussian:
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


@pytest.mark.parametrize(("exact", "rtol"), [(True, 1e-6), (False, 1e-3)])
@pytest.mark.parametrize(("variant", "skip"), [("lstm", False), ("lstm of 2 layers", True), ("transformer", True)])
def test_refinement_is_differentiated_as_if_unrolled_dropout_included(
    variant: str, skip: bool, exact: bool, rtol: float
) -> None:
    made, x, w = tiny(variant, skip), padded(mixed()), torch.tensor(0.7, dtype=torch.float64)
    noise = torch.randn(3, len(x), LATENT, generator=generator(0, "noise"), dtype=torch.float64)
    spec = Refinement(steps=3, step_size=0.8, momentum=0.5, clip=0.0, batch=len(x))
    with handed(made, uniforms(made, x)):
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
    found = dataclasses.asdict(evaluate(made, corpus, iw_samples=options.pop("iw_samples", 6), **options))
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
    monkeypatch.setattr(made, "decode", lambda z, x: calls.append(len(x)) or real(z, x))
    row, _ = validate(made, corpus, 0, batch_size=10)
    assert calls == [10, 10, 4] and row["reencoding_error"] == row["reencoding_error_mean"] == 0
