"""Weights of retraining against their closed forms."""

import math

import pytest
import torch

from lso.tasks.retraining.weighting import draw_rows, effective_size, rank_data, rank_weights
from lso.vae.errors import UsageError

VALUES = torch.tensor([3.0, 1.0, 2.0, 1.0, float("nan")], dtype=torch.float64)


def test_a_rank_counts_the_better_ones_and_the_invalid_come_last() -> None:
    assert rank_data(VALUES).tolist() == [3, 0, 2, 0, 4]
    assert rank_data(VALUES, maximize=True).tolist() == [0, 2, 1, 2, 4]


def test_weights_are_the_published_formula() -> None:
    raw = torch.tensor([1 / (0.1 * 5 + rank) for rank in (3, 0, 2, 0, 4)], dtype=torch.float64)
    torch.testing.assert_close(rank_weights(VALUES, k=0.1), raw / raw.sum(), rtol=1e-12, atol=0)


def test_the_best_of_many_weigh_as_tripp_et_al_have_it() -> None:
    """N = 5000, k = 1e-3: the best is drawn (1/5) / (H(5004) - H(4)) of the time, H the harmonic numbers."""
    found = rank_weights(torch.arange(5000.0), k=1e-3)
    share = 0.2 / sum(1 / i for i in range(5, 5005))
    assert float(found[0]) == pytest.approx(share, rel=1e-12) and float(found.sum()) == pytest.approx(1)


def test_an_infinite_k_weighs_all_alike_and_a_large_one_nearly() -> None:
    assert torch.equal(rank_weights(VALUES, k=math.inf), torch.full((5,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(rank_weights(VALUES, k=1e9), rank_weights(VALUES, k=math.inf), rtol=1e-8, atol=0)


def test_effective_size_of_equal_and_of_single_weights() -> None:
    assert effective_size(rank_weights(VALUES, k=math.inf)) == pytest.approx(5)
    assert effective_size(rank_weights(torch.arange(100.0), k=1e-9)) == pytest.approx(1, rel=1e-5)


def test_draws_come_as_often_as_their_weights_say() -> None:
    weight, count = rank_weights(torch.arange(20.0), k=0.05), 20_000
    share = torch.bincount(draw_rows(weight, count, 0), minlength=20) / count
    error = (weight * (1 - weight) / count).sqrt()
    assert bool(((share - weight).abs() < 4 * error).all())
    assert torch.equal(draw_rows(weight, 50, 0, 1), draw_rows(weight, 50, 0, 1))
    assert not torch.equal(draw_rows(weight, 50, 0, 1), draw_rows(weight, 50, 0, 2))


def test_k_must_be_positive() -> None:
    with pytest.raises(UsageError, match="k > 0"):
        rank_weights(VALUES, k=0.0)
