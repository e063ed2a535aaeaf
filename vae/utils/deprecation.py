"""Words of the public surface that have become others: the old ones still work, and say what they are called now."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


class RenamedWarning(FutureWarning):
    """An old word was used for something; a later version will not know it any more."""


def current_words(
    values: Mapping[str, Any], words: Mapping[str, str], what: str = "", *, stacklevel: int = 3
) -> dict[str, Any]:
    """Named values with each old name replaced by what it is called now.

    Where both are given the old one counts: so ``dataclasses.replace(protocol, judge="last")`` does what it says, which
    hands over all other values under their current names.

    Args:
        values: name -> value.
        words: old name -> current one.
        what: whose names they are, for the warning; empty warns of nothing, as where a folder of an earlier version is
            read.
        stacklevel: of the warning, as `warnings.warn` has it.
    Returns:
        The values, in their order.
    """
    found = dict(values)
    for old in [name for name in values if name in words]:
        found[words[old]] = found.pop(old)
        if what:
            warnings.warn(f"{old} of {what} is called {words[old]} now", category=RenamedWarning, stacklevel=stacklevel)
    return found


def renamed_arguments(**words: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: old names of keywords still work, with a `RenamedWarning`.

    Args:
        words: old name = current one.
    Returns:
        What wraps the function; its signature shows the current names alone.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if words.keys() & kwargs.keys():
                kwargs = current_words(kwargs, words, f"{function.__name__}()")  # type: ignore[assignment]
            return function(*args, **kwargs)

        return functools.update_wrapper(call, function)

    return wrap


def renamed_fields(**words: str) -> Callable[[C], C]:
    """A decorator above that of a dataclass: old names of fields still work, to set and to read."""

    def change(cls: C) -> C:
        plain = cls.__init__  # type: ignore[misc]

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            if words.keys() & kwargs.keys():
                kwargs = current_words(kwargs, words, cls.__name__)
            plain(self, *args, **kwargs)

        cls.__init__ = functools.update_wrapper(init, plain)  # type: ignore[misc]
        for old, new in words.items():
            setattr(cls, old, property(functools.partial(_read, old=old, new=new)))
        return cls

    return change


def _read(instance: Any, *, old: str, new: str) -> Any:
    told = f"{old} of {type(instance).__name__} is called {new} now"
    warnings.warn(told, category=RenamedWarning, stacklevel=2)
    return getattr(instance, new)
