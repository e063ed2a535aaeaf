"""The entry point of ``lso`` and ``python -m lso``; imports little, since every worker process imports it again."""

import os
import signal
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # exit code after Ctrl-C


def main() -> None:
    """Run the command line. Ctrl-C ends it without a traceback, even during imports and after the command returned."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or handled by a host program
        return _command()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        _command()
    except KeyboardInterrupt:
        _end()
    finally:
        signal.signal(signal.SIGINT, _end)  # from here on there is nothing to save, so the process may end at once


def _command() -> None:
    from lso.cli.main import run_command_line as command

    command()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import end at once, as modules catch it, print it or raise another error."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _end(number: int = 0, frame: FrameType | None = None) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
