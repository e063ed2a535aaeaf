"""What griffe does not see in sources: names attached lazily, docstrings made at import, sections without gaps."""

import ast
import importlib
import inspect
import re
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import griffe

HEADINGS = "Args|Returns|Yields|Raises|Source|Example|Examples|Note|Attributes"


def with_blank_lines(text: str) -> str:
    """A docstring with a blank line above each section; our style leaves it out, the Google parser asks for it."""
    text = re.sub(rf"(?<!\n)\n(?=(?:{HEADINGS}):)", "\n\n", text)
    return re.sub(r"^Source: ", "**Source:** ", text, flags=re.MULTILINE)


def attached(source: str) -> dict[str, str]:
    """Public name -> ``module:name`` that defines it, of a package whose ``__init__`` calls `attach`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attach":
            return dict(ast.literal_eval(node.args[1]))
    return {}


class Docstrings(griffe.Extension):
    """Adds attached names, puts blank lines in, and takes docstrings and defaults of settings from their classes."""

    def on_module(self, *, mod: griffe.Module, loader: Any, **kwargs: Any) -> None:
        if mod.is_init_module and isinstance(mod.filepath, Path):
            for name, where in attached(mod.filepath.read_text(encoding="utf-8")).items():
                module, _, other = where.partition(":")
                mod.set_member(name, griffe.Alias(name, f"{module}.{other or name}"))

    def on_attribute(self, *, attr: griffe.Attribute, loader: Any, **kwargs: Any) -> None:
        if (
            attr.parent is not None
            and attr.parent.is_class
            and str(attr.value).startswith(("setting(", "same_setting("))
        ):
            owner = getattr(importlib.import_module(attr.module.path), attr.parent.name)
            field = owner.__dataclass_fields__[attr.name]
            default = field.default if field.default_factory is MISSING else field.default_factory()
            attr.value = None if default is MISSING else repr(default)
            init = attr.parent.members.get("__init__")  # griffe has made it from the source by now
            if isinstance(init, griffe.Function) and attr.name in init.parameters:
                init.parameters[attr.name].default = attr.value

    def on_object(self, *, obj: griffe.Object, loader: Any, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        if obj.is_class and any("documented" in str(one.value) for one in obj.decorators):
            made = getattr(importlib.import_module(obj.module.path), obj.name)
            obj.docstring.value = inspect.getdoc(made) or obj.docstring.value
        obj.docstring.value = with_blank_lines(obj.docstring.value)
