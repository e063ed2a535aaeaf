"""Rank correlation of two short lists, and which pairs stand in the opposite order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOrder:
    """Comparison of two orders of the same items.

    Args:
        spearman: rank correlation, ties given their mean rank; None where one list is constant.
        kendall: tau-b; None where one list is constant.
        same: number of pairs in the same order.
        opposite: pairs of indices in the opposite order.
        tied: number of pairs that are equal in either list.
    """

    spearman: float | None
    kendall: float | None
    same: int
    opposite: tuple[tuple[int, int], ...]
    tied: int


def rank_order(a: Sequence[float], b: Sequence[float]) -> RankOrder:
    """Compare the orders of two lists that hold one number for each item."""
    from scipy.stats import kendalltau  # imported late: it takes a second

    signs = [(i, j, _sign(a[i] - a[j]) * _sign(b[i] - b[j])) for i, j in combinations(range(len(a)), 2)]
    same = sum(sign > 0 for _, _, sign in signs)
    opposite = tuple((i, j) for i, j, sign in signs if sign < 0)
    varied = _varied(a) and _varied(b)
    return RankOrder(
        spearman=spearman(a, b) if varied else None,
        kendall=float(kendalltau(a, b).statistic) if varied else None,
        same=same,
        opposite=opposite,
        tied=len(signs) - same - len(opposite),
    )


def spearman(a: Sequence[float] | Tensor, b: Sequence[float] | Tensor) -> float:
    """Spearman's rank correlation, ties given their mean rank; NaN where one list is constant."""
    from scipy.stats import pearsonr, rankdata

    # Not `spearmanr`: its test of significance, which is not needed here, warns of lists with two items.
    return float(pearsonr(rankdata(a), rankdata(b)).statistic) if _varied(a) and _varied(b) else math.nan


def _varied(values: Sequence[float] | Tensor) -> bool:
    return any(value != values[0] for value in values)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
