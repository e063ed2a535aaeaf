"""Run folders that version 0.1.0 wrote at commit 83e3243 open, and go on to what that version would have made of them.

The folders in `tests/data/folders_83e3243` were written there, with ``@HERE@`` for the folder they lay in; what is in
``gone-on`` was written by the same commit, going on with copies. On another processor sums round differently, hence the
tolerances.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lso.vae.runs import Run
from tests.cli.conftest import ROOT, Lso

KEPT = ROOT / "tests" / "data" / "folders_83e3243"
FINISHED = ["images", "gradient", "black-box", "retraining"]
SEARCHES = ["gradient", "black-box", "black-box-killed", "retraining", "retraining-killed"]
SWEEP = ["--config", "small.toml", "--latent-dim", 2, "--method", "vae", "--method", "ne-vae-se:anneal=1", "--seeds", 2]


@pytest.fixture
def here(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, no_report: None, plain_report: None) -> Path:
    """A copy of the folders in the working folder, from which the score of the searches can be imported."""
    shutil.copytree(KEPT, elsewhere, dirs_exist_ok=True)
    for path in elsewhere.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".toml"):
            path.write_text(path.read_text(encoding="utf-8").replace("@HERE@", str(elsewhere)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(elsewhere))
    return elsewhere


def back_to_the_start(place: Path) -> None:
    """What a round's folder held when its training had just begun; its run.json ended in a hash then."""
    shutil.rmtree(place / "search")
    for path in (place / "train").iterdir():
        if path.name not in ("config.toml", "run.json", "start.safetensors"):
            path.unlink()
    values = list(json.loads((place / "train" / "run.json").read_text()).items())
    begun = dict(values[: 1 + [name for name, _ in values].index("start")])
    (place / "train" / "run.json").write_text(json.dumps(begun | {"status": "running", "sentence": ""}))


def evaluations(path: Path) -> list[dict[str, Any]]:
    """The scored objects of a journal; asks and what was known beforehand are left out."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "outcome" in row]


@pytest.mark.parametrize("name", ["images", "images-stopped", "text-stopped"])
def test_trainings_are_read(lso: Lso, here: Path, name: str) -> None:
    shown = lso("evaluate", name, "--json", "--iw-samples", 0)
    assert shown.exit_code == 0, shown.output
    best = [row for row in map(json.loads, (KEPT / name / "metrics.jsonl").read_text().splitlines()) if row["best"]][-1]
    again = lso("evaluate", name, "--json", "--iw-samples", 0, "--split", "validation")
    assert json.loads(again.stdout)["neg_elbo"] == pytest.approx(best["neg_elbo"], rel=0.02)
    assert lso("doctor", name).exit_code == 0


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_are_read(lso: Lso, here: Path, name: str) -> None:
    shown = lso("doctor", name)
    assert shown.exit_code == 0, shown.output
    if name in FINISHED:
        compared = lso("report", name, "--out", "page")
        assert compared.exit_code == 0, compared.output


@pytest.mark.parametrize("name", ["images-stopped", "text-stopped"])
def test_trainings_go_on_to_the_same_weights(lso: Lso, here: Path, name: str) -> None:
    gone_on = lso("train", "--resume", name, "--quiet")
    assert gone_on.exit_code == 0, gone_on.output
    ours, theirs = load_file(here / name / "model.safetensors"), load_file(KEPT / "gone-on" / f"{name}.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(ours[key].allclose(theirs[key], rtol=1e-3, atol=1e-4) for key in ours)


def test_information_of_sequences_is_told_as_what_it_was(lso: Lso, here: Path) -> None:
    """It was that of batches of mixed lengths, which has a name of its own now, and ends the aggressive phase there."""
    old = json.loads((KEPT / "text-stopped" / "metrics.jsonl").read_text().splitlines()[-1])
    row = Run(here / "text-stopped").metrics()[-1]
    assert row["mi_mixed"] == old["mi"] and "mi" not in row
    assert lso("report", "text-stopped", "--out", "page").exit_code == 0
    (told,) = json.loads((here / "page" / "report.json").read_text())["runs"].values()
    assert told["best"]["mi_mixed"] is not None and "mi" not in told["best"]
    assert "MI, mixed lengths" in (here / "page" / "report.html").read_text()
    assert lso("train", "--resume", "text-stopped", "--quiet").exit_code == 0
    run = Run(here / "text-stopped")
    assert run.config.protocol.mi_lengths == "any" and {"mi", "mi_mixed"} <= run.metrics()[-1].keys()


def test_sweeps_go_on(lso: Lso, here: Path) -> None:
    rest = ["--epochs", 2, "--limit", 200, "--alone", "--out", "sweep-stopped", "--quiet"]
    done = lso("sweep", *SWEEP, *rest)
    assert done.exit_code == 0, done.output
    ours = load_file(here / "sweep-stopped" / "ne-vae-se-anneal=1-d2-s1" / "model.safetensors")
    theirs = load_file(KEPT / "gone-on" / "sweep-stopped.safetensors")
    assert all(ours[key].allclose(theirs[key], rtol=1e-3, atol=1e-4) for key in theirs)


def test_black_box_searches_go_on(lso: Lso, here: Path) -> None:
    """What was told stays; the budget is filled. (Proposals of a surrogate are not compared over processors.)"""
    gone_on = lso("optimize", "--resume", "black-box-killed", "--quiet", "--trust")
    assert gone_on.exit_code == 0, gone_on.output
    before = evaluations(KEPT / "black-box-killed" / "evaluations.jsonl")
    after = evaluations(here / "black-box-killed" / "evaluations.jsonl")
    assert [(row["z"], row["value"]) for row in after[: len(before)]] == [(row["z"], row["value"]) for row in before]
    assert len(after) == len(evaluations(KEPT / "gone-on" / "black-box-killed.jsonl")) == 12


@pytest.mark.parametrize("killed", ["searching", "training"])
def test_retrainings_go_on_to_the_same_values(lso: Lso, here: Path, killed: str) -> None:
    """Killed in the last round's search; or already before the first checkpoint of its training."""
    if killed == "training":
        back_to_the_start(here / "retraining-killed" / "rounds" / "01")
    gone_on = lso("optimize", "--resume", "retraining-killed", "--quiet", "--trust")
    assert gone_on.exit_code == 0, gone_on.output
    ours = evaluations(here / "retraining-killed" / "rounds" / "01" / "search" / "evaluations.jsonl")
    theirs = evaluations(KEPT / "gone-on" / "retraining-killed.jsonl")
    assert [row["value"] for row in ours] == pytest.approx([row["value"] for row in theirs], rel=1e-3)
