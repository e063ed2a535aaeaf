"""Progress bars on stderr: live on a terminal, else a plain line every few seconds, nothing under ``--quiet``."""

import sys
import time
from typing import Any

from lso.cli.console import Console, escape_controls, format_duration

LINE_SECONDS = 2.0  # between two plain lines
BAR_SECONDS = 0.1  # between two updates of a bar


class Bar:
    """A progress bar on a terminal; elsewhere only its lines are printed, and nothing when quiet.

    ``unit`` is what is counted, such as ``"steps"``; it stands in the bar's speed.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self.console, self.unit = console, unit
        self._rich: Any = None
        self._task: Any = None
        self._updated = 0.0

    def start(self, total: int, done: int = 0, text: str = "") -> None:
        """Show the bar; a total of 0 is unknown."""
        if self.console.quiet or not sys.stderr.isatty():
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.text import Text

        unit = self.unit

        class Speed(ProgressColumn):
            def render(self, task: Any) -> Text:
                return Text(f"{task.speed:z.0f} {unit}/s" if task.speed else "", style="dim")

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            Speed(),
            TimeRemainingColumn(compact=True),
        )
        self._rich = Progress(*columns, console=Terminal(stderr=True), transient=True)
        self._task = self._rich.add_task(escape_controls(text), total=total or None, completed=done)
        self._rich.start()

    def move(self, done: int, text: str | None = None) -> None:
        """Move the bar, at most ten times a second unless there is a new text."""
        now = time.monotonic()
        if self._rich is None or (text is None and now - self._updated < BAR_SECONDS):
            return
        self._updated = now
        self._rich.update(
            self._task, completed=done, **({} if text is None else {"description": escape_controls(text)})
        )

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        if self._rich is not None:
            self._rich.console.print(escape_controls(text), highlight=False, markup=False)
        else:
            self.console.note(text)

    @property
    def live(self) -> bool:
        """Whether a bar is shown, which only a terminal does."""
        return self._rich is not None

    def stop(self) -> None:
        """Remove the bar."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None


class Counting:
    """Callback that shows progress of counted work, such as files read or codes decoded; ``text`` names the work."""

    def __init__(self, console: Console, unit: str, text: str) -> None:
        self.console, self.text = console, text
        self.bar = Bar(console, unit)
        self._running = False
        self._began = self._last_line = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done; a total of 0 is unknown."""
        if not self._running:
            self._running = True
            self.bar.start(total, done, self.text)
        self.bar.move(done)
        now = time.monotonic()
        if not self.bar.live and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            share = f"{100 * done / total:z.0f} %" if total else f"{done:,} {self.bar.unit}"
            self.console.note(f"{self.text}: {share} after {format_duration(now - self._began)}")

    def close(self) -> None:
        """Remove the bar."""
        self.bar.stop()


class Reading:
    """Callback that shows the progress of reading data: a bar for each file or folder that is read or downloaded."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._name, self._current = "", Counting(console, "", "")

    def __call__(self, name: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` of what ``name`` says are done (a `lso.tasks.datasets.download.Progress`)."""
        if name != self._name:
            self.close()
            self._name, self._current = name, Counting(self.console, "", name)
        self._current(done, total)

    def close(self) -> None:
        """Remove the bar."""
        self._current.close()
