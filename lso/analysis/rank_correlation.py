"""Whether two lists of numbers put the same things in the same order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOrder:
    """Two orders of the same things, compared.

    Args:
        spearman: correlation of the ranks, ties given their mean rank; None where one list is constant.
        kendall: tau-b; None where one list is constant.
        same: pairs in the same order.
        opposite: pairs in the opposite order, as indices.
        tied: pairs equal in either list.
    """

    spearman: float | None
    kendall: float | None
    same: int
    opposite: tuple[tuple[int, int], ...]
    tied: int


def rank_order(a: Sequence[float], b: Sequence[float]) -> RankOrder:
    """Compare the orders of two lists, as long as each other."""
    from scipy.stats import kendalltau  # late: scipy.stats takes a second to import

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
    """Correlation of the ranks, ties given their mean rank; NaN where one list is constant."""
    from scipy.stats import pearsonr, rankdata

    # Not `spearmanr`, whose test of significance, not asked for here, warns where there are two things alone.
    return float(pearsonr(rankdata(a), rankdata(b)).statistic) if _varied(a) and _varied(b) else math.nan


def _varied(values: Sequence[float] | Tensor) -> bool:
    return any(value != values[0] for value in values)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
