"""Output of the commands: results on stdout and all else on stderr; with ``--json`` one JSON value alone on stdout."""

import atexit
import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import typer

from lso.vae.utils.files import CONTROLS as CONTROLS
from lso.vae.utils.files import escape_controls as escape_controls
from lso.vae.utils.files import printable
from lso.vae.utils.validation import format_duration as format_duration
from lso.vae.utils.validation import short_number
from lso.vae.zoo import zoo_name

TABS_AND_BREAKS = {0x09: "\\t", 0x0A: "\\n"}  # they would break the columns of a table
JSON_ESCAPES = {code: f"\\u{code:04x}" for code in CONTROLS}

_JSON_OUTPUT: ContextVar[TextIO | None] = ContextVar("json_output", default=None)  # None: sys.stdout


@contextmanager
def answer_alone() -> Iterator[None]:
    """Reserve stdout for the JSON of `Console.emit`; everything else that is written to stdout goes to stderr.

    A user's score or tokenizer may print, and so may C libraries and child processes. `sys.stdout` alone would not
    catch the latter two, so file descriptor 1 itself points to stderr while the command runs and when Python exits.
    """
    stdout, token = sys.stdout, None
    stdout.flush()
    original = os.dup(1)
    real = _descriptor(stdout) == 1  # else something replaces it, such as the capture of a test
    output = os.fdopen(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors) if real else stdout
    try:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        token = _JSON_OUTPUT.set(output)
        yield
    finally:
        if token is not None:
            _JSON_OUTPUT.reset(token)
        sys.stdout = stdout
        _flush(stdout)  # text still in buffers must go to stderr, so before descriptor 1 is restored
        os.dup2(original, 1)
        os.close(original)
        if real:
            with suppress(OSError):  # the reader has closed the pipe
                output.close()
            atexit.register(_redirect_to_stderr, stdout)


def _redirect_to_stderr(stdout: TextIO) -> None:
    """Point descriptor 1 to stderr as the program ends, for exit functions that print after the command."""
    # atexit runs functions in reverse order of registration: those of a user's module, registered earlier, run later.
    with suppress(OSError, ValueError):
        stdout.flush()
        os.dup2(2, 1)


def _flush(stdout: TextIO) -> None:
    """Write out the stdout buffers of Python and of C."""
    with suppress(OSError, ValueError):
        stdout.flush()
    import ctypes  # takes longer than all other imports of a command's help

    with suppress(OSError, AttributeError, TypeError):  # not a Unix
        ctypes.CDLL(None).fflush(None)


def _descriptor(stream: TextIO) -> int | None:
    """The file descriptor of a stream; None where it has none."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Prints the results, notes and warnings of a command as its flags ask."""

    json: bool = False  # one JSON value on stdout instead of text
    quiet: bool = False  # neither progress nor notes
    verbose: bool = False  # more progress: every epoch
    _warned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def result(self, text: str = "", colour: str | None = None) -> None:
        """Print a line of the result on stdout; with ``--json`` nothing."""
        if not self.json:
            print_line(text, fg=colour)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table of the result on stdout; with ``--json`` nothing."""
        if self.json:
            return
        head, *lines = table_lines(columns, rows)
        print_line(head, bold=True)
        for line in lines:
            print_line(line)

    def emit(self, value: Any) -> None:
        """Print the result as JSON on stdout; without ``--json`` nothing."""
        if self.json:
            output = _JSON_OUTPUT.get() or sys.stdout
            text = json.dumps(
                to_strict_json(value), indent=2, ensure_ascii=not _is_utf8(getattr(output, "encoding", None))
            )
            # Controls stand inside JSON strings only, where an escape means the same character.
            typer.echo(printable(text).translate(JSON_ESCAPES), file=output)

    def note(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            print_line(text, err=True)

    def notes(self, texts: Iterable[str]) -> None:
        """Print notes on what was done to data, indented; those that begin with ``Warning:`` as warnings."""
        for text in texts:
            warning = text.removeprefix("Warning: ")
            if warning == text:
                self.note(f"  {text}")
            else:
                self.warn(warning)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, even when quiet."""
        print_line(text, "warning: ", err=True, fg="yellow")

    def warn_once(self, text: str) -> None:
        """Print a warning unless this console has printed it before: several trainings may give the same one."""
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)

    def loading(self) -> None:
        """Say on a terminal that PyTorch is being imported, which takes seconds."""
        if "torch" not in sys.modules and sys.stderr.isatty():
            self.note("Loading PyTorch ...")


def print_line(text: str, lead: str = "", *, err: bool = False, fg: str | None = None, bold: bool = False) -> None:
    """Print a line with its control characters escaped (`escape_controls`): all text but progress bars is printed here.

    Args:
        text: the line; it may quote a file or folder that somebody else made.
        lead: a word of our own before it, such as ``"warning: "``.
        err: whether to print on stderr.
        fg: colour of the lead, or of the whole line if there is no lead.
        bold: whether that part is bold.
    """
    first, rest = (lead, escape_controls(text)) if lead else (escape_controls(text), "")
    typer.echo(typer.style(first, fg=fg, bold=bold or None) + rest if fg or bold else first + rest, err=err)


def _is_utf8(encoding: str | None) -> bool:
    """Whether a stream can encode all of Unicode; another one would write escapes that JSON does not know."""
    return (encoding or "utf-8").lower().replace("-", "") == "utf8"


def error(message: str, hint: str = "") -> None:
    """Print an error on stderr: one line on what is wrong, one on what to do."""
    print_line(one_line(message), "error: ", err=True, fg="red", bold=True)
    if hint:
        print_line(one_line(hint), err=True)


def one_line(text: str) -> str:
    """Text in one line, each run of white space as one blank."""
    return " ".join(text.split())


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table as lines of text, the headings first: numbers flush right, text flush left, None as ``-``."""
    cells = [[format_number(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        parts = zip(values, widths, right, strict=True)
        return "  ".join(text.rjust(width) if flush else text.ljust(width) for text, width, flush in parts).rstrip()

    return [line(columns), *map(line, cells)]


def format_number(value: Any) -> str:
    """A table cell as text: floats with four significant digits, None as ``-``."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return short_number(value)
    return escape_controls(str(value)).translate(TABS_AND_BREAKS)


def to_strict_json(value: Any) -> Any:
    """Nested values that strict JSON can hold: numbers that are not finite become None, paths become text."""
    if isinstance(value, Mapping):
        return {str(key): to_strict_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_strict_json(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return zoo_name(value) or str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def display_path(path: str | os.PathLike[str]) -> str:
    """A path to print, that can be pasted: relative below the working folder, ``zoo:NAME`` of an installed model."""
    if (name := zoo_name(Path(path))) is not None:
        return name
    try:
        return str(Path(path).resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(Path(path))


def command_line() -> str:
    """The command line that is running, to be given again."""
    return shlex.join(["lso", *sys.argv[1:]])
