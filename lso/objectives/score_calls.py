"""What became of a call of a score, and the call itself: what other processes run.

A process that scores objects imports this module alone, so torch is imported where tensors come.
"""

import copy
import math
import os
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lso.objectives.failures import ScoreError
from lso.objectives.function_names import source_location
from lso.vae.utils.validation import pluralize

NAN = float("nan")
MAX_REASON_CHARS = 300  # characters kept of what went wrong
MAX_ANSWER_CHARS = 80  # characters shown of a wrong answer
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class ScoreOutcome:
    """What became of the call for one datum.

    Args:
        word: one of `lso.black_box.ask_tell.OUTCOMES`.
        value: what the score gave, the user's own; NaN unless evaluated.
        reason: why there is none.
        seconds: that the score took; for several data at once their share.
        fault: what tells one failure from another: the type of the error and the line that raised it, or the form of a
            wrong answer.
    """

    status: str
    value: float = NAN
    reason: str = ""
    seconds: float = 0.0
    fault: str = ""


class Chunk:
    """Data that the score is given together. Called without arguments, as an executor does, it scores them.

    Args:
        score: the user's.
        on: ``"objects"``: it is given a list; ``"tensors"``: a batch.
        items: the data; a tensor may come as an array, which other processes are sent.
    """

    def __init__(self, score: Callable[..., Any], on: str, items: Sequence[Any]) -> None:
        self.score, self.on, self.items = score, on, items

    def __len__(self) -> int:
        return len(self.items)

    def __call__(self) -> list[ScoreOutcome]:
        """Score them, whatever the score does.

        Returns:
            An outcome for each, or none at all where the score raised on several: then each is to be tried alone. A
            score that raises on one datum, or gives what is not one number for each, has failed; one that gives None,
            NaN or an infinity says that the datum is invalid.
        Raises:
            ScoreError: if it gives another number of values than it was given data.
        """
        begun = time.perf_counter()
        try:
            given = self._call()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            outcomes = [failed_outcome(error, _error_location(error))] if len(self) == 1 else []
        else:
            outcomes = parse_answer(given, len(self))
        each = (time.perf_counter() - begun) / len(self)
        return [replace(outcome, seconds=each) for outcome in outcomes]

    def _call(self) -> Any:
        if self.on == "objects":
            return call_score(self.score, list(self.items))
        import torch

        with torch.no_grad():
            return call_score(self.score, torch.stack([torch.as_tensor(item) for item in self.items]))


def call_score(score: Callable[..., Any], *data: Any) -> Any:
    """What a score gives. Should it fork a process that comes out of it as well, that one ends."""
    with _ending_forked_processes():
        return score(*data)


@contextmanager
def _ending_forked_processes() -> Iterator[None]:
    """A process that the score forked ends where it leaves the score: it must not go on with the search."""
    process, code = os.getpid(), 1
    try:
        yield
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise
    except BaseException:
        if os.getpid() != process:
            traceback.print_exc()
        raise
    finally:
        if os.getpid() != process:
            os._exit(code)  # at once: what is buffered, locked and registered is its parent's


def copy_datum(item: Any) -> Any:
    """A copy for a score to do with as it likes: the datum may be part of what the decoder or the search keeps.

    Args:
        item: a tensor, an array, or any object.
    Returns:
        The copy; the object itself where it cannot be copied.
    """
    if hasattr(item, "detach"):
        return item.detach().clone()
    try:
        return copy.deepcopy(item)  # of a text, itself
    except Exception:  # the user's own object
        return item


def failed_outcome(error: BaseException, where: str = "") -> ScoreOutcome:
    """The outcome of a call that raised.

    Args:
        error: what was raised.
        where: the score raised it; empty where something else did.
    Returns:
        The outcome, with the error and its place in words.
    """
    kind = type(error).__name__
    reason = f"{kind}: {error}"[:MAX_REASON_CHARS]
    if not where:
        return ScoreOutcome("failed", reason=reason)
    return ScoreOutcome("failed", reason=f"{reason} ({where})", fault=f"{kind}, {where}")


def _error_location(error: BaseException) -> str:
    """Where the user's code raised: the innermost line that is not a library's."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    frames = [(code, line) for code, line in frames if code.co_filename != __file__]
    own = [(code, line) for code, line in frames if not code.co_filename.startswith((*LIBRARIES, "<frozen"))]
    if not frames:
        return ""
    code, line = (own or frames)[-1]
    return f"{source_location(code.co_filename, line)}, in {code.co_name}"


def parse_answer(given: Any, n: int) -> list[ScoreOutcome]:
    """What a score's answer for a batch amounts to.

    Args:
        given: what it returned: n numbers in a list, an array or a tensor.
        n: data in the batch.
    Returns:
        One outcome for each datum.
    Raises:
        ScoreError: if it is a list of another length, for more than one datum.
    """
    listed = hasattr(given, "__len__") and not isinstance(given, str | bytes | dict)
    flat = listed and getattr(given, "ndim", 1) == 1
    if flat and len(given) != n > 1:
        raise ScoreError(
            f"the score gave {pluralize(len(given), 'value')} for {n} data, expected {n}",
            "It is given several at once, and gives one float (or None) for each, in their order.",
        )
    if not flat or len(given) != n:
        what = "one number for each datum" if n == 1 else f"{n} numbers"
        wrong = ScoreOutcome(
            "failed", reason=f"the score gave {_describe_answer(given)}, expected {what}", fault=_answer_form(given)
        )
        return [wrong] * n
    return [_parse_value(value) for value in (given.tolist() if hasattr(given, "tolist") else given)]


def _parse_value(value: Any) -> ScoreOutcome:
    if value is None:
        return ScoreOutcome("invalid", reason="the score gave None")
    if isinstance(value, str | bytes | complex) or not hasattr(value, "__float__") or _has_axes(value):
        return ScoreOutcome(
            "failed", reason=f"the score gave {_describe_answer(value)}, expected a number", fault=_answer_form(value)
        )
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        return ScoreOutcome(
            "failed", reason=f"the score gave {_describe_answer(value)}: {error}", fault=_answer_form(value)
        )
    if not math.isfinite(number):
        return ScoreOutcome("invalid", reason=f"the score gave {number}")
    return ScoreOutcome("evaluated", number)


def _answer_form(given: Any) -> str:
    """The form of a wrong answer, without the values and the size of the batch in it."""
    axes = f" of {given.ndim} axes" if hasattr(given, "ndim") else ""
    return f"answer: {type(given).__name__}{axes}"


def _describe_answer(given: Any) -> str:
    if hasattr(given, "shape"):
        return f"{type(given).__name__} of shape {tuple(given.shape)}"
    if isinstance(given, list | tuple):
        return f"{len(given)} values" if len(given) != 1 else f"a {type(given).__name__} of one value"
    try:
        return f"{type(given).__name__} {given!r}"[:MAX_ANSWER_CHARS]
    except Exception:  # of a number with too many digits, or the user's own
        return f"a {type(given).__name__}"


def _has_axes(value: Any) -> bool:
    return bool(getattr(value, "ndim", False))
