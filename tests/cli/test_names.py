"""File names and messages that are no UTF-8: shown with escapes, kept as they are, found again."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lso.vae.runs import Run
from lso.vae.utils.files import printable, utf8
from tests.cli.conftest import ROOT, Lso

CAFE = os.fsdecode(b"caf\xe9")  # as Latin-1 systems wrote it
SHOWN = "caf\\udce9"


@pytest.fixture
def picture(elsewhere: Path) -> str:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(f"{CAFE}.png")
    return f"{CAFE}.png"


def test_no_text_is_written_as_an_escape_that_json_reads_back() -> None:
    for text in (CAFE, "\ud800 alone", "plain é"):
        assert json.loads(utf8(json.dumps(text, ensure_ascii=False))) == text
    assert printable(CAFE) == SHOWN and printable("é") == "é"


def test_a_target_of_such_a_name_is_searched_for_and_reported(lso: Lso, run: Run, picture: str) -> None:
    done = lso("optimize", "--target", picture, "--starts", 2, "--max-steps", 25, "--device", "cpu", "--out", CAFE)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == SHOWN and f"for {SHOWN}.png" in done.stderr
    found = Run(CAFE)
    assert found.info["status"] == "finished" and found.info["target"] == picture
    assert SHOWN in (found.path / "report.html").read_text(encoding="utf-8")
    with (found.path / "results" / "results.csv").open(encoding="utf-8") as file:
        assert {row["name"] for row in csv.DictReader(file)} == {f"{SHOWN}.png"}
    told = lso("report", CAFE, "--out", f"{CAFE}-report", "--json")
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["report"] == f"{CAFE}-report/report.html"


@pytest.mark.usefixtures("plain_report")
def test_such_a_target_is_found_again_by_resume(lso: Lso, run: Run, picture: str) -> None:
    search = ("optimize", "--target", picture, "--optimizer", "random", "--device", "cpu", "--out", CAFE)
    assert lso(*search, "--budget", 4).exit_code == 0
    done = lso("optimize", "--resume", CAFE, "--budget", 8, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["run"] == CAFE and Run(CAFE).info["sought"]["target"] == picture


def test_the_commands_that_look_take_such_names(lso: Lso, run: Run, picture: str) -> None:
    for command in (
        ("interpolate", run.path, picture, "test:1", "--steps", 3),
        ("encode", run.path, "--data", picture, "--out", f"{CAFE}.npz"),
        ("decode", run.path, f"{CAFE}.npz", "--out", f"{CAFE}.d.png"),
    ):
        done = lso(*command)
        assert done.exit_code == 0, done.stderr
        assert SHOWN in done.stdout


@pytest.mark.usefixtures("plain_report")
def test_what_a_score_says_is_kept_whatever_it_is(lso: Lso, run: Run) -> None:
    lines = ["calls = []", "def score(xs):", "    calls.append(1)"]
    lines += ["    if len(calls) % 2: raise ValueError('half a \\ud800 letter')"]
    lines += ["    return [float(x.sum()) for x in xs]"]
    Path("moody.py").write_text("\n".join(lines))
    search = ("optimize", "--objective", "moody:score", "--maximize", "--optimizer", "random", "--device", "cpu")
    done = lso(*search, "--budget", 4, "--batch", 1, "--out", "found", "--json")
    assert done.exit_code == 0, done.stderr
    with Path("found/results/results.csv").open(encoding="utf-8") as file:
        assert any("half a \\ud800 letter" in row["reason"] for row in csv.DictReader(file))
    again = lso("optimize", "--resume", "found", "--budget", 6, "--device", "cpu", "--trust")
    assert again.exit_code == 0, again.stderr


@pytest.mark.usefixtures("plain_report")
def test_a_score_that_says_nothing_else_ends_in_such_a_sentence(lso: Lso, run: Run) -> None:
    Path("moody.py").write_text("def score(xs):\n    raise ValueError('half a \\ud800 letter')\n")
    search = ("optimize", "--objective", "moody:score", "--maximize", "--optimizer", "random", "--device", "cpu")
    done = lso(*search, "--budget", 1, "--batch", 1, "--out", "found")
    assert done.exit_code == 1 and "half a \\ud800 letter" in done.stderr
    assert "half a \ud800 letter" in Run("found").info["sentence"]
    assert "half a \\ud800 letter" in lso("doctor", "found").stdout


def test_data_that_config_toml_could_not_name_are_refused_before_anything_is_made(lso: Lso, elsewhere: Path) -> None:
    Path(CAFE).mkdir()
    done = lso("train", "--method", "vae", "--data", CAFE, "--out", "run")
    assert done.exit_code == 2 and "expected a name in UTF-8, got " in done.stderr and "caf" in done.stderr
    assert [path.name for path in Path().iterdir()] == [CAFE]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_of_other_encodings_get_escapes_and_json(elsewhere: Path, encoding: str) -> None:
    """A run's name is all of this that the command prints."""
    (folder := Path("runs", "größe ∞")).mkdir(parents=True)
    (folder / "run.json").write_text('{"kind": "train", "status": "finished"}')
    told = subprocess.run(
        [sys.executable, "-m", "lso", "list", "runs", "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    ).stdout
    assert "größe ∞" in json.dumps(json.loads(told.decode(encoding)), ensure_ascii=False)
