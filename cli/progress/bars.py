"""Bars on stderr: live on a terminal, else a plain line now and then, nothing when quiet."""

import sys
import time
from typing import Any

from lso.cli.console import Console, span, visible

LINE_SECONDS = 2.0  # between two plain lines
BAR_SECONDS = 0.1  # between two looks of the bar


class Bar:
    """A bar on a terminal, plain lines elsewhere, nothing when quiet.

    Args:
        console: whether to be quiet.
        unit: what is counted, e.g. ``"steps"``.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self.console, self.unit = console, unit
        self._rich: Any = None
        self._task: Any = None
        self._total, self._started, self._looked = 0, time.monotonic(), 0.0

    def start(self, total: int, done: int = 0, text: str = "") -> None:
        """Show it."""
        self._total, self._started = total, time.monotonic()
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
        self._task = self._rich.add_task(visible(text), total=total or None, completed=done)
        self._rich.start()

    def move(self, done: int, text: str | None = None) -> None:
        """Move it, at most ten times a second unless there is a new text."""
        now = time.monotonic()
        if self._rich is None or (text is None and now - self._looked < BAR_SECONDS):
            return
        self._looked = now
        self._rich.update(self._task, completed=done, **({} if text is None else {"description": visible(text)}))

    def line(self, text: str) -> None:
        """A line above the bar."""
        if self._rich is not None:
            self._rich.console.print(visible(text), highlight=False, markup=False)
        else:
            self.console.note(text)

    @property
    def live(self) -> bool:
        """Whether there is a bar on a terminal."""
        return self._rich is not None

    def stop(self) -> None:
        """Take it away."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None


class Counting:
    """Progress of work that is counted: bytes of a download, files of a folder, codes decoded.

    Args:
        console: where to print.
        unit: what is counted, for the bar's speed.
        text: what is done.
    """

    def __init__(self, console: Console, unit: str, text: str) -> None:
        self.console, self.text = console, text
        self.bar = Bar(console, unit)
        self._running = False
        self._began = self._last_line = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Move on."""
        if not self._running:
            self._running = True
            self.bar.start(total, done, self.text)
        self.bar.move(done)
        now = time.monotonic()
        if not self.bar.live and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            share = f"{100 * done / total:z.0f} %" if total else f"{done:,} {self.bar.unit}"
            self.console.note(f"{self.text}: {share} after {span(now - self._began)}")

    def close(self) -> None:
        """Take the bar away."""
        self.bar.stop()


class Reading:
    """Progress of reading data: one bar after the other, as files are read or downloaded.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._name, self._current = "", Counting(console, "", "")

    def __call__(self, name: str, done: int, total: int) -> None:
        """Move on; the signature of `lso.tasks.datasets.download.Progress`."""
        if name != self._name:
            self.close()
            self._name, self._current = name, Counting(self.console, "", name)
        self._current(done, total)

    def close(self) -> None:
        """Take the bar away."""
        self._current.close()
