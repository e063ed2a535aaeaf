"""The likelihood of tokens, and draws by the inverse distribution function."""

import torch
from torch import Tensor

from lso.vae.distributions.categorical import Categorical, count_tokens, draw_tokens
from lso.vae.utils.random import generator
from lso.vae.vocabulary import PAD, START
from tests.vae.sequence_models import WORDS, mixed, padded

X = padded(mixed(), extra=2)


def likelihood(scale: float = 1.0) -> Categorical:
    shape = (len(X), X.shape[1] - 1, WORDS)
    return Categorical(scale * torch.randn(shape, generator=generator(0, "logits"), dtype=torch.float64), X)


def test_log_prob_is_the_sum_over_all_tokens_after_the_first() -> None:
    p = likelihood()
    table = p.logits.softmax(-1).log()
    for found, at, sequence in zip(p.log_prob(X), table, X.tolist(), strict=True):
        wanted = sum(at[t, token] for t, token in enumerate(sequence[1:]) if token != PAD)
        torch.testing.assert_close(found, torch.as_tensor(wanted), rtol=1e-12, atol=1e-12)
    assert bool(Categorical(p.logits * 1e4, X).log_prob(X).isfinite().all())


def test_tokens_count_the_end_and_not_the_start() -> None:
    assert count_tokens(X).tolist() == [len(sequence) - 1 for sequence in mixed()]
    assert count_tokens(torch.tensor([[1, 2, 0]])).tolist() == [1]


def test_the_mean_is_a_soft_sequence_of_the_same_length() -> None:
    mean, inside = likelihood().mean, X != PAD
    torch.testing.assert_close(mean.sum(-1), inside.double())
    assert mean.shape == (*X.shape, WORDS) and bool((mean[:, 0, START] == 1).all())
    torch.testing.assert_close(mean[0, 1], likelihood().logits[0, 0].softmax(-1))


def test_mode_and_sample_keep_the_lengths() -> None:
    p, noise = likelihood(50.0), torch.rand(X.shape, generator=generator(0, "noise"), dtype=torch.float64)
    for tokens in (p.mode, p.sample(noise)):
        assert torch.equal(tokens == PAD, X == PAD) or bool((p.logits.argmax(-1) == PAD).any())
        assert bool((tokens[:, 0] == START).all()) and not bool(tokens[X == PAD].any())
    assert torch.equal(p.mode[:, 1:], torch.where(X[:, 1:] != PAD, p.logits.argmax(-1), PAD))


def test_draws_are_as_frequent_as_probable() -> None:
    n, p = 40_000, torch.tensor([0.0, 0.1, 0.0, 0.6, 0.3, 0.0])
    u = torch.rand(n, generator=generator(0, "u"))
    share = draw_tokens((7 * p).expand(n, -1), u).bincount(minlength=6) / n  # not normalized
    assert bool(((share - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all())


def test_the_ends_of_the_interval_draw_nothing_impossible() -> None:
    p: Tensor = torch.tensor([0.0, 0.1, 0.0, 0.6, 0.3, 0.0])
    almost = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    assert draw_tokens(p.expand(2, -1), torch.stack([torch.tensor(0.0), almost])).tolist() == [1, 4]
    assert draw_tokens(p, torch.tensor(1.0)).item() == 4  # a uniform in double that was rounded
    many = torch.rand(200, 1000, generator=generator(0, "p")) ** 3
    many[:, 990:] = 0.0
    assert int(draw_tokens(many, almost.expand(200)).max()) == 989
