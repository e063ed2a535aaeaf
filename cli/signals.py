"""Ctrl-C and SIGTERM as a request to stop, so that long work can save what it has."""

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

import typer

from lso.vae.launch import is_main_process

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Signals:
    """Turns the first Ctrl-C or SIGTERM into a request to stop; the second one kills the process.

    The handlers are in place from the call of `listen` to the end of the ``with`` block. Python allows them in the main
    thread only; elsewhere `listen` does nothing.
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
        """Install the handlers: called once there is something worth saving, until then Ctrl-C ends at once."""
        try:
            for number in REASONS:
                self._before.setdefault(number, signal.signal(number, self._handle))
        except ValueError:  # not the main thread: the host program owns the signals
            return

    def reason(self) -> str | None:
        """The reason to stop, as a word; None if no signal came."""
        return REASONS[self.caught] if self.caught else None

    @property
    def exit_code(self) -> int:
        """Exit code of the process: 128 + the signal's number, as shells have it; 0 if no signal came."""
        return 128 + self.caught if self.caught else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught:
            signal.signal(number, signal.SIG_DFL)  # the second signal: die as if nobody had listened
            signal.raise_signal(number)
        self.caught = signal.Signals(number)
        if not is_main_process():  # under torchrun every process gets the signal, and one message is enough
            return
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        typer.echo(f"{REASONS[self.caught]}: stopping and saving (once more to quit at once) ...", err=True)
