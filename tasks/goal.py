"""The noun: what is to be optimized over what a decoder makes. Torch-free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A score on decoded data, its sense, and what is known of it beforehand.

    Args:
        name: for reports.
        score: picklable, so that other processes can run it. ``on="objects"``: a list of strings or arrays to a list of
            floats, None for an invalid one; ``on="tensors"``: a batch ``(n, *event)`` to values ``(n,)``.
        maximize: sense of the score.
        on: what the score takes.
        best: the best value that can be attained; None where nobody knows.
        known: ``(count, seed)`` to data and their values that the search may start from without paying for them: a list
            of strings or a tensor ``(n, *event)`` as the model's encoder takes it, and n floats; None where there are
            none.
        decimals: of decoded values that tell one datum from another, see `lso.objective.LatentObjective`.
        summary: one line for reports.
    """

    name: str
    score: Callable[..., Any]
    maximize: bool
    on: str = "objects"
    best: float | None = None
    known: Callable[[int, int], tuple[Any, Sequence[float]]] | None = None
    decimals: int = 4
    summary: str = ""
