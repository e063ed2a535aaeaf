"""When a score is broken: it has given no value yet, and fails on one object after the other in the same way."""

from lso.vae.errors import LsoError
from lso.vae.utils.validation import pluralize

MAX_FAILURES = 8  # in a row; a score that fails on 7 of 10 objects is taken for broken once in 17 searches


class ScoreError(LsoError):
    """A score that is broken: it fails on every object alike, or gives what does not fit what it was given."""


class Failures:
    """Failures of a score in a row, as long as it has given no value.

    Objects that the score calls invalid neither count nor interrupt the row: to give None is to work.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.has_value = False
        self._fault = self._reason = ""

    def add(self, call: int, status: str, reason: str, fault: str) -> None:
        """Take down what became of a call, which is no duplicate.

        Args:
            call: its number.
            status: one of `lso.black_box.ask_tell.OUTCOMES`.
            reason: why there is no value.
            fault: what tells one failure from another; empty for the reason itself.
        """
        if status == "invalid":
            return
        if status == "evaluated":
            self.has_value = True
        fault = fault or (reason if status == "failed" else status)
        if status == "evaluated" or fault != self._fault:
            self.calls = []
        if status != "evaluated":
            self.calls.append(call)
            self._fault, self._reason = fault, reason

    def error(self, limit: int, noun: str = "object") -> ScoreError | None:
        """Whether the score is broken.

        Args:
            limit: failures in a row that are too many.
            noun: the noun for what was scored.
        Returns:
            The error, to be raised by the caller; else None.
        """
        if self.has_value or len(self.calls) < limit:
            return None
        hint = "Raise the timeout, or mend the score" if self._fault == "timed_out" else "Mend the score"
        return ScoreError(
            f"the score failed on {pluralize(len(self.calls), noun)} in a row and gave no value yet: {self._reason}",
            f"{hint}, and resume. For an invalid {noun} it gives None; --max-failures N (max_failures=N) bears more.",
        )
