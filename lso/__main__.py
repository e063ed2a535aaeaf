"""The entry of ``lso`` and of ``python -m lso``; light at the top, as a process that scores imports it, too."""

import os
import signal
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # exit code after Ctrl-C


def main() -> None:
    """Run the command. Ctrl-C ends it without a traceback from the first moment to the last."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or the host program's
        return _command()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        _command()
    except KeyboardInterrupt:
        _end()
    finally:
        signal.signal(signal.SIGINT, _end)  # nothing is left to be saved


def _command() -> None:
    from lso.cli.main import main as command

    command()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not into an import, where others catch it, print it or turn it into an error."""
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
