"""Ctrl-C and SIGTERM as a flag that long work asks for, so that it can save what there is."""

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

import typer

from lso.vae.launch import is_main_process

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Signals:
    """Turns the first Ctrl-C or SIGTERM into a request to stop; the second one kills.

    The handlers are in place from `listen` until the end of the ``with`` block, in a program's main thread alone.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def listen(self) -> None:
        """Put the handlers in place, once there is something worth saving."""
        try:
            for number in REASONS:
                self._before.setdefault(number, signal.signal(number, self._handle))
        except ValueError:  # not the main thread: the host program owns the signals
            return

    def reason(self) -> str | None:
        """Why to stop."""
        return REASONS[self.caught] if self.caught else None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number; 0 without one."""
        return 128 + self.caught if self.caught else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.caught = signal.Signals(number)
        if not is_main_process():
            return
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        typer.echo(f"{REASONS[self.caught]}: saving, a moment (once more to quit at once) ...", err=True)
