"""``lso optimize`` as a black box: from the command line."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from lso.results.export import read_evaluations
from lso.tasks.search.black_box import _recorded_target
from lso.vae.runs import Run

Lso = Callable[..., Result]
SEARCH = ("optimize", "--task", "digits-preference", "--budget", 12, "--batch", 4, "--device", "cpu")


def test_a_search_for_a_tasks_goal_ends_in_a_table_a_verdict_and_a_report(lso: Lso, run: Run) -> None:
    result = lso(*SEARCH, "--optimizer", "random")
    assert result.exit_code == 0, result.stderr
    found = Run(result.stdout.splitlines()[-1])
    assert found.kind == "search" and found.info["status"] == "finished"
    assert (found.path / "report.html").is_file() and (found.path / "results" / "best.csv").is_file()
    assert len(read_evaluations(found.path)) == 12
    told = "Searching 4 latents of runs/digits (vae) for digits-preference: random, budget 12, batch 4, seed 0"
    assert told in result.stderr


@pytest.mark.usefixtures("plain_report")
def test_json_is_one_value_with_verdict_and_counts(lso: Lso, run: Run) -> None:
    result = lso(*SEARCH, "--optimizer", "random", "--json")
    told = json.loads(result.stdout)
    assert told["status"] == "finished" and told["reports"][0]["verdict"]["level"] in ("fine", "care", "doubt")


@pytest.mark.usefixtures("plain_report")
def test_several_seeds_are_compared_on_one_page(lso: Lso, run: Run) -> None:
    result = lso(*SEARCH, "--optimizer", "random", "--seeds", 2, "--out", "found")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in Path("found").glob("seed-*")} == {"seed-0", "seed-1"}
    assert (Path("found") / "report.html").is_file() and "2 searches" in Run("found").info["sentence"]


@pytest.mark.usefixtures("plain_report")
def test_a_file_is_read_as_asked_and_an_earlier_search_goes_on_with_what_it_had(lso: Lso, run: Run) -> None:
    np.save("grey.npy", np.random.default_rng(0).integers(1, 255, (1, 8, 8), dtype=np.uint8))
    options = ("--optimizer", "random", "--budget", 4, "--target", "grey.npy")
    values = {}
    for name, flags in (("plain", ()), ("drawn", ("--binarize",)), ("turned", ("--invert",))):
        result = lso("optimize", *options, "--out", name, *flags)
        assert result.exit_code == 0 and "1 target from grey.npy." in result.stderr, result.stderr
        values[name] = [record.value for record in read_evaluations(name)]
    assert len({str(found) for found in values.values()}) == 3
    for name, budget in (("plain", 6), ("drawn", 6)):
        assert lso("optimize", "--resume", name, "--budget", budget).exit_code == 0
        grown = [record.value for record in read_evaluations(name)]
        assert grown[:4] == values[name]
    assert lso("optimize", *options, "--budget", 6, "--out", "six", "--binarize").exit_code == 0
    assert [record.value for record in read_evaluations("six")] == [r.value for r in read_evaluations("drawn")]
    earlier = json.loads(Path("drawn/run.json").read_text())
    del earlier["sought"]["pixels"]  # as version 0.1.0 wrote, which drew every file
    assert _recorded_target(Run("runs/digits"), earlier, ()).pixels == {"binarize": True}
    earlier["sought"]["target"] = "test:1"
    assert _recorded_target(Run("runs/digits"), earlier, ()).pixels == {}


@pytest.mark.usefixtures("plain_report")
def test_a_target_is_searched_for_without_gradients(lso: Lso, run: Run) -> None:
    result = lso("optimize", "--target", "test:2", "--optimizer", "random", "--budget", 8, "--out", "found")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in sorted(Path("found").glob("target-*.html"))] == ["target-000.html", "target-001.html"]
    values = [record.value for record in read_evaluations(Path("found") / "target-000")]
    assert len(values) == 8 and min(values) > 0


@pytest.mark.usefixtures("plain_report")
def test_a_goal_with_gradients_is_searched_by_adam_and_one_without_is_refused_by_name(lso: Lso, run: Run) -> None:
    quick = ("--optimizer", "adam", "--starts", 2, "--max-steps", 30, "--control", "none")
    result = lso("optimize", "--task", "digits-preference", *quick, "--out", "found")
    assert result.exit_code == 0, result.stderr
    with Path("found/results/results.csv").open() as file:
        ends = list(csv.DictReader(file))
    assert len(ends) == 2 and all(float(end["value"]) > float(end["value0"]) for end in ends)
    Path("mine.py").write_text("def ink(xs):\n    return [float(x.sum()) for x in xs]\n")
    refused = lso("optimize", "--objective", "mine:ink", "--maximize", *quick)
    assert refused.exit_code == 2 and "adam cannot optimize objective 'mine:ink'" in refused.stderr


@pytest.mark.usefixtures("plain_report")
def test_a_score_of_ones_own_runs_in_processes_that_a_timeout_kills(lso: Lso, run: Run) -> None:
    Path("hanging.py").write_text(
        "import time\n\ndef score(xs):\n    value = float(xs[0].sum())\n"
        "    time.sleep(60 if int(value * 1000) % 4 == 0 else 0)\n    return [value]\n"
    )
    found = ("--budget", 6, "--batch", 3, "--optimizer", "random", "--out", "found")
    result = lso("optimize", "--objective", "hanging:score", "--maximize", "--workers", 2, "--timeout", "1s", *found)
    assert result.exit_code == 0, result.stderr
    outcomes = [record.outcome for record in read_evaluations("found")]
    assert outcomes.count("evaluated") == 6 and set(outcomes) <= {"evaluated", "timed_out"}


@pytest.mark.usefixtures("plain_report")
def test_a_search_is_resumed_with_a_larger_budget(lso: Lso, run: Run) -> None:
    assert lso(*SEARCH, "--optimizer", "random", "--out", "found").exit_code == 0
    before = read_evaluations("found")
    result = lso("optimize", "--resume", "found", "--budget", 20)
    assert result.exit_code == 0, result.stderr
    after = read_evaluations("found")
    assert after[:12] == before and len(after) == 20


@pytest.mark.usefixtures("plain_report")
def test_the_live_line_counts_time_outs_and_the_best_of_all_sessions(
    lso: Lso, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worse with every call, and the third hangs."""
    monkeypatch.setattr("lso.vae.progress.LINE_SECONDS", 0.0)
    Path("falling.py").write_text(
        "import time\nfrom pathlib import Path\n\ndef score(xs):\n    calls = Path('calls').open('a')\n"
        "    calls.write('.')\n    number = calls.tell()\n    calls.close()\n"
        "    time.sleep(60 if number == 3 else 0)\n    return [-float(number)]\n"
    )
    sought = ("--objective", "falling:score", "--maximize", "--optimizer", "random", "--timeout", "0.3s")
    first = lso("optimize", *sought, "--budget", 4, "--out", "found")
    assert "best -1 typical -1  4/4 unique, 1 timed out" in first.stderr
    again = lso("optimize", "--resume", "found", "--budget", 6, "--trust")
    assert "best -1 typical -1  6/6 unique, 1 timed out" in again.stderr


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_broken_score_is_told_in_two_lines_after_a_few_calls_and_mended_it_goes_on(
    lso: Lso, run: Run, batch: int
) -> None:
    Path("broken_score.py").write_text(
        "def score(xs):\n    with open('calls', 'a') as calls: calls.write('.')\n"
        "    return table[float(xs[0].sum())]\n\ntable = {}\n"
    )
    sought = ("--objective", "broken_score:score", "--maximize", "--optimizer", "random", "--budget", 16)
    result = lso("optimize", *sought, "--batch", batch, "--out", "found", "--quiet")
    assert result.exit_code == 1 and Path("calls").stat().st_size <= 10
    *before, first, second = result.stderr.splitlines()
    assert all(line.startswith("warning: Posterior collapse: ") for line in before) and len(before) <= 1
    assert first.startswith("error: the score failed on 8 objects in a row and gave no value yet: KeyError: ")
    assert first.endswith("(broken_score.py, line 3, in score)") and second.startswith("Fix the score, and resume.")
    told = lso("doctor", "found")
    assert "the score failed on 8 objects in a row" in told.stdout and "lso optimize --resume found" in told.stdout
    Path("broken_score.py").write_text("def score(xs):\n    return [float(x.sum()) for x in xs]\n")
    sys.modules.pop("broken_score", None)
    assert lso("optimize", "--resume", "found", "--trust").exit_code == 0
    records = read_evaluations("found")
    assert Run("found").info["status"] == "finished" and {record.outcome for record in records} == {"evaluated"}
    assert len(records) == 16


def test_failures_and_objects_a_call_can_be_chosen_and_changed(lso: Lso, run: Run) -> None:
    Path("broken_score.py").write_text(
        "def score(xs):\n    with open('calls', 'a') as calls: calls.write(f'{len(xs)}\\n')\n"
        "    raise OSError('no licence')\n"
    )
    sought = ("--objective", "broken_score:score", "--maximize", "--optimizer", "random", "--budget", 16)
    result = lso("optimize", *sought, "--out", "found", "--max-failures", 11)
    assert result.exit_code == 1 and "failed on 11 objects in a row" in result.stderr
    Path("calls").unlink()
    source = Path("broken_score.py").read_text()  # slow enough for the search to see each call before the next is made
    Path("broken_score.py").write_text(source.replace("    raise", "    import time; time.sleep(0.2)\n    raise"))
    again = lso("optimize", "--resume", "found", "--trust", "--max-failures", 3, "--workers", 1, "--chunk", 2)
    assert re.search(r"failed on [3-5] objects in a row", again.stderr) and "2" in Path("calls").read_text().split()
    assert Run("found").info["config"]["chunk"] == 2 and Run("found").info["config"]["max_failures"] == 3
    refused = lso("optimize", *sought, "--chunk", 2)
    assert refused.exit_code == 2 and "chunk needs an executor or a timeout" in refused.stderr


def as_if_nothing_had_happened(lso: Lso, *search: object) -> None:
    """Goes on with the search that was broken off, and compares it with the whole one."""
    assert Run("broken").info["status"] == "stopped" and 0 < len(read_evaluations("broken")) < 60
    assert lso("optimize", "--resume", "broken", "--trust").exit_code == 0
    assert lso(*search, "--out", "whole").exit_code == 0
    broken, whole = read_evaluations("broken"), read_evaluations("whole")
    assert [(r.z, r.value) for r in broken] == [(r.z, r.value) for r in whole] and len(whole) >= 60


STEADY = ("optimize", "--objective", "steady:score", "--minimize", "--budget", 60, "--optimizer", "random")


@pytest.mark.usefixtures("plain_report")
def test_ctrl_c_keeps_what_there_is_and_resuming_ends_as_if_nothing_had_happened(lso: Lso, run: Run) -> None:
    """The signal comes with the seventh call, to this process."""
    Path("steady.py").write_text(
        "import signal\nfrom pathlib import Path\n\ndef score(xs):\n    calls = Path('calls').open('a')\n"
        "    calls.write('.')\n    if calls.tell() == 7:\n        signal.raise_signal(signal.SIGINT)\n"
        "    calls.close()\n    return [float(x.sum()) for x in xs]\n"
    )
    result = lso(*STEADY, "--out", "broken")
    assert result.exit_code == 130 and Path("broken/report.html").is_file()
    as_if_nothing_had_happened(lso, *STEADY)


@pytest.mark.slow
def test_a_process_that_gets_ctrl_c_keeps_what_there_is(
    process: Callable[..., "subprocess.Popen[str]"], lso: Lso, run: Run
) -> None:
    Path("steady.py").write_text(
        "import time\n\ndef score(xs):\n    time.sleep(0.05)\n    return [float(x.sum()) for x in xs]\n"
    )
    started = process(*STEADY, "--out", "broken")
    journal = Path("broken") / "evaluations.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (journal.is_file() and len(journal.read_bytes().splitlines()) > 12):
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    assert started.wait(60) == 130
    as_if_nothing_had_happened(lso, *STEADY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--task", "mnist"), "nothing to optimize but reconstruction"),
        (("--task", "expressions"), "is about sequences"),
        (("--objective", "nowhere:score", "--maximize"), "cannot import the objective"),
        (("--task", "digits-preference", "--target", "test:1"), "exactly one"),
        (
            ("--task", "digits-preference", "--optimizer", "turbo", "--lr", "0.1"),
            "--lr: only for gradient optimizers, and turbo is none",
        ),
        (
            ("--target", "test:1", "--optimizer", "adam", "--budget", "5"),
            "--budget: only for black-box optimizers, and adam is none",
        ),
        (("--task", "digits-preference", "--optimizer", "turbo:colour=red"), "has no option colour"),
        (("--task", "digits-preference", "--optimizer", "turboo"), "Did you mean 'turbo'?"),
        (("--task", "digits-preference", "--known", "5"), "there are no data with known values"),
        (("--resume", "nowhere"), "does not exist"),
        (("--resume", "runs/digits"), "is a training run, expected a search"),
    ],
)
def test_a_bad_search_is_refused_in_two_lines_and_leaves_no_folder(
    lso: Lso, run: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = lso("optimize", *arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in Path("runs").iterdir()] == ["digits"]


@pytest.mark.usefixtures("plain_report")
def test_the_doctor_says_that_all_values_are_equal(lso: Lso, run: Run) -> None:
    Path("flat.py").write_text("def score(xs):\n    return [1.0 for x in xs]\n")
    result = lso(
        "optimize", "--objective", "flat:score", "--maximize", "--budget", 8, "--optimizer", "random", "--out", "found"
    )
    assert result.exit_code == 0, result.stderr
    told = lso("doctor", "found")
    assert told.exit_code == 0 and "all values are equal: the score is flat" in told.stdout
