"""The reference names all that users rely on, and says something of each."""

import importlib
import re
from pathlib import Path

import pytest

from docs.site import command_pages
from lso.cli.commands import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {"lso": "python.md", "lso.vae": "vae.md", "lso.tasks": "tasks.md"}


@pytest.mark.parametrize("name", PAGES)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    page = DOCS / "reference" / PAGES[name]
    shown = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = set(importlib.import_module(name).__all__)
    assert wanted - set(shown) == set(), f"write a line `::: {name}.NAME` for each into {page.relative_to(DOCS.parent)}"
    assert sorted(shown) == sorted(wanted), "names that are not public, or twice"


def test_every_command_and_flag_says_what_it_does() -> None:
    assert command_pages.undocumented() == []


def test_pages_of_commands_name_every_flag() -> None:
    for name in COMMANDS:
        page = command_pages.command_page(name)
        for one in command_pages.parameters(name):
            assert all(f"`{flag}`" in page for flag in one.opts if flag.startswith("-")), f"lso {name} {one.opts}"
