"""Renamed keywords, fields and attributes of the public interface: old names work, and warn with the current one."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


class RenamedWarning(FutureWarning):
    """A deprecated name was used; a later version will not accept it."""


def translate_old_names(
    values: Mapping[str, Any], current: Mapping[str, str], owner: str = "", *, stacklevel: int = 3
) -> dict[str, Any]:
    """Named values with each deprecated name replaced by the current one.

    Args:
        values: name -> value.
        current: deprecated name -> current one.
        owner: what the names belong to, for the warning; empty gives no warning, as for folders of earlier versions.
        stacklevel: of the warning, see `warnings.warn`.
    """
    renamed = dict(values)
    for old in [name for name in values if name in current]:
        # Where both names are given the old one wins: ``dataclasses.replace(protocol, judge="last")`` passes all other
        # fields under their current names, ``monitor`` among them.
        renamed[current[old]] = renamed.pop(old)
        if owner:
            message = f"{old} of {owner} is called {current[old]} now"
            warnings.warn(message, category=RenamedWarning, stacklevel=stacklevel)
    return renamed


def renamed_arguments(**current: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of functions: deprecated keywords (``old="new"``) still work, with a `RenamedWarning`.

    The signature of the wrapped function shows the current names only.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if current.keys() & kwargs.keys():
                kwargs = translate_old_names(kwargs, current, f"{function.__name__}()")  # type: ignore[assignment]
            return function(*args, **kwargs)

        return functools.update_wrapper(call, function)

    return wrap


def renamed_fields(**current: str) -> Callable[[C], C]:
    """A decorator to stand above ``@dataclass``: deprecated fields (``old="new"``) can still be set and read."""

    def change(cls: C) -> C:
        plain_init = cls.__init__  # type: ignore[misc]

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            if current.keys() & kwargs.keys():
                kwargs = translate_old_names(kwargs, current, cls.__name__)
            plain_init(self, *args, **kwargs)

        cls.__init__ = functools.update_wrapper(init, plain_init)  # type: ignore[misc]
        for old, new in current.items():
            setattr(cls, old, renamed_attribute(old, new))
        return cls

    return change


def renamed_attribute(old: str, new: str) -> property:
    """A property under the deprecated name of an attribute, which can still be read."""

    def read(instance: Any) -> Any:
        message = f"{old} of {type(instance).__name__} is called {new} now"
        warnings.warn(message, category=RenamedWarning, stacklevel=2)
        return getattr(instance, new)

    return property(read)
