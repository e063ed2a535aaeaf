"""What became of one call of a score, and the call itself: what other processes run.

A process that scores objects imports this module alone, so torch is imported where tensors come.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NAN = float("nan")
REASON = 300  # characters kept of what went wrong
SHOWN = 80  # characters shown of a wrong answer


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
        item: the datum; a tensor may come as an array, which other processes are sent.
    Returns:
        Its value, or why there is none. A score that raises, or gives what is not one number, has failed; one that
        gives None, NaN or an infinity says that the datum is invalid.
    """
    begun = time.perf_counter()
    try:
        outcome = judged(score([item]) if on == "objects" else _scored(score, item), 1)[0]
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        outcome = failed(error)
    return Outcome(outcome.word, outcome.value, outcome.reason, time.perf_counter() - begun)


def _scored(score: Callable[..., Any], item: Any) -> Any:
    import torch

    with torch.no_grad():
        return score(torch.as_tensor(item).unsqueeze(0))


def failed(error: BaseException) -> Outcome:
    """The outcome of a score that raised.

    Args:
        error: what it raised.
    Returns:
        The outcome, with the error in words.
    """
    return Outcome("failed", reason=f"{type(error).__name__}: {error}"[:REASON])


def judged(given: Any, n: int) -> list[Outcome]:
    """What a score's answer for a batch amounts to.

    Args:
        given: what it returned: n numbers in a list, an array or a tensor.
        n: data in the batch.
    Returns:
        One outcome for each datum.
    """
    listed = hasattr(given, "__len__") and not isinstance(given, str | bytes | dict)
    if not listed or getattr(given, "ndim", 1) != 1 or len(given) != n:
        what = "one number for each datum" if n == 1 else f"{n} numbers"
        return [Outcome("failed", reason=f"the score gave {_described(given)}, expected {what}")] * n
    return [_judged(value) for value in (given.tolist() if hasattr(given, "tolist") else given)]


def _judged(value: Any) -> Outcome:
    if value is None:
        return Outcome("invalid", reason="the score gave None")
    if isinstance(value, str | bytes | complex) or not hasattr(value, "__float__") or _many(value):
        return Outcome("failed", reason=f"the score gave {_described(value)}, expected a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        return Outcome("failed", reason=f"the score gave {_described(value)}: {error}")
    if not math.isfinite(number):
        return Outcome("invalid", reason=f"the score gave {number}")
    return Outcome("evaluated", number)


def _described(given: Any) -> str:
    if hasattr(given, "shape"):
        return f"{type(given).__name__} of shape {tuple(given.shape)}"
    if isinstance(given, list | tuple):
        return f"{len(given)} values" if len(given) != 1 else f"a {type(given).__name__} of one value"
    try:
        return f"{type(given).__name__} {given!r}"[:SHOWN]
    except Exception:  # of a number with too many digits, or the user's own
        return f"a {type(given).__name__}"


def _many(value: Any) -> bool:
    return bool(getattr(value, "ndim", False))
