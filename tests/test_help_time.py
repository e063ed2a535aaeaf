"""The benchmark of help times runs, and its ratios are those of medians."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def help_time(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "help_time.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_ratio_is_that_of_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = importlib.import_module("help_time").summarize({"small app --help": [1, 2, 9], "lso --help": [3, 3, 0.5]})
    assert found == {"small app --help": {"seconds": 2, "ratio": 1}, "lso --help": {"seconds": 3, "ratio": 1.5}}


@pytest.mark.slow
def test_each_command_has_its_seconds_and_its_ratio_to_the_small_app() -> None:
    done = help_time("--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["commands"]
    assert set(found) == {"small app --help", "lso --help", "lso train --help"}
    assert all(figures["seconds"] > 0 and figures["ratio"] > 0 for figures in found.values())
    assert found["small app --help"]["ratio"] == 1


def test_no_rounds_are_refused() -> None:
    done = help_time("--rounds", "0")
    assert done.returncode == 2 and "--rounds must be at least 1, got 0" in done.stderr
