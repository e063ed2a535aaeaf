"""What users rely on is what tests/data/public says: names, signatures, flags, keys of files."""

import difflib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from typer.testing import Result

from lso.vae.runs import Run
from tests.cli import surface

Lso = Callable[..., Result]
KNOWN = Path(__file__).resolve().parents[1] / "data" / "public"


def hold(name: str, lines: Iterable[str], elsewhere: Path) -> None:
    """Compare with what is known, and lay what is found beside the test's files, to be copied where it is wanted.

    A new row of a table (``lso.tasks.TASKS['squares']``) needs no line there; one that stands there must not go.
    """
    found = list(lines)
    (elsewhere / name).write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    known = (KNOWN / name).read_text(encoding="utf-8").splitlines()
    found = [line for line in found if line in known or not line.endswith("']")]
    change = "\n".join(difflib.unified_diff(known, found, "known", "found", lineterm="", n=0))
    assert not change, f"users rely on this:\n{change}\nWhere it is wanted: CHANGELOG.md, and {elsewhere / name} here"


def test_public_names_and_their_signatures(elsewhere: Path) -> None:
    hold("names.txt", surface.public_names(), elsewhere)


def test_commands_and_their_flags(elsewhere: Path) -> None:
    hold("commands.txt", surface.commands(), elsewhere)


def keys_of(path: Path) -> list[str]:
    """Of a JSON file, or over all lines of a JSONL file."""
    text = path.read_text(encoding="utf-8")
    values = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
    found = {key for value in values for key in surface.keys(value)}
    # One key a library, and one that is there in a checkout alone.
    found = {key for key in found if ".versions." not in f".{key}" and key.split(".")[-1] != "git"}
    return [f"{path.parent.name}/{path.name} {key}" for key in sorted(found)]


@pytest.mark.usefixtures("plain_report")
def test_keys_of_the_files_that_runs_leave(lso: Lso, run: Run, elsewhere: Path) -> None:
    common = ("--model", run.path, "-q")
    searches = {
        "by-gradient": ("--target", "test:2", "--starts", 2, "--max-steps", 5),
        "black-box": ("--target", "test:1", "--optimizer", "random", "--budget", 4),
    }
    for name, arguments in searches.items():
        result = lso("optimize", *common, *arguments, "--out", name)
        assert result.exit_code == 0, result.stderr
    files = [run.path / "run.json", run.path / "metrics.jsonl"]
    files += [Path(name) / file for name in searches for file in ("run.json", "report.json", "evaluations.jsonl")]
    hold("files.txt", (line for file in files for line in keys_of(file)), elsewhere)
