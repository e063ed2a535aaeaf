"""What a function of the user's is called: in reports, where readers are to know it again, and on disk."""

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_ARGUMENT_CHARS = 60  # characters of what a function is given beforehand
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # as Python shows one
LAMBDA = "<lambda>"


def plain_name(function: Callable[..., Any]) -> str:
    """A name that an edit of the file does not change: the function's own, else that of its type."""
    return str(getattr(function, "__name__", type(function).__name__))


def display_name(function: Callable[..., Any]) -> str:
    """A name for people, also of functions that have none.

    Args:
        function: any callable.
    Returns:
        The function's own name, of a method with its class: ``Assay.score``; ``lambda (lab.py, line 12)``;
        ``assay(target=3)`` of a `functools.partial`; of other objects the name of the class.
    """
    if isinstance(function, functools.partial):
        pairs = [f"{key}={value!r}" for key, value in function.keywords.items()]
        given = ADDRESS.sub("", ", ".join([*map(repr, function.args), *pairs]))
        shortened = given if len(given) <= MAX_ARGUMENT_CHARS else given[:MAX_ARGUMENT_CHARS] + " ..."
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
    """A name as a record keeps it, by which a search is told from others when it is gone on with.

    Args:
        name: made of `display_name`, or any other.
        function: that it is of.
    Returns:
        The name with `plain_name` in its place: an edit moves the line that an unnamed function stands in.
    """
    return name.replace(display_name(function), plain_name(function))


def source_location(file: str, line: int) -> str:
    """A line of a file, the path as short as it leads there from the working folder.

    Args:
        file: its path, or what stands for one, such as ``<stdin>``.
        line: its number.
    Returns:
        Such as ``lab.py, line 12``.
    """
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path.name}, line {line}"
