"""Calling the user's score, in this process or in a worker, and the outcome of a call.

A worker process imports this module alone, so torch is imported only where the data are tensors.
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
MAX_REASON_CHARS = 300  # characters kept of an error message
MAX_ANSWER_CHARS = 80  # characters shown of a wrong answer
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class ScoreOutcome:
    """The outcome of a score's call for one datum."""

    status: str  # one of `lso.black_box.ask_tell.OUTCOMES`
    value: float = NAN  # in the user's sense; NaN unless evaluated
    reason: str = ""  # why there is no value
    seconds: float = 0.0  # the score's running time, divided by the number of data scored together
    # Tells one kind of failure from another: type and line of the error, or the form of a wrong answer.
    fault: str = ""


class Chunk:
    """Data that the score is given together; calling the chunk without arguments, as executors do, scores them.

    With ``on="objects"`` the score is given a list, with ``on="tensors"`` a batch. Tensors may come as arrays, the form
    in which they are sent to other processes.
    """

    def __init__(self, score: Callable[..., Any], on: str, items: Sequence[Any]) -> None:
        self.score, self.on, self.items = score, on, items

    def __len__(self) -> int:
        return len(self.items)

    def __call__(self) -> list[ScoreOutcome]:
        """Score the data: one outcome each, or an empty list where the score raised on several data at once.

        The caller then scores each datum alone. A score that raises on one datum, or returns anything but one number,
        has failed; None, NaN and infinities mean that the datum is invalid. A list of the wrong length is a ScoreError.
        """
        begun = time.perf_counter()
        try:
            answer = self._call()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            outcomes = [failed_outcome(error, _error_location(error))] if len(self) == 1 else []
        else:
            outcomes = parse_answer(answer, len(self))
        each = (time.perf_counter() - begun) / len(self)
        return [replace(outcome, seconds=each) for outcome in outcomes]

    def _call(self) -> Any:
        if self.on == "objects":
            return call_score(self.score, list(self.items))
        import torch

        with torch.no_grad():
            return call_score(self.score, torch.stack([torch.as_tensor(item) for item in self.items]))


def call_score(score: Callable[..., Any], *data: Any) -> Any:
    """Call a score. A process that the score forked ends as soon as it returns from the score."""
    with _ending_forked_processes():
        return score(*data)


@contextmanager
def _ending_forked_processes() -> Iterator[None]:
    """End a process that the score forked where it leaves the score, so that it does not continue the search."""
    process, code = os.getpid(), 1
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException:
        if os.getpid() != process:
            traceback.print_exc()
        raise
    finally:
        if os.getpid() != process:
            os._exit(code)  # without cleanup: buffers, locks and exit handlers belong to the parent process


def copy_datum(item: Any) -> Any:
    """A copy of a datum that the score may change; the datum itself where it cannot be copied.

    The datum may share memory with what the decoder or the search keeps.
    """
    if hasattr(item, "detach"):
        return item.detach().clone()
    try:
        return copy.deepcopy(item)
    except Exception:  # the user's own objects may not support copying
        return item


def failed_outcome(error: BaseException, where: str = "") -> ScoreOutcome:
    """The outcome of a call that raised; ``where`` is the line of the score that did, empty if not the score raised."""
    kind = type(error).__name__
    reason = f"{kind}: {error}"[:MAX_REASON_CHARS]
    if not where:
        return ScoreOutcome("failed", reason=reason)
    return ScoreOutcome("failed", reason=f"{reason} ({where})", fault=f"{kind}, {where}")


def _error_location(error: BaseException) -> str:
    """The line at which the user's code raised: the innermost one outside installed libraries."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    frames = [(code, line) for code, line in frames if code.co_filename != __file__]
    user_frames = [(code, line) for code, line in frames if not code.co_filename.startswith((*LIBRARIES, "<frozen"))]
    if not frames:
        return ""
    code, line = (user_frames or frames)[-1]
    return f"{source_location(code.co_filename, line)}, in {code.co_name}"


def parse_answer(answer: Any, n: int) -> list[ScoreOutcome]:
    """The outcomes of n data from what the score returned for them: n numbers in a list, an array or a tensor.

    Another length for more than one datum is an error of the score as a whole: no value can be assigned to its datum.
    """
    is_list = hasattr(answer, "__len__") and not isinstance(answer, str | bytes | dict)
    flat = is_list and getattr(answer, "ndim", 1) == 1
    if flat and len(answer) != n > 1:
        raise ScoreError(
            f"the score gave {pluralize(len(answer), 'value')} for {n} data, expected {n}",
            "The score is called with several data at once and returns one float (or None) for each, in their order.",
        )
    if not flat or len(answer) != n:
        expected = "one number for each datum" if n == 1 else f"{n} numbers"
        wrong = ScoreOutcome(
            "failed",
            reason=f"the score gave {_describe_answer(answer)}, expected {expected}",
            fault=_answer_form(answer),
        )
        return [wrong] * n
    return [_parse_value(value) for value in (answer.tolist() if hasattr(answer, "tolist") else answer)]


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


def _answer_form(answer: Any) -> str:
    """Type and number of axes of a wrong answer: the same for every batch, as its values and size are left out."""
    axes = f" of {answer.ndim} axes" if hasattr(answer, "ndim") else ""
    return f"answer: {type(answer).__name__}{axes}"


def _describe_answer(answer: Any) -> str:
    if hasattr(answer, "shape"):
        return f"{type(answer).__name__} of shape {tuple(answer.shape)}"
    if isinstance(answer, list | tuple):
        return f"{len(answer)} values" if len(answer) != 1 else f"a {type(answer).__name__} of one value"
    try:
        return f"{type(answer).__name__} {answer!r}"[:MAX_ANSWER_CHARS]
    except Exception:  # the repr of an integer with too many digits raises, and that of a user's object may
        return f"a {type(answer).__name__}"


def _has_axes(value: Any) -> bool:
    return bool(getattr(value, "ndim", False))
