"""Weighted retraining on tiny sequences: resumed equals unbroken, what is counted, what is reported."""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from lso.black_box.runner import SearchCallback as SearchWatch
from lso.tasks.goals import Goal
from lso.tasks.retraining.drift import measure_drift
from lso.tasks.retraining.labelled_data import LabelledData, load_labelled, save_labelled
from lso.tasks.retraining.run import RetrainingCallback, RetrainingResult, weighted_retraining
from lso.vae.data.dataset import take_batch
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run
from lso.vae.training.callbacks import TrainingCallback
from lso.vae.training.loop import resume_training, train_model
from lso.vae.utils.files import Lock
from tests.vae.small import assert_same_run, config, contents, digits, sentences

ROOT = Path(__file__).resolve().parents[3]
ASKED: list[str] = []


def letters(texts: Sequence[str]) -> list[float | None]:
    """How many letters c; a text with an h is invalid."""
    ASKED.extend(texts)
    return [None if "h" in text else float(text.count("c")) for text in texts]


def known(count: int, seed: int) -> tuple[list[str], list[float]]:
    texts = ["a b", "b c d", "c c", "d e f g"][:count]
    return texts, [float(text.count("c")) for text in texts]


GOAL = Goal(name="letters", score=letters, maximize=True, known=known)
SMALL: dict[str, Any] = {"budget": 9, "every": 4, "known": 4, "k": 0.1, "data": 60, "seed": 3, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    given: dict[str, Any] = {"epochs": 60, "learning_rate": 0.02, "lengths": "near", "monitor": "last"}
    chosen = config("beta-vae:beta=0.01", arch="lstm", **given)  # which says 20 different things
    chosen = dataclasses.replace(chosen, architecture=dataclasses.replace(chosen.architecture, width=24, dropout=0.0))
    return train_model(chosen, sentences(), tmp_path_factory.mktemp("model") / "run")


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> RetrainingResult:
    return search(run, tmp_path_factory.mktemp("whole") / "w")


def search(run: Run, out: Path, **options: Any) -> RetrainingResult:
    return weighted_retraining(run, GOAL, "random", dataset=sentences(), out=out, **{**SMALL, **options})


def assert_same(one: RetrainingResult, other: RetrainingResult) -> None:
    def told(result: RetrainingResult) -> list[Any]:
        still = [dataclasses.replace(row, training_seconds=0.0, search_seconds=0.0) for row in result.rounds]
        return [dataclasses.asdict(row) for row in still]

    assert told(one) == told(other) and (one.status, one.sentence) == (other.status, other.sentence)
    assert [(r.z, repr(r.value), r.duplicate_of) for r in one.records] == [
        (r.z, repr(r.value), r.duplicate_of) for r in other.records
    ]
    for row in one.rounds:
        place = Path("rounds") / f"{row.number:02d}"
        assert_same_run(one.folder / place / "train", other.folder / place / "train")


class Killed(BaseException):
    """Stands for a process that ends without a word."""


class Kill(TrainingCallback, SearchWatch):
    """Ends the process at the so-manieth thing that it sees."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _seen(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def step(self, done: int) -> None:
        self._seen()

    def epoch(self, row: Any) -> None:
        self._seen()

    def called(self, *_: Any) -> None:
        self._seen()

    def stop(self) -> str | None:
        return None


@pytest.mark.slow
def test_killed_anywhere_and_resumed_it_is_the_unbroken_one(run: Run, whole: RetrainingResult, tmp_path: Path) -> None:
    callback = Kill(10**9)
    search(run, tmp_path / "count", callback=RetrainingCallback(callback, callback))
    things = 10**9 - callback.left
    for at in range(1, things + 1, 3):  # in training and in searching
        out, again = tmp_path / str(at), Kill(at)
        with pytest.raises(Killed):
            search(run, out, callback=RetrainingCallback(again, again))
        assert_same(search(run, out, resume=True), whole)


@pytest.mark.slow
def test_a_process_killed_at_random_moments_loses_nothing(run: Run, whole: RetrainingResult, tmp_path: Path) -> None:
    out, moments = tmp_path / "r", Random(0)
    line = (
        "import sys; from pathlib import Path; from lso.vae.runs import Run; import torch; torch.set_num_threads(1)\n"
    )
    line += "from tests.tasks.retraining.test_run import search; out = Path(sys.argv[2])\n"
    line += "print('begun', flush=True); search(Run(sys.argv[1]), out, resume=out.is_dir())"
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", line, str(run.path), str(out)], cwd=ROOT, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None and process.stdout.readline()
            try:
                assert process.wait(moments.uniform(0.02, 1.0)) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
    assert_same(search(run, out, resume=True), whole)


def test_killed_within_and_between_rounds_it_is_the_unbroken_one(
    run: Run, whole: RetrainingResult, tmp_path: Path
) -> None:
    """Cut again and again: retrainings before and after a checkpoint, searches within, and between the two."""
    for again in (False, *[True] * 50):
        callback = Kill(11)
        try:
            found = search(run, tmp_path / "r", resume=again, callback=RetrainingCallback(callback, callback))
        except Killed:
            continue
        return assert_same(found, whole)
    pytest.fail("it never ended")


def test_the_budget_counts_new_objects_over_all_rounds(run: Run, tmp_path: Path) -> None:
    ASKED.clear()
    found = search(run, tmp_path / "r")
    assert found.status == "finished" and [row.unique for row in found.rounds] == [4, 8, 9]
    paid = ASKED[SMALL["data"] :]  # the training data are labelled first
    assert len(paid) == len(set(paid)) and len(found.fresh) == 9
    objects = [record.decoded for record in found.fresh]
    assert len(set(objects)) == 9 and set(objects) <= set(paid)
    assert found.best is not None and found.best_so_far[-1] == found.best.value == found.rounds[-1].best


def test_each_round_goes_on_from_the_model_before_and_knows_what_was_found(run: Run, whole: RetrainingResult) -> None:
    first = whole.folder / "rounds" / "00"
    second = json.loads((whole.folder / "rounds" / "01" / "train" / "run.json").read_text())
    weighted = second["dataset"]["provenance"]["weighted"]
    assert weighted["known"] == 60 + 4 and weighted["drawn"] == 64
    assert 1 < weighted["effective_size"] < 64
    result = load_labelled(first / "found.safetensors")
    texts = [sentences().vocabulary.text(row) for row in take_batch(result.x, slice(None)).tolist()]  # type: ignore[union-attr]
    assert texts == [record.decoded for record in whole.fresh[:4]]
    asked = (whole.folder / "rounds" / "01" / "search" / "evaluations.jsonl").read_text().splitlines()
    assert len(json.loads(asked[0])["z"]) == 4 + 4 and json.loads(asked[1])["event"] == "scored"


def test_the_first_retraining_may_be_longer_than_the_others(run: Run, tmp_path: Path) -> None:
    result = search(run, tmp_path / "w", budget=5, epochs=0.25, first_epochs=2.0)
    assert [row.drawn for row in result.rounds] == [2 * 60, (60 + 4) // 4]


def test_a_round_says_how_the_model_stands(whole: RetrainingResult) -> None:
    assert [row.history is None for row in whole.rounds] == [True, False, False]
    for row in whole.rounds:
        assert row.drift.total == pytest.approx(row.drift.active + row.drift.dead) and row.drift.total > 0
        assert 0 <= row.anchors.reproduced <= 1 and row.anchors.reencoding_error >= 0
        assert 0 <= row.anchors.active_units <= 4


def test_drift_is_the_squared_distance_by_activity() -> None:
    before = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    after = before + torch.tensor([0.5, 0.1, 0.0])
    found = measure_drift(before, after)
    assert (found.active, found.dead, found.per_active) == pytest.approx((0.25, 0.01, 0.25))


def test_a_larger_budget_goes_on(run: Run, tmp_path: Path) -> None:
    first = search(run, tmp_path / "r", budget=4)
    more = search(run, tmp_path / "r", budget=8, resume=True)
    assert_same(dataclasses.replace(more, rounds=more.rounds[:1], parts=first.parts, sentence=first.sentence), first)
    assert [row.unique for row in more.rounds] == [4, 8]


def test_without_weights_all_data_are_alike(run: Run, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        found = search(run, tmp_path / "r", k=math.inf, budget=3, executor=executor)
    assert found.rounds[0].effective_size == pytest.approx(60)


def test_another_search_is_refused(run: Run, tmp_path: Path) -> None:
    search(run, tmp_path / "r", budget=1)
    with pytest.raises(RunError, match="is another search: k was"):
        search(run, tmp_path / "r", k=0.5, resume=True)
    with pytest.raises(UsageError, match="every >= 1"):
        search(run, tmp_path / "s", every=0)
    with pytest.raises(RunError, match="is no weighted retraining"):
        search(run, tmp_path / "none", resume=True)


def test_a_second_process_is_refused_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    """Neither the whole nor one of its trainings can be gone on with while it works."""
    said: list[str] = []

    class Twice(TrainingCallback):
        def start(self, trained: Run, steps: int, done: int) -> None:
            before = contents(tmp_path)
            for call in (
                lambda: search(run, tmp_path / "r", budget=12, resume=True),
                lambda: resume_training(trained, sentences()),
            ):
                with pytest.raises(RunError) as caught:
                    call()
                said.append(caught.value.message)
            assert contents(tmp_path) == before

    search(run, tmp_path / "r", budget=1, callback=RetrainingCallback(Twice(), SearchWatch()))
    folders = [tmp_path / "r", tmp_path / "r" / "rounds" / "00" / "train"]
    assert said == [f"this process is at work in {folder}" for folder in folders]
    Lock(tmp_path / "r").release()


def test_images_are_found_as_training_has_them(tmp_path: Path) -> None:
    """On tensors, without known data, two latents."""
    first = train_model(config("vae"), digits(), tmp_path / "run")
    goal = Goal(name="ink", score=lambda x: x.flatten(1).sum(1), maximize=True, on="tensors")
    given: dict[str, Any] = {"budget": 4, "every": 2, "known": 0, "data": 50, "out": tmp_path / "r"}
    found = weighted_retraining(first, goal, "random", dataset=digits(), **given)
    kept = load_labelled(found.folder / "rounds" / "00" / "found.safetensors")
    assert found.status == "finished" and len(found.rounds) == 2 and len(kept) == 2
    assert set(take_batch(kept.x, slice(None)).flatten().tolist()) <= {0.0, 1.0}


def test_data_and_values_are_read_back(tmp_path: Path) -> None:
    for x in (sentences().train, digits().train):
        told = LabelledData(x=x, value=torch.tensor([math.nan, *range(1, len(x))], dtype=torch.float64))
        save_labelled(told, tmp_path / "d.safetensors")
        back = load_labelled(tmp_path / "d.safetensors")
        assert torch.equal(take_batch(back.x, slice(None)), take_batch(x, slice(None)))
        assert torch.equal(back.value.nan_to_num(-1), told.value.nan_to_num(-1))
        assert isinstance(back + told, LabelledData) and len(back + told) == 2 * len(x)
