"""What users rely on, as lines of text: public names with signatures, commands with their flags, keys of files."""

import dataclasses
import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

PACKAGES = ("lso", "lso.vae", "lso.tasks")
KINDS: Mapping[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def public_names() -> list[str]:
    """One line a name of each ``__all__``, and one a public method, property or field of its classes."""
    lines: list[str] = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in sorted(module.__all__):
            lines += _described(f"{package}.{name}", getattr(module, name))
    return lines


def _described(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"{name}{_signature(thing)}"
        for key in sorted(_members(thing)):
            member = inspect.getattr_static(thing, key, None)  # None: a field without a default
            if isinstance(member, staticmethod | classmethod):
                yield f"{name}.{key}{_signature(member.__func__)}"
            elif inspect.isfunction(member):
                yield f"{name}.{key}{_signature(member)}"
            else:
                yield f"{name}.{key}"
    elif callable(thing):
        yield f"{name}{_signature(thing)}"
    elif isinstance(thing, Mapping):
        yield from (f"{name}[{key!r}]" for key in thing)
    else:
        assert not isinstance(thing, ModuleType), f"{name} is a module"
        yield name


def _members(kind: type) -> set[str]:
    """Public attributes that the class or a parent of this project defines; those of torch and Python are not ours."""
    ours = [parent for parent in kind.__mro__ if parent.__module__.split(".")[0] == "lso"]
    names = {name for parent in ours for name in vars(parent)}
    if dataclasses.is_dataclass(kind):
        names |= {field.name for field in dataclasses.fields(kind)}
    return {name for name in names if not name.startswith("_")}


def _signature(function: Any) -> str:
    """Names, kinds and defaults of the parameters; annotations are the type checker's."""
    shown, stars = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not stars:
            shown.append("*")
        stars |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        default = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
        shown.append(f"{KINDS.get(parameter.kind, '')}{parameter.name}{default}")
    return f"({', '.join(shown)})"


def _default(value: Any) -> str:
    return "<function>" if callable(value) else repr(value)


def commands() -> list[str]:
    """One line a command's argument or option: its names, whether it takes a value, its default."""
    import typer.main

    from lso.cli.main import app

    lines = []
    pending: list[tuple[str, Any]] = [("lso", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop(0)
        for parameter in command.params:
            names = " ".join(sorted([*parameter.opts, *parameter.secondary_opts]))
            takes = "" if getattr(parameter, "is_flag", False) else f" {parameter.type.name}"
            many = " ..." if parameter.multiple or parameter.nargs != 1 else ""
            asked = " required" if parameter.required else ""
            lines.append(f"{name} {names}{takes}{many} = {_default(parameter.default)}{asked}")
        pending += [(f"{name} {key}", command.load(key)) for key in getattr(command, "commands", ())]
    return lines


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all keys of a JSON value; elements of a list are one, ``[]``, and so are the values of a free mapping.

    Args:
        value: decoded JSON.
        path: of the value.
    """
    if isinstance(value, dict):
        for key, below in value.items():
            yield from keys(below, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield path
        for below in value:
            yield from keys(below, f"{path}[]")
    else:
        yield path
