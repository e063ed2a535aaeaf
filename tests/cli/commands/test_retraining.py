"""``lso optimize --retrain-every``: from the command line, with 60 digits and a score of one's own."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from lso.results.export import read_evaluations
from lso.tasks.retraining.records import Round
from lso.vae.runs import Run
from tests.charts import leave_charts_out
from tests.vae.small import assert_same_run

Lso = Callable[..., Result]
DATA, EVERY, BUDGET = 60, 3, 8
OBJECTIVE = ("optimize", "--objective", "ink:score", "--maximize", "--optimizer", "random", "--device", "cpu")
SEARCH = (*OBJECTIVE, "--budget", BUDGET, "--batch", 2, "--retrain-every", EVERY, "--retrain-data", DATA)


@pytest.fixture(autouse=True)
def ink(elsewhere: Path) -> None:
    """A score; the process that runs it is interrupted at the calls that a file names."""
    Path("ink.py").write_text(
        "import signal\nfrom pathlib import Path\n\ndef score(xs):\n    calls = Path('calls').open('a')\n"
        "    calls.write('.' * len(xs))\n    stop = Path('stop')\n"
        "    if stop.exists() and calls.tell() >= int(stop.read_text()):\n"
        "        stop.unlink()\n        signal.raise_signal(signal.SIGINT)\n"
        "    calls.close()\n    return [float(x.sum()) for x in xs]\n"
    )


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without charts."""
    leave_charts_out(monkeypatch)


def rounds(folder: str) -> list[Round]:
    return [Round.read(path) for path in sorted(Path(folder).glob("rounds/*/round.json"))]


def calls(folder: str) -> list[Any]:
    return [
        [(r.z, r.value, r.duplicate_of) for r in read_evaluations(path)]
        for path in sorted(Path(folder).glob("rounds/*/search"))
    ]


def test_a_search_that_retrains_ends_in_a_table_a_verdict_and_a_report(lso: Lso, run: Run) -> None:
    result = lso(*SEARCH, "--out", "found")
    assert result.exit_code == 0, result.stderr
    found, done = Run("found"), rounds("found")
    assert (found.kind, found.info["status"]) == ("search", "finished")
    assert [row.unique for row in done] == [3, 6, 8]
    assert "random, budget 8, batch 2, retraining every 3 objects (k 0.001), seed 0" in result.stderr
    for row in done:  # one line each
        assert f"round {row.number}: {row.unique} unique  best {row.best:.4g}  drift {row.drift.per_active:.2g}" in (
            result.stderr
        )
    told = json.loads(Path("found/report.json").read_text())
    assert told["verdict"]["sentence"] in result.stdout and result.stdout.splitlines()[-1] == "found"
    page = Path("found/report.html").read_text()
    assert page.count("data:image/png") == 2 + BUDGET  # two charts and the objects
    with Path("found/results/best.csv").open() as file:
        best = list(csv.DictReader(file))
    assert float(best[0]["value"]) == done[-1].best and len(best) == BUDGET
    assert len(list(Path("found/results/images").iterdir())) == BUDGET
    assert Path("calls").stat().st_size == DATA + BUDGET


@pytest.mark.usefixtures("plain")
def test_the_report_has_the_numbers_of_the_rounds(lso: Lso, run: Run) -> None:
    assert lso(*SEARCH, "--out", "found", "--json").exit_code == 0
    told, done = json.loads(Path("found/report.json").read_text()), rounds("found")
    for row, stage, records in zip(done, told["rounds"], calls("found"), strict=True):
        assert (stage["number"], stage["drawn"], stage["unique"]) == (row.number, row.drawn, row.unique)
        assert stage["drift"]["per_active"] == pytest.approx(row.drift.per_active, rel=1e-5)
        assert stage["anchors"]["reproduced"] == pytest.approx(row.anchors.reproduced, rel=1e-5)
        new = [value for _, value, twin in records if twin is None]
        assert stage["values"] == pytest.approx(new, rel=1e-5) and stage["counters"]["calls"] == len(records)
        assert stage["best_of_round"] == pytest.approx(max(new), rel=1e-5)
    assert told["rounds"][-1]["still_standing"] == 1.0  # the last model has not moved on
    assert told["essence"]["best value"] == pytest.approx(done[-1].best, rel=1e-5)
    assert told["essence"]["rounds"] == len(done)
    seconds = told["groups"][0]["best_so_far"]["seconds"]["x"]
    assert seconds == sorted(seconds) and len(seconds) == BUDGET
    assert seconds[EVERY] > done[0].training_seconds + done[0].search_seconds + done[1].training_seconds
    assert {check["name"] for check in told["verdict"]["checks"]} >= {"retraining", "codes", "anchors", "control"}


@pytest.mark.usefixtures("plain", "plain_report")
def test_it_is_listed_examined_and_set_beside_a_plain_search(lso: Lso, run: Run) -> None:
    assert lso(*SEARCH, "--out", "runs/found").exit_code == 0
    assert "random, retraining every 3" in lso("list", "runs").stdout
    told = lso("doctor", "runs/found")
    assert told.exit_code == 0 and "3 rounds complete" in told.stdout and "lso report" in told.stdout
    assert lso(*OBJECTIVE, "--budget", BUDGET, "--out", "runs/plain").exit_code == 0
    result = lso("report", "runs/found", "runs/plain", "--out", "both")
    assert result.exit_code == 0, result.stderr
    lines = {line.split("  ")[0]: line.split() for line in result.stdout.splitlines()}
    assert lines["unique, all seeds"][-2:] == [str(BUDGET)] * 2
    assert Path("both/report.html").is_file()


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("at", [20, DATA + 4])  # among the training data, and in the second search
def test_ctrl_c_keeps_what_there_is_and_resuming_ends_as_if_nothing_had_happened(lso: Lso, run: Run, at: int) -> None:
    Path("stop").write_text(str(at))
    result = lso(*SEARCH, "--out", "broken")
    assert result.exit_code == 130, result.stderr
    assert Run("broken").info["status"] == "stopped" and "interrupted" in Run("broken").info["sentence"]
    assert Path("broken/report.html").is_file() == (at > DATA)
    again = lso("doctor", "broken")
    assert again.exit_code == 0 and "lso optimize --resume broken" in again.stdout
    result = lso("optimize", "--resume", "broken", "--device", "cpu", "--trust")
    assert result.exit_code == 0 and "Continuing broken" in result.stderr
    assert Path("calls").stat().st_size == DATA + BUDGET  # nothing was scored twice
    assert lso(*SEARCH, "--out", "whole").exit_code == 0
    assert calls("broken") == calls("whole")
    for number in range(3):
        assert_same_run(Path(f"broken/rounds/0{number}/train"), Path(f"whole/rounds/0{number}/train"))


@pytest.mark.usefixtures("plain")
def test_a_time_limit_stops_it_and_a_larger_budget_goes_on(lso: Lso, run: Run) -> None:
    result = lso(*SEARCH, "--out", "found", "--time-limit", "0.000001s")
    assert result.exit_code == 0, result.stderr
    assert Run("found").info["status"] == "stopped" and "time limit" in result.stdout
    result = lso("optimize", "--resume", "found", "--budget", BUDGET + 2, "--device", "cpu", "--json", "--trust")
    assert json.loads(result.stdout)["status"] == "finished" and rounds("found")[-1].unique == BUDGET + 2


@pytest.mark.usefixtures("plain")
def test_training_data_too_are_scored_in_other_processes(lso: Lso, run: Run) -> None:
    Path("far.py").write_text(
        f"import os\n\ndef score(xs):\n    assert os.getpid() != {os.getpid()}\n    return [float(xs[0].sum())]\n"
    )
    given = ("--workers", 2, "--retrain-data", 12, "--retrain-every", 3, "--budget", 3, "--out", "found")
    result = lso("optimize", "--objective", "far:score", "--minimize", "--optimizer", "random", *given)
    assert result.exit_code == 0, result.stderr
    told = json.loads(Path("found/report.json").read_text())
    assert told["extra"]["of them without a value"] == 0 and told["rounds"][0]["counters"]["failed"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*OBJECTIVE, "--retrain-k", "0.1"), "--retrain-k: only for a search that retrains"),
        ((*OBJECTIVE, "--retrain-epochs", "2", "--retrain-data", "9"), "--retrain-data, --retrain-epochs: only for"),
        ((*SEARCH, "--seeds", "2"), "--seeds: not for a search that retrains"),
        ((*SEARCH, "--chart", "active", "--surrogate", "decoded"), "--chart, --surrogate: not for"),
        ((*SEARCH, "--asynchronous"), "--asynchronous: not for"),
        ((*SEARCH, "--prior-weight", "1"), "--prior-weight: not for"),
        ((*SEARCH, "--optimizer", "adam"), "only for black-box optimizers, and adam is none"),
        ((*SEARCH, "--optimizer", "turbo:colour=red"), "has no option colour"),
        ((*SEARCH, "--known", "5"), "there are no data with known values for ink:score"),
        ((*SEARCH, "--retrain-k", "0"), "expected k > 0"),
        ((*SEARCH, "--retrain-epochs", "0"), "expected epochs > 0"),
        ((*SEARCH, "--retrain-first-epochs", "-1"), "expected first_epochs >= 0"),
        ((*SEARCH, "--target", "test:1"), "weights training data by a score"),
        (("optimize", "--target", "test:1", "--retrain-every", "5"), "weights training data by a score"),
        (
            ("optimize", "--resume", "runs/digits", "--retrain-every", "5"),
            "--retrain-every: a resumed search keeps its own",
        ),
        (("optimize", "--objective", "ink:missing", "--maximize", "--retrain-every", "5"), "ink"),
    ],
)
def test_what_makes_no_sense_is_refused_in_two_lines_and_leaves_no_folder(
    lso: Lso, run: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = lso(*arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in Path("runs").iterdir()] == ["digits"]


def test_a_model_without_its_training_data_is_refused(lso: Lso, run: Run) -> None:
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace('task = "digits"', 'task = "given"'))
    Run(run.path, accept_changes=True)
    result = lso(*SEARCH)
    assert result.exit_code == 2 and "were given in Python" in result.stderr


@pytest.mark.usefixtures("plain")
def test_where_nothing_is_valid_it_ends_and_says_so(lso: Lso, run: Run) -> None:
    Path("ink.py").write_text("def score(xs):\n    return [None] * len(xs)\n")
    result = lso(*SEARCH, "--max-calls", 6, "--out", "found")
    assert result.exit_code == 0, result.stderr
    assert Run("found").info["status"] == "invalid" and "Nothing new in a round" in result.stdout
    assert "\nDo not believe this result: " in result.stdout
    assert "0 of 6 calls scored a new valid object (6 invalid)" in result.stdout
    checks = json.loads(Path("found/report.json").read_text())["verdict"]["checks"]
    assert [check["level"] for check in checks if check["name"] == "calls"] == ["doubt"]
    told = lso("doctor", "found")
    assert told.exit_code == 0 and "6 of 6 calls decoded to invalid objects" in told.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "the score failed on 8 training objects in a row and gave no value yet"),
        (("--max-failures", 100), "the score failed on the first 50 training data"),
    ],
)
@pytest.mark.usefixtures("no_report")
def test_a_score_that_fails_on_all_training_data_says_so(
    lso: Lso, run: Run, more: tuple[object, ...], words: str
) -> None:
    Path("ink.py").write_text("def score(xs):\n    return ['much'] * len(xs)\n")
    result = lso(*SEARCH, *more, "--out", "found")
    assert result.exit_code == 1 and f"error: {words}: the score gave str 'much'" in result.stderr, result.stderr
    assert Run("found").info["status"] == "failed"
