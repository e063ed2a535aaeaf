"""The callback of a training under its earlier method names, and the limits of a training session."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lso.vae.callbacks import Callback, Event
from lso.vae.runs import Run


class TrainingCallback(Callback):
    """A `lso.vae.callbacks.Callback` under the method names of earlier versions; new ones derive from that class."""

    def warn(self, text: str) -> None:
        """Called before training begins with a warning, one sentence."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Called when a session begins, with the steps planned over the whole training and those done before."""

    def step(self, done: int) -> None:
        """Called after each outer step, which a GPU may still be computing."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Called after each epoch with its row of metrics.jsonl."""

    def stop(self) -> str | None:
        """Called before every step, inner ones included; returns the reason to stop now, or None to continue."""
        return None

    def on_start(self, event: Event) -> None:
        """Call `start` for a training."""
        if isinstance(event.source, Run):
            self.start(event.source, event.total, event.done)

    def on_step(self, event: Event) -> None:
        """Call `step`."""
        self.step(event.done)

    def on_epoch(self, event: Event) -> None:
        """Call `epoch`."""
        self.epoch(event.values)

    def on_log(self, event: Event) -> None:
        """Call `warn` with a warning."""
        if event.warning:
            self.warn(event.text)
        super().on_log(event)

    def should_stop(self) -> str | None:
        """Call `stop`."""
        return self.stop()


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which a session stops; a later one can resume the training.

    Args:
        steps: outer steps of the whole run; None is no limit.
        seconds: of this session; None is no limit.
    """

    steps: int | None = None
    seconds: float | None = None
