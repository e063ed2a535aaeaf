"""Models that are installed with lso, from the command line: searched, compared, drawn from, and left as they are."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from lso.vae.runs import CONFIG, Run
from lso.vae.zoo import FOLDER, read_card, zoo_names
from tests.cli.conftest import Lso


@pytest.fixture(autouse=True)
def untouched() -> object:
    """Nothing is written into the installed package."""
    before = sorted(FOLDER.rglob("*"))
    yield
    assert sorted(FOLDER.rglob("*")) == before


def test_searches_in_a_pair_of_models_are_compared_with_what_they_found(lso: Lso, elsewhere: Path) -> None:
    for name in ("collapsed", "alive"):
        options = ("--task", "digits-preference", "--optimizer", "random", "--budget", 3, "--quiet", "--out", name)
        done = lso("optimize", "--model", f"zoo:digits-{name}", *options)
        assert done.exit_code == 0, done.output
        assert Run(elsewhere / name).info["model"] == f"zoo:digits-{name}"  # holds on every machine
    longer = lso("optimize", "--resume", "alive", "--budget", 4, "--quiet")
    assert longer.exit_code == 0 and len(json.loads((elsewhere / "alive" / "report.json").read_text())["top"]) == 4
    done = lso("report", "collapsed", "alive", "--out", "both")
    assert done.exit_code == 0, done.output
    page = (elsewhere / "both" / "report.html").read_text(encoding="utf-8")
    for name, count in (("collapsed", 3), ("alive", 4)):
        best = json.loads((elsewhere / name / "report.json").read_text())["top"]
        for found in best[:count]:
            assert f'alt="{name}: rank {found["rank"]}, value ' in page
    assert "Encoder: variance" not in page and 'alt="Activity per dimension' in page  # a picture, with what it shows
    assert "do not believe · collapsed" in page.lower()


def test_pictures_go_to_the_runs(lso: Lso, elsewhere: Path) -> None:
    done = lso("sample", "zoo:digits-alive", "--number", 4)
    assert done.exit_code == 0, done.output
    assert list((elsewhere / "runs" / "zoo-digits-alive" / "pictures").glob("*.png"))
    assert str(FOLDER) not in done.output and "zoo:digits-alive" in done.output


def test_the_list_and_wrong_names(lso: Lso) -> None:
    done = lso("list", "models", "--json")
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {f"zoo:{path.name}" for path in FOLDER.iterdir()}
    assert rows["zoo:expressions-collapsed"]["decoder uses"] == "0 of 16"
    wrong = lso("sample", "zoo:digit")
    assert wrong.exit_code == 2 and len(wrong.stderr.strip().splitlines()) == 2
    assert "unknown model of the zoo 'digit'" in wrong.stderr
    before = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    for flags in ((), ("--epochs", 999)):
        kept = lso("train", "--resume", "zoo:squares", *flags)
        assert kept.exit_code == 2 and "is not changed" in kept.stderr
    assert before == {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}


def test_a_model_is_looked_at_like_any_run(lso: Lso, elsewhere: Path) -> None:
    done = lso("doctor", "zoo:expressions-alive")
    assert done.exit_code == 0 and str(FOLDER) not in done.output, done.output
    done = lso("report", "zoo:digits-alive", "zoo:digits-collapsed", "--out", "pair")
    assert done.exit_code == 0 and (elsewhere / "pair" / "report.html").is_file(), done.output


@pytest.mark.parametrize("name", zoo_names())
def test_the_recipe_on_the_card_is_the_configuration(lso: Lso, name: str) -> None:
    card, run = read_card(name), Run(f"zoo:{name}")
    assert {*card} == {"summary", "recipe", "data", "licence"} and run.info["command"] == card["recipe"]
    begin, end = "lso train ", " --device cpu"
    assert card["recipe"].startswith(begin) and card["recipe"].endswith(end)
    flags = shlex.split(card["recipe"].removeprefix(begin).removesuffix(end))
    told = lso("config", "show", *flags)
    assert tomllib.loads(told.stdout) == tomllib.loads((run.path / CONFIG).read_text())
    for file in run.path.iterdir():  # nothing of the machine that trained it
        if file.suffix in (".json", ".jsonl", ".toml"):
            assert not re.search(r"/(work|home|tmp|root|Users)/", file.read_text()), file
