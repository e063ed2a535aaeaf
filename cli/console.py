"""What the terminal sees: results on stdout, all else on stderr, or one JSON value on stdout and nothing beside it."""

import atexit
import ctypes
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import typer

from lso.vae.utils.files import printable

# What a terminal acts on instead of showing it: ESC and the other controls of C0 and C1 but for line break and tab, and
# the characters that turn the direction of what follows (Boucher, Anderson 2021, arXiv:2111.00169).
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
CONTROLS |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
BREAKS = {0x09: "\\t", 0x0A: "\\n"}  # which would break a table
IN_JSON = {code: f"\\u{code:04x}" for code in CONTROLS}

_ANSWER: ContextVar[TextIO | None] = ContextVar("answer", default=None)  # where JSON goes; None is sys.stdout


@contextmanager
def answer_alone() -> Iterator[None]:
    """Keep stdout for the JSON of `Console.emit`: what else is written there goes to stderr.

    That is what a user's score or tokenizer prints, and so do libraries in C, programs that they start and processes
    that run them: file number 1 itself is turned to stderr for as long as the command runs. What is printed when the
    program ends goes there as well.
    """
    stdout, token = sys.stdout, None
    stdout.flush()
    kept = os.dup(1)
    own = _number(stdout) == 1  # else something stands in for it, such as a test's record of what is printed
    answer = os.fdopen(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors) if own else stdout
    try:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        token = _ANSWER.set(answer)
        yield
    finally:
        if token is not None:
            _ANSWER.reset(token)
        sys.stdout = stdout
        _flush(stdout)
        os.dup2(kept, 1)
        os.close(kept)
        if own:
            with suppress(OSError):  # whoever read it has gone
                answer.close()
            atexit.register(_to_stderr, stdout)


def _to_stderr(stdout: TextIO) -> None:
    """Functions that were registered before this one, such as those of a user's module, run after it."""
    with suppress(OSError, ValueError):
        stdout.flush()
        os.dup2(2, 1)


def _flush(stdout: TextIO) -> None:
    """Have written what Python and C keep back of what was printed, while it still goes to stderr."""
    with suppress(OSError, ValueError):
        stdout.flush()
    with suppress(OSError, AttributeError, TypeError):  # not a Unix
        ctypes.CDLL(None).fflush(None)


def _number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # not a file
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Where a command prints.

    Args:
        json: one JSON value on stdout instead of text.
        quiet: no progress and no notes.
        verbose: more of them.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    _warned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def result(self, text: str = "", colour: str | None = None) -> None:
        """A line of the answer, on stdout; nothing under ``--json``."""
        if not self.json:
            say(text, fg=colour)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of the answer, on stdout; nothing under ``--json``."""
        if self.json:
            return
        head, *lines = table_lines(columns, rows)
        say(head, bold=True)
        for line in lines:
            say(line)

    def emit(self, value: Any) -> None:
        """The answer as JSON, on stdout; nothing without ``--json``."""
        if self.json:
            answer = _ANSWER.get() or sys.stdout
            text = json.dumps(strict(value), indent=2, ensure_ascii=not _unicode(getattr(answer, "encoding", None)))
            typer.echo(printable(text).translate(IN_JSON), file=answer)  # beyond ASCII only within its texts

    def note(self, text: str) -> None:
        """A line on stderr, unless quiet."""
        if not self.quiet:
            say(text, err=True)

    def notes(self, texts: Iterable[str]) -> None:
        """Notes on what was done to data; warnings among them are shown as such."""
        for text in texts:
            warning = text.removeprefix("Warning: ")
            if warning == text:
                self.note(f"  {text}")
            else:
                self.warn(warning)

    def warn(self, text: str) -> None:
        """A warning on stderr, even when quiet."""
        say(text, "warning: ", err=True, fg="yellow")

    def warn_once(self, text: str) -> None:
        """A warning of what several parts of a command have in common, printed for the first of them."""
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)

    def loading(self) -> None:
        """Say on a terminal why nothing happens for a second."""
        if "torch" not in sys.modules and sys.stderr.isatty():
            self.note("Loading PyTorch ...")


def say(text: str, lead: str = "", *, err: bool = False, fg: str | None = None, bold: bool = False) -> None:
    """A line, whatever is in it, see `visible`. The one place from which text reaches the terminal, but for bars.

    Args:
        text: the line, often with words of a file or folder that somebody else made.
        lead: a word of ours before it.
        err: on stderr, else on stdout.
        fg: colour of the lead, or of the line that has none.
        bold: its weight.
    """
    first, rest = (lead, visible(text)) if lead else (visible(text), "")
    typer.echo(typer.style(first, fg=fg, bold=bold or None) + rest if fg or bold else first + rest, err=err)


def visible(text: str) -> str:
    """Text as a terminal shows it and does nothing else: of what is no text, and of controls, escapes are shown.

    A name or sentence from a folder could otherwise clear the screen, turn the window's title, or write over the
    verdict above it.
    """
    return printable(text).translate(CONTROLS)


def _unicode(encoding: str | None) -> bool:
    """Whether a stream takes all of Unicode; escapes of others would be none of JSON's."""
    return (encoding or "utf-8").lower().replace("-", "") == "utf8"


def error(message: str, hint: str = "") -> None:
    """An error in two lines on stderr."""
    say(one_line(message), "error: ", err=True, fg="red", bold=True)
    if hint:
        say(one_line(hint), err=True)


def one_line(text: str) -> str:
    """Text with its white space collapsed."""
    return " ".join(text.split())


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns lined up by blanks: numbers to the right, text to the left.

    Args:
        columns: headings.
        rows: cells, text or numbers; None is shown as ``-``.
    Returns:
        The heading and one line a row, without trailing blanks.
    """
    cells = [[number(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        parts = zip(values, widths, right, strict=True)
        return "  ".join(text.rjust(width) if flush else text.ljust(width) for text, width, flush in parts).rstrip()

    return [line(columns), *map(line, cells)]


def number(value: Any) -> str:
    """A cell: numbers with four digits that count, None as ``-``."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:z,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:z.4g}"
    return visible(str(value)).translate(BREAKS)


def span(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 9.95:
        return f"{seconds:z.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def strict(value: Any) -> Any:
    """Nested values as strict JSON has them: what is not finite becomes null, paths become text."""
    if isinstance(value, Mapping):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def shown(path: str | os.PathLike[str]) -> str:
    """A path as short as it can be pasted here: relative where it lies below the working folder."""
    found = Path(path)
    try:
        return str(found.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(found)
