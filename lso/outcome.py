"""What became of one call of a score, and the call itself: what other processes run."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

NAN = float("nan")
REASON = 300  # characters kept of what went wrong


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Args:
        word: one of `lso.asktell.OUTCOMES`.
        value: what the score gave, the user's own; NaN unless evaluated.
        reason: why there is none.
        seconds: that the score took.
    """

    word: str
    value: float = NAN
    reason: str = ""
    seconds: float = 0.0


def called(score: Callable[..., Any], on: str, item: Any) -> Outcome:
    """Score one datum, whatever the score does.

    Args:
        score: the user's.
        on: ``"objects"``: it is given a list of one; ``"tensors"``: a batch of one.
        item: the datum.
    Returns:
        Its value, or why there is none. A score that raises, or gives what is not one number, has failed; one that
        gives None, NaN or an infinity says that the datum is invalid.
    """
    begun = time.perf_counter()
    try:
        given = score([item]) if on == "objects" else score(item.unsqueeze(0))
        outcome = judged(given)
    except Exception as error:  # the user's code may raise anything
        outcome = failed(error)
    return Outcome(outcome.word, outcome.value, outcome.reason, time.perf_counter() - begun)


def failed(error: BaseException) -> Outcome:
    """The outcome of a score that raised.

    Args:
        error: what it raised.
    Returns:
        The outcome, with the error in words.
    """
    return Outcome("failed", reason=f"{type(error).__name__}: {error}"[:REASON])


def judged(given: Any) -> Outcome:
    """What a score's answer for a batch of one amounts to.

    Args:
        given: what it returned: one number in a list, an array or a tensor.
    Returns:
        The outcome.
    """
    if isinstance(given, str) or getattr(given, "ndim", 1) != 1 or not hasattr(given, "__len__") or len(given) != 1:
        return Outcome("failed", reason=f"the score gave {_described(given)}, expected one number for each datum")
    value = given[0]
    if value is None:
        return Outcome("invalid", reason="the score gave None")
    if not hasattr(value, "__float__"):
        return Outcome("failed", reason=f"the score gave {value!r}"[:REASON] + ", expected a number")
    number = float(value)
    return (
        Outcome("evaluated", number) if math.isfinite(number) else Outcome("invalid", reason=f"the score gave {number}")
    )


def _described(given: Any) -> str:
    if isinstance(given, Tensor) or hasattr(given, "shape"):
        return f"shape {tuple(given.shape)}"
    if isinstance(given, str) or not hasattr(given, "__len__"):
        return f"{type(given).__name__} {given!r}"[:REASON]
    return f"{len(given)} values"
