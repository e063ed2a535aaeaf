"""What the README shows is what runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lso.optimizers import BLACK_BOX_OPTIMIZERS
from lso.tasks.task import TASKS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_example_runs_as_it_stands(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))  # one goes on where the other ends
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    units, best = done.stdout.splitlines()
    assert int(units) > 0 and float(best.split()[0]) > 0
    assert (tmp_path / "runs" / "ink" / "report.html").is_file()
    assert "The same numbers" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_command_line_of_the_readme_parses() -> None:
    from typer.testing import CliRunner

    from lso.cli.main import app

    lines = re.findall(r"^    lso (.+?)(?:\s{2,}#.*)?$", README, flags=re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        command, *rest = line.split()
        named = [command, rest[0]] if command == "benchmark" else [command]  # a group
        shown = CliRunner().invoke(app, [*named, "--help"]).output
        for option in (word for word in rest if word.startswith("--")):
            assert option in shown, f"lso {line}: {option}"


def test_problems_and_optimizers_of_the_readme_are_those_of_the_tables() -> None:
    for begin, rows in (
        ("A score without gradients is optimized by", list(BLACK_BOX_OPTIMIZERS)),
        ("Tasks with a score:", [name for name, row in TASKS.items() if row.goal]),
    ):
        sentence = re.split(r"\.\s", README.partition(begin)[2])[0]
        assert sorted(re.findall(r"`([^` ]+)`", sentence)) == sorted(rows)


def test_files_that_the_readme_names_are_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).is_file(), link
