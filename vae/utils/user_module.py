"""Networks of the user's own by name: a run's architecture is then ``"package.module:name"``. Torch-free.

The name stands for a module, or for a class or function that makes one. What this process was given is remembered, so
that a run that it trained or opened needs no import; everything else that a folder names has to be trusted first.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from lso.vae.errors import UsageError
from lso.vae.utils.trust import Trust, import_function, require_trust

# Name -> a module, or what makes one: a class, a function, or its name where it is still to be imported. Changed by
# `remember` alone; the last module of a name counts, and its weights are replaced by those of the run that is opened.
_given: dict[str, Any] = {}


def is_user_module(name: str) -> bool:
    """Whether the name of an architecture stands for a module of the user's own."""
    return ":" in name


def architecture_name(model: Any) -> str:
    """The name by which a run records a module: where it, its class or the function that makes it can be imported.

    A text is returned as it is. What a script, a notebook or another function defines has a name that cannot be
    imported, see `find_source`.
    """
    if isinstance(model, str):
        return model
    while isinstance(model, functools.partial):
        model = model.func
    named = model if callable(model) and hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}:{named.__qualname__}"


def remember(name: str, model: Any) -> None:
    """Keep what the user gave for a name; from then on this process opens runs of that name by it."""
    _given[name] = model


def allow(name: str) -> None:
    """Let this process import what the user named, unless something was given for the name already."""
    _given.setdefault(name, name)


def is_at_hand(name: str, trust: Trust) -> bool:
    """Whether the module of a name was given in this process, or its code is trusted."""
    return name in _given or trust is True or (trust is not False and name in trust)


def find_source(name: str, trust: Trust) -> Any:
    """A module, or a class or function that makes one, for the name of an architecture.

    Raises:
        UsageError: if nothing was given for it and it cannot be imported, or its code is not trusted.
    """
    found = _given.get(name, name)
    if not isinstance(found, str):
        return found
    module, _, path = found.partition(":")
    if module == "__main__" or "<" in path:  # <locals>, <lambda>
        raise UsageError(
            f"the networks are a module of the user's own, {path}, made where it cannot be imported from",
            "Pass it: lso.load(run, model=...) in Python; for the command line, put it into a file and train that.",
        )
    if name not in _given:
        require_trust(found, "module", trust, "pass the module: lso.load(run, model=...)")
    # From now on the name stands for this code: a search that trains models on makes further folders that name it.
    _given[name] = import_function(found, "module")
    return _given[name]


def call_with(make: Callable[..., Any], name: str, values: dict[str, Any], needed: dict[str, Any]) -> Any:
    """Call a class or function with those of the values that it takes, and what it cannot do without.

    Args:
        make: the class or function.
        name: of it, for errors.
        values: keyword arguments that are given where they are taken.
        needed: keyword arguments that are given only where they have no default.
    Returns:
        What it made.
    Raises:
        UsageError: if it needs other arguments, or raises an error.
    """
    try:
        known = inspect.signature(make).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        known = {}  # type: ignore[assignment]
    given = {key: value for key, value in values.items() if key in known}
    given |= {
        key: value for key, value in needed.items() if key in known and known[key].default is inspect.Parameter.empty
    }
    others = [
        key
        for key, one in known.items()
        if key not in given and one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if others:
        raise UsageError(
            f"{name} needs {' and '.join(others)}, and is given shape and latent_dim at most",
            "Give it defaults, or name a function that makes the module; in Python, pass the module itself.",
        )
    try:
        return make(**given)
    except Exception as error:  # a user's code may raise anything
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(
            f"{name}({', '.join(f'{key}={value}' for key, value in given.items())}) raised {words}",
            "It has to make the module from these arguments.",
        ) from error
