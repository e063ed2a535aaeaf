"""Rank orders, against scipy's."""

import random

import pytest
from scipy.stats import kendalltau, spearmanr

from lso.analysis.rank_correlation import rank_order


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_scipys_with_and_without_ties(seed: int) -> None:
    draw = random.Random(seed)
    a, b = ([float(draw.randrange(6)) for _ in range(12)] for _ in range(2))
    found = rank_order(a, b)
    assert found.spearman == pytest.approx(spearmanr(a, b)[0]) and found.kendall == pytest.approx(kendalltau(a, b)[0])
    assert found.same + len(found.opposite) + found.tied == 66


def test_pairs_are_told_by_their_order() -> None:
    found = rank_order([1.0, 2.0, 3.0, 3.0], [10.0, 30.0, 20.0, 40.0])
    assert (found.same, found.opposite, found.tied) == (4, ((1, 2),), 1)
    assert rank_order([1.0, 2.0], [5.0, 9.0]).spearman == 1.0 and rank_order([1.0, 2.0], [9.0, 5.0]).kendall == -1.0


def test_a_constant_list_has_no_order() -> None:
    found = rank_order([1.0, 2.0], [3.0, 3.0])
    assert found.spearman is None and found.kendall is None and found.tied == 1
