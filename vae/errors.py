"""The errors of lso: one class per kind of remedy; each message says what was expected, what came and what to do.

LsoError
|- UsageError     a name, parameter or configuration is wrong: change the call (exit code 2)
|  `- ShapeError  a tensor has the wrong shape
|- DataError      a file or dataset cannot be used
|- RunError       a run folder is missing, taken, damaged or of another kind
|- WriteError     a file cannot be written: the disk is full, or it is not allowed
`- DivergedError  a loss of a training is not finite
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LsoError(Exception):
    """Base of all errors that ``lso`` raises on purpose.

    Args:
        message: what is wrong, naming the file, option or tensor.
        hint: what to do about it; printed as the second line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(LsoError, ValueError):
    """A name, parameter or configuration value is wrong."""

    exit_code = 2


class ShapeError(UsageError):
    """A tensor has the wrong shape."""


class DataError(LsoError):
    """A file or dataset is missing, unreadable or unsuitable."""


class RunError(LsoError):
    """A run folder is missing, already there, damaged, or of another kind."""


class WriteError(LsoError):
    """A file cannot be written."""


class DivergedError(LsoError):
    """A loss was NaN or infinite."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a table, with the nearest known name and all others."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}", f"{guess}Known: {', '.join(names)}.")
