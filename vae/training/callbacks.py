"""What a caller sees and says while a model trains, and how far a session may go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lso.vae.runs import Run


class TrainingCallback:
    """What a caller may see and say while a model trains; every method may be left as it is."""

    def warn(self, text: str) -> None:
        """Something is to be known before training begins: what was asked for makes it slower here, say.

        Args:
            text: a sentence.
        """

    def start(self, run: Run, steps: int, done: int) -> None:
        """Training begins.

        Args:
            run: its folder.
            steps: planned in all.
            done: steps of an earlier session.
        """

    def step(self, done: int) -> None:
        """A step was launched.

        Args:
            done: steps so far.
        """

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch ended.

        Args:
            row: as in metrics.jsonl.
        """

    def stop(self) -> str | None:
        """Asked before every step, an inner one of aggressive training too.

        Returns:
            A reason to stop now, e.g. ``"interrupted"``, else None.
        """
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a session ends though training has not.

    Args:
        steps: outer steps of the whole run; None is no limit.
        seconds: of this session; None is no limit.
    """

    steps: int | None = None
    seconds: float | None = None
