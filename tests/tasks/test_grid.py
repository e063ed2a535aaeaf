"""Several trainings below one folder: missing ones are trained, begun ones resumed, finished ones kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lso.tasks import experiment
from lso.tasks.grid import Count, GridWatch, train_all
from lso.tasks.images import load_dataset
from lso.tasks.members import EVALUATION, Asked, Planned, check, folder_name, spread
from lso.vae import training
from lso.vae.data import Dataset
from lso.vae.errors import DataError, DivergedError, RunError, UsageError
from lso.vae.runs import Run
from lso.vae.watch import Watch
from tests.tasks.grids import small

ASKED = Asked(iw_samples=3, limit=10)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_reported", lambda run: run)


class Seen(GridWatch):
    """Notes what happens, and asks to stop after so many trainings or steps."""

    def __init__(self, trainings: int = 99, steps: int = 99) -> None:
        self.trained: list[str] = []
        self.evaluated: list[tuple[str, int]] = []
        self._trainings, self.steps = trainings, steps

    def training(self, planned: Planned, number: int, of: int) -> Watch:
        self.trained.append(planned.name)
        outer = self

        class Steps(Watch):
            def step(self, done: int) -> None:
                outer.steps -= 1

            def stop(self) -> str | None:
                return outer.stop()

        return Steps()

    def evaluating(self, planned: Planned, seed: int) -> Count:
        self.evaluated.append((planned.name, seed))
        return lambda done, total: None

    def stop(self) -> str | None:
        return "interrupted" if self.steps <= 0 or len(self.trained) > self._trainings else None


def test_all_are_trained_once_with_seeds_outermost(tmp_path: Path) -> None:
    planned, watch = small("vae", "beta-vae:beta=0.5", seeds=2), Seen()
    members, reason = train_all(planned, tmp_path, device="cpu", watch=watch)
    assert reason is None and [member.status for member in members] == ["finished"] * 4
    assert watch.trained == ["vae-d2-s0", "beta-vae-beta=0.5-d2-s0", "vae-d2-s1", "beta-vae-beta=0.5-d2-s1"]
    again = Seen()
    train_all(planned, tmp_path, device="cpu", watch=again)
    assert not again.trained and not again.evaluated


def test_an_interrupted_grid_ends_with_the_numbers_of_an_unbroken_one(tmp_path: Path) -> None:
    planned = small("vae", "ne-vae-se", epochs=2)
    whole, _ = train_all(planned, tmp_path / "whole", asked=ASKED, device="cpu")
    cut, reason = train_all(planned, tmp_path / "cut", asked=ASKED, device="cpu", watch=Seen(steps=3))
    assert reason == "interrupted" and [member.status for member in cut] == ["stopped", "not begun"]
    cut, reason = train_all(planned, tmp_path / "cut", asked=ASKED, device="cpu")
    assert reason is None
    for one, other in zip(whole, cut, strict=True):
        same = [{**dict(member.evaluations[0]), "seconds": 0} for member in (one, other)]
        assert same[0] == same[1]


def test_no_time_trains_nothing_and_says_why(tmp_path: Path) -> None:
    members, reason = train_all(small(), tmp_path, device="cpu", seconds=0.0)
    assert reason == "reached the time limit" and members[0].status == "not begun" and not any(tmp_path.iterdir())


def test_trainings_that_share_their_data_read_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def load(*key: Any) -> Dataset:
        read.append(key)
        return loader(*key)

    loader: Callable[..., Dataset] = load_dataset
    monkeypatch.setattr("lso.tasks.grid.load_dataset", load)
    train_all(small("vae", "vae-anneal", latent_dims=(2, 3), seeds=2), tmp_path, device="cpu")
    assert len(read) == 2  # one for each seed: it binarizes


def test_a_training_that_diverges_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(trainer: Any, rows: Any) -> None:
        if trainer.config.method.name == "vae":
            raise DivergedError("the loss was not finite")
        advance(trainer, rows)

    advance = training._advance
    monkeypatch.setattr(training, "_advance", fail)
    (bad, good), reason = train_all(small("vae", "vae-anneal"), tmp_path, asked=ASKED, device="cpu")
    assert reason is None and (bad.status, good.status) == ("failed", "finished")
    assert "not finite" in bad.info["sentence"] and not bad.evaluations and good.evaluations


def test_a_folder_of_another_protocol_is_refused_and_left_alone(tmp_path: Path) -> None:
    train_all(small(), tmp_path, device="cpu")
    before = (tmp_path / "vae-d2-s0" / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"protocol.epochs = 1, not 2"):
        train_all(small(epochs=2), tmp_path, device="cpu")
    assert (tmp_path / "vae-d2-s0" / "run.json").read_bytes() == before
    with pytest.raises(UsageError, match="planned twice"):
        check([*small(), *small()], tmp_path)


def test_evaluations_are_kept_and_missing_seeds_added(tmp_path: Path) -> None:
    planned, watch = small(), Seen()
    train_all(planned, tmp_path, asked=ASKED, device="cpu")
    three = Asked(iw_samples=3, limit=10, repeats=3)
    (member,), _ = train_all(planned, tmp_path, asked=three, device="cpu", watch=watch)
    assert watch.evaluated == [("vae-d2-s0", 1), ("vae-d2-s0", 2)]
    assert [one["seed"] for one in member.evaluations] == [0, 1, 2] and member.evaluations[0]["n"] == 5
    assert len({one["neg_elbo"] for one in member.evaluations}) == 3
    content = json.loads((tmp_path / "vae-d2-s0" / EVALUATION).read_text())
    assert content["how"] == {"iw_samples": 3, "limit": 10}


def test_an_evaluation_that_is_cut_is_told_and_done_again(tmp_path: Path) -> None:
    planned = small()
    train_all(planned, tmp_path, device="cpu")
    watch = Seen(steps=0)
    (member,), reason = train_all(planned, tmp_path, asked=ASKED, device="cpu", watch=watch)
    assert reason == "interrupted while vae-d2-s0 was evaluated" and not member.evaluations
    (member,), reason = train_all(planned, tmp_path, asked=ASKED, device="cpu")
    assert reason is None and len(member.evaluations) == 1


def test_runs_whose_data_changed_are_not_evaluated(tmp_path: Path) -> None:
    planned = small()
    train_all(planned, tmp_path, device="cpu")
    run = Run(tmp_path / "vae-d2-s0")
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace(run.info["dataset"]["hash"], "0" * 64))
    with pytest.raises(DataError, match="have changed"):
        train_all(planned, tmp_path, asked=ASKED, device="cpu")


def test_folder_names_are_plain_and_tell_method_size_and_seed() -> None:
    assert folder_name("ne-vae-lp:c=-1.0,anneal=10", 8, 3) == "ne-vae-lp-c=-1.0-anneal=10-d8-s3"
    assert folder_name("pixelcnn", 0, 0) == "pixelcnn-s0"


def test_spread_is_the_sample_deviation() -> None:
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0) and spread([4.0]) == (4.0, None)
