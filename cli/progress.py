"""Progress of the commands on stderr: bars on a terminal, else a plain line every two seconds; nothing if quiet."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lso.cli.console import Console, display_path
from lso.cli.signals import Signals
from lso.vae.callbacks import Callback, CallbackList, Event
from lso.vae.progress import RichProgress, Shown
from lso.vae.utils.validation import pluralize

if TYPE_CHECKING:
    from lso.tasks.training.run_set import EvaluationSpec, Member, PlannedRun


def make_progress(console: Console, **units: str) -> RichProgress:
    """Progress as the flags of a command ask; ``units`` are kinds of work of this command, with what they count."""
    return RichProgress(
        note=console.note,
        warn=console.warn_once,
        quiet=console.quiet,
        verbose=console.verbose,
        work={name: Shown(unit=unit, title="{work}") for name, unit in units.items()},
    )


class StopRequests(Callback):
    """Asks work to stop on a signal, which is listened to once it has begun, or ``limit`` seconds from now."""

    def __init__(self, signals: Signals, limit: float | None = None, sentence: str = "reached the time limit") -> None:
        self._signals, self._sentence = signals, sentence
        self._deadline = None if limit is None else time.monotonic() + limit

    def on_start(self, event: Event) -> None:
        """From now on a signal stops the work cleanly."""
        self._signals.listen()

    def should_stop(self) -> str | None:
        """The reason to stop, if a signal came or the time is over."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return self._signals.reason() or (self._sentence if late else None)


@contextmanager
def show_work(console: Console, *callbacks: Callback) -> Iterator[Callback]:
    """The callback of a command's work, which shows its progress and passes it to ``callbacks`` as well.

    These, such as `StopRequests`, are told first, so that what they print of a beginning stands above the bar.
    """
    progress = make_progress(console)
    try:
        yield CallbackList(*callbacks, progress)
    finally:
        progress.close()


class Counting:
    """Callback ``(done, total)`` of counted work, such as codes decoded; ``text`` names the work."""

    def __init__(self, console: Console, unit: str, text: str) -> None:
        self._progress, self._work = make_progress(console, **{text: unit}), text

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done; a total of 0 is unknown."""
        self._progress.on_step(Event(work=self._work, done=done, total=total))

    def close(self) -> None:
        """Remove the bar."""
        self._progress.close()


@contextmanager
def show_reading(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function ``(name, done, total)`` that shows what is read or downloaded: a bar for each file or folder."""
    progress, last = make_progress(console), [""]

    def show(name: str, done: int, total: int) -> None:
        if name != last[0]:
            progress.close()
            last[0] = name
        progress.on_step(Event(work=name, done=done, total=total))

    try:
        yield show
    finally:
        progress.close()


def run_all(
    planned: "Sequence[PlannedRun]",
    root: Path,
    evaluation: "EvaluationSpec | None",
    *,
    console: Console,
    signals: Signals,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> "tuple[list[Member], str | None]":
    """`lso.tasks.training.multi_run.train_all`, its progress shown and told to ``callbacks``; a signal stops it.

    The results and the other arguments are those of `train_all`.
    """
    from lso.tasks.training.multi_run import train_all

    console.note(f"{pluralize(len(planned), 'training')} in {display_path(root)}; those finished there are kept")
    signals.listen()
    with show_work(console, *callbacks, StopRequests(signals)) as callback:
        return train_all(planned, root, spec=evaluation, longer=True, callback=callback, **options)
