"""Trust in code that a file names (``module:function``): none of it runs unless the user says so. Torch-free."""

import sys
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

from lso.vae.errors import UsageError

# Which code named by a file the user allows to run: all, none, or the names that they gave themselves in this call.
Trust = bool | Collection[str]


def require_trust(name: str, noun: str, trust: Trust, other: str = "") -> None:
    """Refuse code that is named by a file and not by the user.

    Args:
        name: ``"module:function"``.
        noun: what it is; the name of its option, too, where there is no ``other`` way.
        trust: what the user allows.
        other: another way to allow it, than by naming it again.
    """
    if trust is True or (trust is not False and name in trust):
        return
    raise UsageError(
        f"a file names the {noun} {name}, and to go on would import and run it",
        "If you trust that code: --trust (trust=True in Python), or "
        f"{other or f'name it yourself where there is --{noun}'}.",
    )


def import_function(what: str, noun: str) -> Any:
    """Import a user's function named ``"module:function"``, also from the current folder."""
    name, _, path = what.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # it stays there, as worker processes that run the function look there too
        sys.path.append(here)
    try:
        value: Any = import_module(name)
        for attribute in path.split("."):
            value = getattr(value, attribute)
    except Exception as error:  # a user's module may raise anything
        raise UsageError(
            f"cannot import the {noun} {what}: {error}", "Write module:function, importable from this folder."
        ) from None
    if not callable(value):
        raise UsageError(f"the {noun} {what} is not a function", "Name a function: module:function.")
    return value
