"""What users rely on says what it takes and gives: docstring sections of the public API; elsewhere none are asked."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import lso
import lso.tasks
import lso.vae

PACKAGES = (lso, lso.vae, lso.tasks)


def public() -> Iterator[tuple[str, Any]]:
    """Functions and methods of the public names, as they are called."""
    for package in PACKAGES:
        for name in package.__all__:
            thing = getattr(package, name)
            if inspect.isfunction(thing):
                yield f"{package.__name__}.{name}", thing
            elif inspect.isclass(thing):
                for key, member in vars(thing).items():
                    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                    if inspect.isfunction(function) and not key.startswith("_"):
                        yield f"{package.__name__}.{name}.{key}", function


def section(text: str, heading: str) -> str:
    """What stands below a heading of a docstring, cleaned of its indentation; empty where it is not there."""
    found = re.search(rf"^{heading}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    return found.group(1) if found else ""


@pytest.mark.parametrize(("name", "function"), [pytest.param(*pair, id=pair[0]) for pair in public()])
def test_a_public_function_says_what_it_takes_and_gives(name: str, function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert text, f"{name} has no docstring"
    signature = inspect.signature(function)
    told = set(re.findall(r"^    \*{0,2}(\w+):", section(text, "Args"), re.MULTILINE))
    taken = [p for p in signature.parameters if p not in ("self", "cls")]
    assert [p for p in taken if p not in told] == [], f"{name}: Args: lacks these"
    gives = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    assert not gives or section(text, "Returns") or section(text, "Yields"), f"{name}: Returns: is missing"


def test_the_names_are_many() -> None:
    assert len(list(public())) > 60 and all(package.__all__ for package in PACKAGES)
