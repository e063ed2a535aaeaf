"""Several trainings below one folder: missing ones are trained, begun ones resumed, finished ones kept."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lso.tasks.datasets.loading import load_dataset
from lso.tasks.training import experiment
from lso.tasks.training.multi_run import BATCHED, EVALUATION, TRAINING, train_all
from lso.tasks.training.plan import plan
from lso.tasks.training.run_set import (
    EVALUATION_FILE,
    EvaluationSpec,
    check_folders,
    folder_name,
    mean_and_deviation,
)
from lso.tasks.training.sweep import plan_sweep, sweep_cells, sweep_points, sweep_table
from lso.vae.callbacks import Callback, Event
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, DivergedError, RunError, UsageError
from lso.vae.metrics import evaluation
from lso.vae.runs import Run
from lso.vae.training import loop as training
from lso.vae.training.batchable import MOST, max_batched_runs
from lso.vae.training.setup import lock_run
from lso.vae.utils.files import Lock
from lso.vae.utils.reading import replace_sealed
from tests.tasks.grids import SMALL, small
from tests.vae.small import assert_same_run, contents

ASKED = EvaluationSpec(iw_samples=3, limit=10)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_write_report", lambda run, _: run)


class Seen(Callback):
    """Notes what happens, and asks to stop after so many trainings or steps."""

    def __init__(self, trainings: int = 99, steps: int = 99) -> None:
        self.trained: list[str] = []
        self.groups: list[list[str]] = []
        self.evaluated: list[str] = []
        self.not_batched: list[tuple[list[str], str]] = []
        self._trainings, self.steps = trainings, steps

    def on_start(self, event: Event) -> None:
        self.trained += [event.name] if event.work in (TRAINING, BATCHED) else []
        self.evaluated += [event.name] if event.work == EVALUATION else []

    def on_step(self, event: Event) -> None:
        self.steps -= event.work in (TRAINING, BATCHED)

    def on_log(self, event: Event) -> None:
        if event.text.startswith("["):
            self.groups.append([one.name for one in event.source])
        elif event.text.startswith("not batched"):
            self.not_batched.append(([one.label for one in event.source], event.text.split("): ")[1]))

    def should_stop(self) -> str | None:
        return "interrupted" if self.steps <= 0 or len(self.trained) > self._trainings else None


def test_what_has_a_later_turn_is_trained_after_all_seeds_of_an_earlier_one(tmp_path: Path) -> None:
    plain, other, again, _ = small("vae", "beta-vae:beta=0.5", seeds=2)
    callback = Seen()
    train_all([replace(plain, turn=1), other, again], tmp_path, device="cpu", callback=callback)
    assert callback.trained == [one.name for one in sorted((other, again), key=lambda one: one.config.seed)] + [
        plain.name
    ]


def test_all_are_trained_once_with_seeds_outermost(tmp_path: Path) -> None:
    planned, callback = small("vae", "beta-vae:beta=0.5", seeds=2), Seen()
    members, reason = train_all(planned, tmp_path, device="cpu", callback=callback)
    assert reason is None and [member.status for member in members] == ["finished"] * 4
    assert callback.trained == ["vae-d2-s0", "beta-vae-beta=0.5-d2-s0", "vae-d2-s1", "beta-vae-beta=0.5-d2-s1"]
    again = Seen()
    train_all(planned, tmp_path, device="cpu", callback=again)
    assert not again.trained and not again.evaluated


def test_an_interrupted_grid_ends_with_the_numbers_of_an_unbroken_one(tmp_path: Path) -> None:
    planned = small("vae", "ne-vae-se", epochs=2)
    whole, _ = train_all(planned, tmp_path / "whole", spec=ASKED, device="cpu")
    cut, reason = train_all(planned, tmp_path / "cut", spec=ASKED, device="cpu", callback=Seen(steps=3))
    assert reason == "interrupted" and [member.status for member in cut] == ["stopped", "not begun"]
    cut, reason = train_all(planned, tmp_path / "cut", spec=ASKED, device="cpu")
    assert reason is None
    for one, other in zip(whole, cut, strict=True):
        same = [{**dict(member.evaluations[0]), "seconds": 0} for member in (one, other)]
        assert same[0] == same[1]


@pytest.mark.parametrize("together", [False, True])
def test_a_training_that_another_process_works_on_is_refused_and_left_alone(together: bool, tmp_path: Path) -> None:
    planned, options = small(epochs=2, seeds=2), dict[str, Any](device="cpu", together=together)
    train_all(planned, tmp_path, callback=Seen(steps=3), **options)
    one, other = (tmp_path / each.name for each in planned)
    if not other.exists():  # one after the other, it was cut before that
        train_all(planned[1:], tmp_path, callback=Seen(steps=1), **options)
    before = contents(other)
    with Lock(other), pytest.raises(RunError, match="is at work in"):
        train_all(planned, tmp_path, **options)
    assert contents(other) == before and Run(other).info["status"] == "stopped"
    assert Run(one).info["status"] == ("stopped" if together else "finished")
    members, reason = train_all(planned, tmp_path, **options)
    assert reason is None and [member.status for member in members] == ["finished"] * 2


@pytest.mark.parametrize("together", [False, True])
def test_folders_are_held_while_their_trainings_go_on_and_no_longer(together: bool, tmp_path: Path) -> None:
    planned, held_at = small(seeds=2), []

    class Tries(Callback):
        def on_step(self, event: Event) -> None:
            if event.work in (TRAINING, BATCHED):
                with pytest.raises(RunError, match="this process is at work"):
                    Lock(tmp_path / event.name)
                held_at.append((event.name, event.done))

    train_all(planned, tmp_path, device="cpu", together=together, callback=Tries())
    steps = Run(tmp_path / planned[0].name).metrics()[-1]["step"]
    assert sorted(held_at) == sorted((one.name, 1 + step) for one in planned for step in range(steps))
    for one in planned:
        Lock(tmp_path / one.name).release()


@pytest.mark.parametrize("begun", [False, True])
def test_what_another_process_did_before_the_folders_were_held_is_gone_on_with(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trained the first to the end."""
    planned, options = small(epochs=2, seeds=2), dict[str, Any](device="cpu", together=True)
    if begun:
        train_all(planned, tmp_path, callback=Seen(steps=3), **options)
    seen: list[Any] = []

    def late(path: Path) -> Any:
        monkeypatch.setattr(experiment, "lock_run", lock_run)
        experiment.resume(path, device="cpu")
        seen.append(contents(path))
        return lock_run(path)

    monkeypatch.setattr(experiment, "lock_run", late)
    members, reason = train_all(planned, tmp_path, **options)
    assert reason is None and [member.status for member in members] == ["finished"] * 2
    assert not begun or contents(tmp_path / planned[0].name) == seen[0]
    train_all(planned[:1], tmp_path / "alone", device="cpu")
    if not begun:
        assert_same_run(tmp_path / planned[0].name, tmp_path / "alone" / planned[0].name)


def test_no_time_trains_nothing_and_says_why(tmp_path: Path) -> None:
    members, reason = train_all(small(), tmp_path, device="cpu", seconds=0.0)
    assert reason == "reached the time limit" and members[0].status == "not begun" and not any(tmp_path.iterdir())


def test_trainings_that_share_their_data_read_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def load(*key: Any, trust: bool) -> Dataset:
        read.append(key)
        return loader(*key, trust=trust)

    loader: Callable[..., Dataset] = load_dataset
    monkeypatch.setattr("lso.tasks.training.multi_run.load_dataset", load)
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
    (bad, good), reason = train_all(small("vae", "vae-anneal"), tmp_path, spec=ASKED, device="cpu")
    assert reason is None and (bad.status, good.status) == ("failed", "finished")
    assert "not finite" in bad.info["sentence"] and not bad.evaluations and good.evaluations


def test_a_folder_of_another_protocol_is_refused_and_left_alone(tmp_path: Path) -> None:
    train_all(small(), tmp_path, device="cpu")
    before = (tmp_path / "vae-d2-s0" / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"protocol.epochs = 1, not 2"):
        train_all(small(epochs=2), tmp_path, device="cpu")
    assert (tmp_path / "vae-d2-s0" / "run.json").read_bytes() == before
    with pytest.raises(UsageError, match="planned twice"):
        check_folders([*small(), *small()], tmp_path)


@pytest.mark.parametrize("together", [False, True])
def test_finished_trainings_go_on_to_more_epochs_and_are_measured_anew(together: bool, tmp_path: Path) -> None:
    short, long = small("vae", "beta-vae:beta=0.5"), small("vae", "beta-vae:beta=0.5", epochs=2)
    options = dict[str, Any](spec=ASKED, device="cpu", together=together)
    first, _ = train_all(short, tmp_path / "cut", **options)
    before = [dict(member.evaluations[0]) for member in first]
    cut, reason = train_all(long, tmp_path / "cut", callback=Seen(steps=0), longer=True, **options)
    assert reason == "interrupted" and not [member for member in cut if len(member.run.metrics()) > 2]  # type: ignore[union-attr]
    cut, reason = train_all(long, tmp_path / "cut", longer=True, **options)
    whole, _ = train_all(long, tmp_path / "whole", **options)
    assert reason is None and [member.status for member in cut] == ["finished"] * 2
    for one, other, old in zip(cut, whole, before, strict=True):
        assert_same_run(tmp_path / "cut" / one.planned.name, tmp_path / "whole" / other.planned.name)
        found, wanted = ({**dict(member.evaluations[0]), "seconds": 0} for member in (one, other))
        assert found == wanted != {**old, "seconds": 0}
    with pytest.raises(RunError, match=r"protocol.epochs = 2, not 1"):
        train_all(short, tmp_path / "cut", longer=True, **options)


def test_evaluations_are_kept_and_missing_seeds_added(tmp_path: Path) -> None:
    planned, callback = small(), Seen()
    train_all(planned, tmp_path, spec=ASKED, device="cpu")
    three = EvaluationSpec(iw_samples=3, limit=10, repeats=3)
    (member,), _ = train_all(planned, tmp_path, spec=three, device="cpu", callback=callback)
    assert callback.evaluated == ["vae-d2-s0, seed 1", "vae-d2-s0, seed 2"]
    assert [one["seed"] for one in member.evaluations] == [0, 1, 2] and member.evaluations[0]["n"] == 5
    assert len({one["neg_elbo"] for one in member.evaluations}) == 3
    content = json.loads((tmp_path / "vae-d2-s0" / EVALUATION_FILE).read_text())
    assert content["how"] == {"iw_samples": 3, "limit": 10}


def test_an_evaluation_that_is_cut_is_told_and_done_again(tmp_path: Path) -> None:
    planned = small()
    train_all(planned, tmp_path, device="cpu")
    callback = Seen(steps=0)
    (member,), reason = train_all(planned, tmp_path, spec=ASKED, device="cpu", callback=callback)
    assert reason == "interrupted while vae-d2-s0 was evaluated" and not member.evaluations
    (member,), reason = train_all(planned, tmp_path, spec=ASKED, device="cpu")
    assert reason is None and len(member.evaluations) == 1


def test_runs_whose_data_changed_are_not_evaluated(tmp_path: Path) -> None:
    planned = small()
    train_all(planned, tmp_path, device="cpu")
    run = Run(tmp_path / "vae-d2-s0")
    replace_sealed(run.path / "run.json", {**run.info, "dataset": {**run.info["dataset"], "hash": "0" * 64}})
    with pytest.raises(DataError, match="have changed"):
        train_all(planned, tmp_path, spec=ASKED, device="cpu")


def test_folder_names_are_plain_and_tell_method_size_and_seed() -> None:
    assert folder_name("ne-vae-lp:c=-1.0,anneal=10", 8, 3) == "ne-vae-lp-c=-1.0-anneal=10-d8-s3"
    assert folder_name("pixelcnn", 0, 0) == "pixelcnn-s0"


def test_spread_is_the_sample_deviation() -> None:
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0) and mean_and_deviation([4.0]) == (4.0, None)


# --- in lockstep ------------------------------------------------------------------------------------------------------


def test_trainings_together_give_the_numbers_of_trainings_alone(tmp_path: Path) -> None:
    """The methods that differ in the KL weight alone go together, and one of another penalty with its own seeds."""
    planned = small("vae", "beta-vae:beta=0.5", "ne-vae-se", seeds=2, epochs=2)
    alone, _ = train_all(planned, tmp_path / "alone", spec=ASKED, device="cpu")
    callback = Seen()
    found, reason = train_all(
        planned, tmp_path / "together", spec=ASKED, device="cpu", callback=callback, together=True
    )
    assert reason is None and callback.groups == [
        ["vae-d2-s0", "beta-vae-beta=0.5-d2-s0", "vae-d2-s1", "beta-vae-beta=0.5-d2-s1"],
        ["ne-vae-se-d2-s0", "ne-vae-se-d2-s1"],
    ]
    tables = [sweep_table(sweep_cells(sweep_points(members)), ASKED).rows for members in (alone, found)]
    assert [row[:-1] for row in tables[0]] == [row[:-1] for row in tables[1]]  # but for the seconds
    assert "trained together" in sweep_table(sweep_cells(sweep_points(found)), ASKED).note
    again = Seen()
    train_all(planned, tmp_path / "together", spec=ASKED, device="cpu", callback=again, together=True)
    assert not again.groups and not again.evaluated


def test_an_interrupted_group_goes_on(tmp_path: Path) -> None:
    planned = small("vae", "ne-vae-se", seeds=2, epochs=2)
    whole, _ = train_all(planned, tmp_path / "whole", device="cpu")
    cut, reason = train_all(planned, tmp_path / "cut", device="cpu", callback=Seen(steps=3), together=True)
    assert reason == "interrupted"
    assert [member.status for member in cut] == ["stopped", "stopped", "not begun", "not begun"]
    for one, other in zip(whole, train_all(planned, tmp_path / "cut", device="cpu", together=True)[0], strict=True):
        assert one.run and other.run and other.status == "finished"
        assert other.run.best()["neg_elbo"] == pytest.approx(one.run.best()["neg_elbo"], rel=1e-4)


def test_one_of_a_group_that_diverges_is_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluation.validate

    def validate(model: Any, data: Any, *, seed: int) -> Any:
        values, q = real(model, data, seed=seed)
        return (values | {"neg_elbo": math.nan} if seed == 1 else values), q

    monkeypatch.setattr(training, "validate", validate)
    planned = small(seeds=3)
    found, reason = train_all(planned, tmp_path, spec=ASKED, device="cpu", together=True)
    assert reason is None and [member.status for member in found] == ["finished", "failed", "finished"]
    assert [len(member.evaluations) for member in found] == [1, 0, 1]
    monkeypatch.setattr(training, "validate", real)
    callback = Seen()
    found, _ = train_all(planned, tmp_path, spec=ASKED, device="cpu", callback=callback, together=True)
    assert callback.trained == ["vae-d2-s1"] and found[1].status == "finished"


def test_they_go_together_by_themselves_where_that_was_measured_to_be_faster(tmp_path: Path) -> None:
    few = Seen(steps=1)
    train_all(small(seeds=7), tmp_path / "few", device="cpu", callback=few, together=None)
    assert not few.groups and few.trained == ["vae-d2-s0"]
    callback = Seen(steps=1)
    train_all(small(seeds=8), tmp_path / "many", device="cpu", callback=callback, together=None)
    assert [len(group) for group in callback.groups] == [8]


def test_the_rule_goes_by_networks_size_and_number() -> None:
    def config(**architecture: Any) -> TrainConfig:
        return plan({"architecture": architecture})

    assert max_batched_runs(config(name="mlp"), 8) == 64 and max_batched_runs(config(name="mlp"), 7) == 0
    assert max_batched_runs(config(name="conv"), 4) == 256 and max_batched_runs(config(name="conv", width=64), 16) == 0
    assert max_batched_runs(config(name="he2019-small"), MOST) == 0


def test_more_than_fit_are_split_evenly(tmp_path: Path) -> None:
    callback = Seen(steps=1)
    train_all(small(seeds=MOST + 2), tmp_path, device="cpu", callback=callback, together=True)
    assert len(callback.groups[0]) == MOST // 2 + 1


def test_a_damaged_one_leaves_no_other_of_its_group_running(tmp_path: Path) -> None:
    planned = small(seeds=3, epochs=2)
    train_all(planned, tmp_path, device="cpu", callback=Seen(steps=6), together=True)
    (tmp_path / "vae-d2-s1" / "last.pt").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"last\.pt"):
        train_all(planned, tmp_path, device="cpu", together=True)
    told = [Run(tmp_path / one.name).info for one in planned]
    assert [info["status"] for info in told] == ["stopped"] * 3
    assert told[0]["sentence"].startswith("no step was taken: another training")


def test_what_cannot_go_together_is_told_with_the_reason(tmp_path: Path) -> None:
    callback, later = Seen(steps=1), Seen(steps=1)
    planned = small("vae", "aggressive", "sa-vae", seeds=2) + small("vae", latent_dims=(3,))
    train_all(planned, tmp_path, device="cpu", callback=callback, together=True)
    assert callback.not_batched == [
        (["aggressive", "aggressive"], "each model decides on its own inner steps"),
        (["sa-vae", "sa-vae"], "inference takes gradient steps"),
        (["vae"], "no other still to be trained differs in seed or KL weight alone"),
    ]
    train_all(planned, tmp_path / "default", device="cpu", callback=later, together=None)
    assert not later.not_batched


def test_of_data_that_no_seed_changes_there_is_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def together(jobs: Sequence[experiment.TrainingJob], **options: Any) -> list[Run]:
        given.extend(job.dataset for job in jobs)
        return real(jobs, **options)

    real = experiment.train_jobs
    monkeypatch.setattr(experiment, "train_jobs", together)
    settings = {**SMALL, "protocol": {**SMALL["protocol"], "binarize": "none"}}
    train_all(plan_sweep(["vae"], (2,), 3, settings), tmp_path, device="cpu", together=True)
    assert len(given) == 3 and all(dataset is given[0] for dataset in given)
    provenance = Run(tmp_path / "vae-d2-s2").info["dataset"]["provenance"]
    assert provenance["binarize"] == {"mode": "none"}
