"""The demonstration tells the same story with other seeds: its verdicts and values, and that its words are theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT


def read(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_collapsed_model_is_doubted_and_its_living_twin_finds_what_was_looked_for(
    elsewhere: Path, seed: int
) -> None:
    command = [sys.executable, str(ROOT / "docs" / "demo.py"), "demo", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=elsewhere, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    demo = elsewhere / "demo"
    assert read(demo / "search")["verdict"]["level"] == "fine"
    levels = {name: read(demo / name)["verdict"]["level"] for name in ("collapsed", "alive", "alive-random")}
    best = {name: read(demo / name)["essence"]["best value"] for name in levels}
    assert levels["collapsed"] == "doubt" and levels["alive"] in ("fine", "care"), levels
    assert best["alive"] > 0.9 > 0.8 > best["collapsed"], best
    dimensions = read(demo / "collapsed")["groups"][0]["dimensions"]
    assert sum(value < 0.01 for value in dimensions["variance"]) >= 16  # the dead ones, which the plot shows
    words = " ".join(done.stdout.split())
    for name in levels:
        assert f"probability {best[name]:.2f}" in words or f"with {best[name]:.2f}" in words
    page = (demo / "comparison" / "report.html").read_text(encoding="utf-8")
    assert "do not believe · collapsed" in page.lower() and 'alt="alive: rank 1, value' in page
