"""Names of the user's functions: for reports, where a reader should recognize the function, and for run folders."""

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_ARGUMENT_CHARS = 60  # characters shown of the arguments of a `functools.partial`
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # the memory address in the repr of an object, which differs between runs
LAMBDA = "<lambda>"


def plain_name(function: Callable[..., Any]) -> str:
    """The function's own name, else that of its type: an edit elsewhere in the file does not change it."""
    return str(getattr(function, "__name__", type(function).__name__))


def display_name(function: Callable[..., Any]) -> str:
    """A name for people, also of callables without a name of their own.

    For example ``score``; ``Assay.score`` for a method; ``lambda (lab.py, line 12)``; ``assay(target=3)`` for a
    `functools.partial`; for other objects the name of their class.
    """
    if isinstance(function, functools.partial):
        pairs = [f"{key}={value!r}" for key, value in function.keywords.items()]
        arguments = ADDRESS.sub("", ", ".join([*map(repr, function.args), *pairs]))
        shortened = arguments if len(arguments) <= MAX_ARGUMENT_CHARS else arguments[:MAX_ARGUMENT_CHARS] + " ..."
        return f"{display_name(function.func)}({shortened})"
    name = plain_name(function)
    if inspect.ismethod(function):
        owner = function.__self__
        return f"{(owner if inspect.isclass(owner) else type(owner)).__name__}.{name}"
    code = getattr(function, "__code__", None)
    if name != LAMBDA or code is None:
        return name
    return f"lambda ({source_location(code.co_filename, code.co_firstlineno)})"


def stable_name(name: str, function: Callable[..., Any]) -> str:
    """The name that run.json keeps, by which a resumed search is recognized: `plain_name` in place of `display_name`.

    A display name holds the line number of a lambda, which any edit of the file may change.
    """
    return name.replace(display_name(function), plain_name(function))


def source_location(file: str, line: int) -> str:
    """A line of a file for people, such as ``lab.py, line 12``, the path relative to the working folder where possible.

    ``file`` may also be a placeholder such as ``<stdin>``.
    """
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path.name}, line {line}"
