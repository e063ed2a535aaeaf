"""The reference names all that users rely on, and says something of each."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from docs.site import command_pages, tables
from lso.analysis.latent_dimensions import WEAK_BELOW
from lso.analysis.verdict import REENCODING_RATIO
from lso.cli.commands import COMMANDS
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.config.methods import METHODS, method, parameters
from lso.vae.metrics.collapse import COLLAPSED_SHARE, INFORMATION, INFORMATION_IN_FEW, MIN_DIMENSION_NATS

DOCS = Path(__file__).resolve().parents[2] / "docs"
MARK = r"\{\{ (" + "|".join(tables.MARKS) + r") ([^}]+) \}\}"
PAGES = {"lso": "python.md", "lso.vae": "vae.md", "lso.tasks": "tasks.md"}


@pytest.mark.parametrize("name", PAGES)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    page = DOCS / "reference" / PAGES[name]
    shown = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = set(importlib.import_module(name).__all__)
    assert wanted - set(shown) == set(), f"write a line `::: {name}.NAME` for each into {page.relative_to(DOCS.parent)}"
    assert sorted(shown) == sorted(wanted), "names that are not public, or twice"


@pytest.mark.parametrize("name", PAGES)
def test_every_public_class_and_function_says_what_it_is(name: str) -> None:
    package = importlib.import_module(name)
    things = {one: getattr(package, one) for one in package.__all__}
    silent = [
        one
        for one, thing in things.items()
        if (inspect.isclass(thing) or callable(thing))
        and (not (text := inspect.getdoc(thing) or "") or text.startswith(f"{one}("))  # what a dataclass makes up
    ]
    assert silent == [], f"{name}: without a docstring"


def test_every_command_and_flag_says_what_it_does() -> None:
    assert command_pages.undocumented() == []


def test_pages_of_commands_name_every_flag() -> None:
    for name in COMMANDS:
        page = command_pages.command_page(name)
        for one in command_pages.parameters(name):
            assert all(f"`{flag}`" in page for flag in one.opts if flag.startswith("-")), f"lso {name} {one.opts}"


def test_readme_gives_the_error_rates_of_the_log() -> None:
    readme = " ".join((DOCS.parent / "README.md").read_text(encoding="utf-8").split())
    if "Is the verdict right?" not in readme:
        pytest.skip("the README leaves the error rates to the documentation")
    cases, missed, false_alarms = tables.study_rows()["searches"][:3]
    wrong, unsound = re.findall(r"\d+", missed)[:2]
    doubted, sound = re.findall(r"\d+", false_alarms)[:2]
    said = "none of them was" if doubted == "0" else f"{doubted} of them were"
    assert f"Of {cases} searches on which no threshold was set, {unsound} should not be believed" in readme
    assert f"{wrong} of them passed" in readme and f"{sound} are sound: {said} doubted" in readme


def test_concepts_give_the_error_rates_of_the_log() -> None:
    page = (DOCS / "concepts.md").read_text(encoding="utf-8")
    assert tables.error_rates() in page, f"write this table there:\n{tables.error_rates()}"
    rows = tables.study_rows()["searches"]
    assert f"{rows[5].partition(' = ')[0]} bad targets" in page and f"{rows[2].partition(' = ')[0]} sound" in page


# Sentences of docs/concepts.md with a threshold, and the constant that it is.
THRESHOLDS = {
    "under {:g} nat the model has **collapsed**": INFORMATION.doubt,
    "under {:g} nats in fewer than": INFORMATION_IN_FEW.doubt,
    "fewer than {:.0%} of the dimensions": COLLAPSED_SHARE,
    "under {:g} nats its codes carry **little**": INFORMATION.care,
    "its mean KL is at least {:g} nats": MIN_DIMENSION_NATS,
    "its squared effect is under {:.0%} of the largest": WEAK_BELOW,
    "what {:.1%} of prior draws have": MAX_TYPICAL_PERCENTILE,
    "more than {:g} times the one of prior draws": REENCODING_RATIO.care,
}


@pytest.mark.parametrize("sentence", THRESHOLDS)
def test_concepts_give_the_thresholds_of_the_code(sentence: str) -> None:
    page = " ".join((DOCS / "concepts.md").read_text(encoding="utf-8").split())
    assert sentence.format(THRESHOLDS[sentence]).replace("%", " %") in page


def test_what_pages_take_from_the_code_is_there() -> None:
    for page in DOCS.rglob("*.md"):
        for mark, argument in re.findall(MARK, page.read_text(encoding="utf-8")):
            assert tables.MARKS[mark](argument), f"{page.name}: {mark} {argument}"


def test_parameters_of_methods_are_all_explained() -> None:
    table = command_pages.method_parameters()
    for name, spec in METHODS.items():
        taken = set(parameters(name)) if method(name, **spec.example).latents else set()
        shown = set(re.findall(rf"^\| `(?:{name}|all)` \| `(\w+)`", table, re.MULTILINE))
        assert taken <= shown, f"{name}: {taken - shown}"
