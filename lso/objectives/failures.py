"""Detection of a broken score: one that has given no value yet and fails on every object in the same way."""

from lso.vae.errors import LsoError
from lso.vae.utils.validation import pluralize

# Consecutive failures. A score that fails on 7 of 10 objects is taken for broken once in 17 searches: 0.7^8 = 0.058.
MAX_FAILURES = 8


class ScoreError(LsoError):
    """The score is broken: it fails on every object in the same way, or its answer does not fit its input."""


class Failures:
    """Consecutive failures of a score that has given no value yet.

    Objects that the score calls invalid neither count nor interrupt the sequence: a score that gives None works.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.has_value = False
        self._fault = self._reason = ""

    def add(self, call: int, status: str, reason: str, fault: str) -> None:
        """Count the outcome of a call that was not answered from memory.

        ``status`` is one of `lso.black_box.ask_tell.OUTCOMES`; ``fault`` tells one kind of failure from another, and is
        ``reason`` where it is empty.
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
        """The error for the caller to raise where ``limit`` consecutive failures show that the score is broken.

        None as long as the score may work. ``noun`` is the word for what is scored.
        """
        if self.has_value or len(self.calls) < limit:
            return None
        hint = "Raise the timeout, or fix the score" if self._fault == "timed_out" else "Fix the score"
        return ScoreError(
            f"the score failed on {pluralize(len(self.calls), noun)} in a row and gave no value yet: {self._reason}",
            f"{hint}, and resume. It should give None for an invalid {noun}; --max-failures N (max_failures=N) allows "
            "more failures.",
        )
