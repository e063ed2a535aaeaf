"""Imports at first use: of the public names of a package (PEP 562), and of ``"module:name"`` in the rows of tables."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def resolve(name: str) -> Any:
    """Import the function, class or other object that ``"module:name"`` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def attach(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for a package whose names live in ``where``.

    Args:
        package: the package's name, for the error message.
        where: public name -> module that defines it. ``module:other`` renames, ``module:*`` is the module itself.
    Returns:
        The three module-level names that a lazy ``__init__.py`` needs.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = where[name].partition(":")
        loaded = import_module(module)
        return loaded if attribute == "*" else getattr(loaded, attribute or name)

    names = sorted(where)
    return get, lambda: names, names
