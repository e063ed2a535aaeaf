"""The benchmark of help times runs and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def help_time(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "help_time.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_command_has_its_seconds_and_its_ratio_to_the_small_app() -> None:
    done = help_time("--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["commands"]
    assert set(found) == {"small app --help", "lso --help", "lso train --help"}
    assert all(figures["seconds"] > 0 and figures["ratio"] > 0 for figures in found.values())
    assert found["small app --help"]["ratio"] == 1


@pytest.mark.parametrize("rounds", ["0", "-1"])
def test_too_few_rounds_are_refused(rounds: str) -> None:
    done = help_time("--rounds", rounds)
    assert done.returncode == 2 and f"--rounds must be at least 1, got {rounds}" in done.stderr
