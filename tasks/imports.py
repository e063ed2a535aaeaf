"""Functions that a user names as ``module:function``. Torch-free."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from lso.vae.errors import UsageError


def imported(what: str, noun: str) -> Any:
    """A user's function by name, also from the current folder.

    Args:
        what: ``"module:function"``.
        noun: what it is to be, for errors.
    Returns:
        It.
    Raises:
        UsageError: if it cannot be imported or called.
    """
    name, _, path = what.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # and there it stays: other processes that are to run the function look there too
        sys.path.append(here)
    try:
        found: Any = import_module(name)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # a user's module may raise anything
        raise UsageError(
            f"cannot import the {noun} {what}: {error}", "Write module:function, importable from this folder."
        ) from None
    if not callable(found):
        raise UsageError(f"the {noun} {what} is no function", "Name a function: module:function.")
    return found
