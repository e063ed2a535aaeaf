"""``lso benchmark lagging``: one call, repeated, cut, and mistakes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lso.tasks.datasets import synthetic_text as synthetic
from lso.tasks.papers.lagging import LaggingConfig
from tests.cli.conftest import Lso, line
from tests.cli.test_commands import told
from tests.cli.test_errors import refused

TINY = LaggingConfig(limit=32, epochs=1, stages=(0, 1), points=5, stride=2.0, moves=1, offset=False)


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A quick size of 32 sequences."""
    monkeypatch.setattr(synthetic, "SPLIT_SIZES", {"train": 64, "validation": 20, "test": 16})
    monkeypatch.setattr("lso.cli.commands.benchmark.QUICK", TINY)
    few = {"vae": "vae", "aggressive": "aggressive:window=2,cap=4"}  # inner steps
    monkeypatch.setattr("lso.tasks.papers.lagging.METHODS", few)
    monkeypatch.setattr("lso.tasks.papers.lagging.METHODS_OF_ONE", few)
    yield


def test_one_call_trains_measures_and_tells(lso: Lso, no_report: None, monkeypatch: pytest.MonkeyPatch) -> None:
    result = lso("benchmark", "lagging", "--quick", "--no-offset", "--out", "bench")
    assert result.exit_code == 0, result.stderr
    for words in ("plain training collapses", "aggressive epochs", "report: bench/report.html"):
        assert words in " ".join(result.stdout.split())
    assert "training sequences: 32 instead of 16,000" in result.stderr
    assert Path("bench/posterior-means-s0.png").is_file() and Path("bench/one-datum.png").is_file()
    monkeypatch.setattr("lso.vae.training.loop.resume_training", None)  # kept: nothing is trained again
    values: dict[str, Any] = told(lso("benchmark", "lagging", "--quick", "--no-offset", "--out", "bench", "--json"))
    assert values["cut"] == "" and len(values["endings"]) == 2 and len(values["claims"]) == 2
    with Path("bench/vae-s0/config.toml").open("a") as file:
        file.write("# mine\n")
    command = ("benchmark", "lagging", "--quick", "--no-offset", "--out", "bench")
    refused(lso(*command), 1, "config.toml was damaged or edited", "--accept-changes")
    again = lso(*command, "--accept-changes")
    assert again.exit_code == 0, again.stderr


def test_a_time_limit_says_what_was_cut_and_how_to_go_on(lso: Lso) -> None:
    command = ("benchmark", "lagging", "--quick", "--no-offset", "--time-limit", "0", "--out", "bench")
    result = lso(*command)
    assert result.exit_code == 0, result.stderr
    assert f"reached the time limit; continue: {line(*command)}\n" in result.stdout
    assert "Cut off: reached the time limit" in Path("bench/report.html").read_text()


def test_mistakes_are_two_lines(lso: Lso) -> None:
    refused(lso("benchmark", "lagging", "--stages", "0,x"), 2, "cannot read the stages")
    refused(lso("benchmark", "lagging", "--seeds", "0"), 2, "seeds >= 1")
    refused(lso("benchmark", "lagging", "--stride", "-1"), 2, "stride > 0")
    refused(lso("benchmark", "lagging", "--data", "nowhere"), 1, "nowhere")
