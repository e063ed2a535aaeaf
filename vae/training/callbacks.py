"""Progress callbacks of a training, and the limits of a training session."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lso.vae.runs import Run


class TrainingCallback:
    """Receives the progress of a training and may stop it; subclasses override the methods they need."""

    def warn(self, text: str) -> None:
        """Called before training begins with a warning, e.g. that an option makes training slower on this machine.

        Args:
            text: one sentence.
        """

    def start(self, run: Run, steps: int, done: int) -> None:
        """Called when a session begins.

        Args:
            run: the run folder.
            steps: outer steps planned over the whole training.
            done: outer steps taken in earlier sessions.
        """

    def step(self, done: int) -> None:
        """Called after each outer step, which a GPU may still be computing.

        Args:
            done: outer steps taken so far.
        """

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Called after each epoch.

        Args:
            row: the row of the epoch as written to metrics.jsonl.
        """

    def stop(self) -> str | None:
        """Called before every step, inner steps of aggressive training included.

        Returns:
            The reason to stop now, e.g. ``"interrupted"``; None to continue.
        """
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which a session stops; a later one can resume the training.

    Args:
        steps: outer steps of the whole run; None is no limit.
        seconds: of this session; None is no limit.
    """

    steps: int | None = None
    seconds: float | None = None
