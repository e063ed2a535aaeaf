"""``lso benchmark image-targets``: models in one call, what was cut, what is kept."""

from pathlib import Path
from typing import Any

import pytest

from lso.vae import runs
from lso.vae.runs import Run
from tests.cli.conftest import Lso, line
from tests.cli.test_commands import told
from tests.cli.test_errors import refused

FEW = ("--targets", 3, "--max-steps", 200, "--thresholds", "0.5,0")


def test_models_are_searched_in_one_call_and_kept(lso: Lso, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = lso("benchmark", "image-targets", "--models", run.path, *FEW, "--lr", "0.01,0.1", "--out", "bench")
    assert result.exit_code == 0, result.stderr
    for words in (
        "all as one",
        "squared code distance, dead dims",
        "report: bench/report.html",
    ):
        assert words in " ".join(result.stdout.split())
    assert "NOT the paper's data (omniglot), but digits" in result.stderr and "published" not in result.stdout
    assert "Learning rate 0.1" in Path("bench/report.html").read_text()
    monkeypatch.setattr("lso.tasks.papers.image_targets.benchmark", None)  # kept: nothing is searched again
    values: dict[str, Any] = told(lso("benchmark", "image-targets", run.path, *FEW, "--out", "bench", "--json"))
    assert values["cut"] == "" and values["claims"] == [] and values["settings"]["targets"] == 3
    assert len(values["learning_rates"]["0.01"][0]["gap"]) == 2


def test_a_page_on_substitute_data_names_it(lso: Lso, run: Run) -> None:
    runs.update_run(run, dataset={**run.info["dataset"], "provenance": {"substitute": True}})
    result = lso("benchmark", "image-targets", run.path, *FEW, "--out", "bench")
    assert "substitute for digits" in Path("bench/report.html").read_text()
    assert "substitute for digits" in result.stderr


def test_a_time_limit_says_what_was_cut_and_how_to_go_on(lso: Lso, run: Run) -> None:
    some = ("--targets", 3, "--max-steps", 1_000_000, "--thresholds", 0, "--lr", "0.000001,0.1")
    command = ("benchmark", "image-targets", run.path, *some, "--time-limit", "1s", "--out", "a bench")
    result = lso(*command)
    assert result.exit_code == 0, result.stderr
    assert f"reached the time limit; continue: {line(*command)}\n" in result.stdout
    assert "Cut off" in Path("a bench/report.html").read_text()
    waiting = "digits at learning rate 1e-06, digits at learning rate 0.1"
    assert f"Not searched, or not to the end: {waiting}." in " ".join(result.stderr.split())
    assert "before the cap, or before a search was cut off" in " ".join(result.stderr.split())


def test_mistakes_are_two_lines(lso: Lso, run: Run) -> None:
    refused(lso("benchmark", "image-targets"), 2, "no models given")
    refused(lso("benchmark", "image-targets", run.path, "--lr", "fast"), 2, "cannot read the learning rates")
    refused(lso("benchmark", "image-targets", run.path, "--thresholds", "-1"), 2, "thresholds >= 0")
    refused(lso("benchmark", "image-targets", run.path, "--context", "blnk"), 2, "Did you mean 'blank'")
    refused(lso("benchmark", "image-targets", run.path, run.path), 2, "named twice")
