"""Whether two lists of numbers put the same things in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations


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
    """Compare the orders of two lists.

        tau_b = (C - D) / sqrt((P - T_a)(P - T_b)),  P = n (n - 1) / 2 pairs, C in the same order, D in the opposite
        one, T tied in a list.

    Args:
        a: one number for each thing.
        b: likewise, as many.
    Returns:
        The comparison.
    Source: Kendall (1945), Biometrika 33. Deviations: none.
    """
    pairs = list(combinations(range(len(a)), 2))
    signs = [(i, j, _sign(a[i] - a[j]), _sign(b[i] - b[j])) for i, j in pairs]
    same = sum(s * t > 0 for _, _, s, t in signs)
    opposite = tuple((i, j) for i, j, s, t in signs if s * t < 0)
    free = [sum(entry[side] != 0 for entry in signs) for side in (2, 3)]  # pairs not tied
    kendall = (same - len(opposite)) / (free[0] * free[1]) ** 0.5 if all(free) else None
    tied = len(pairs) - same - len(opposite)
    return RankOrder(
        spearman=_correlation(ranks(a), ranks(b)), kendall=kendall, same=same, opposite=opposite, tied=tied
    )


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 on, ties given their mean rank."""
    return [1 + sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    centre = (len(a) + 1) / 2  # mean of ranks
    products = [
        sum((x - centre) * (y - centre) for x, y in zip(one, two, strict=True)) for one, two in ((a, b), (a, a), (b, b))
    ]
    return products[0] / (products[1] * products[2]) ** 0.5 if products[1] and products[2] else None


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
