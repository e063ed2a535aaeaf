"""Trainings in lockstep: each is the run that it would be alone, to rounding, whatever the others do."""

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.vae import checkpoint, runs
from lso.vae.config.training import TrainConfig
from lso.vae.errors import UsageError
from lso.vae.metrics import evaluation
from lso.vae.runs import Run
from lso.vae.training import batched
from lso.vae.training import cuda_graphs as replay
from lso.vae.training import loop as training
from lso.vae.training.callbacks import TrainingCallback
from lso.vae.training.loop import Limits, resume_training, train_model
from lso.vae.training.setup import create_trainer, restore_trainer
from lso.vae.training.step import StepMetrics
from tests.vae.small import STEPS, Stop, config, digits, rows, sentences, tensors

MIXED = [
    config("vae", anneal=0, patience=1, epochs=4),
    config("vae", anneal=2, seed=1, learning_rate=3e-3, patience=1, epochs=4),
    config("beta-vae:beta=0.3", seed=2, patience=1, epochs=4),
]


def _together(
    configs: Sequence[TrainConfig], root: Path, limits: Limits = Limits(), callback: TrainingCallback | None = None
) -> list[Run]:
    """New trainings, or those that lie there already, in lockstep."""
    root.mkdir(exist_ok=True)
    trainers = []
    for number, chosen in enumerate(configs):
        path = root / str(number)
        if path.exists():
            trainers.append(restore_trainer(Run(path), digits(), callback=callback))
        else:
            trainers.append(create_trainer(chosen, digits(), path, callback=callback))
    return batched.train_batched(trainers, limits)


def assert_alike(one: Run, other: Run) -> None:
    """Rows, weights, codes and the state to resume from agree to the rounding of a few dozen single-precision steps."""
    found, wanted = rows(one.path), rows(other.path)
    assert [row.keys() for row in found] == [row.keys() for row in wanted]
    for row, expected in zip(found, wanted, strict=True):
        assert _numbers(row) == pytest.approx(_numbers(expected), rel=1e-4, abs=1e-4)
    kept = [tensors(torch.load(run.path / runs.LAST, weights_only=True)) for run in (one, other)]
    assert kept[0].keys() == kept[1].keys()
    for key, value in kept[0].items():
        torch.testing.assert_close(value, kept[1][key], rtol=1e-3, atol=1e-4, msg=key)
    assert one.info["status"] == other.info["status"] and one.info["sentence"] == other.info["sentence"]


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {key: -1.0 if value is None else value for key, value in row.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Each of `MIXED` by itself."""
    root = tmp_path_factory.mktemp("alone")
    return [train_model(chosen, digits(), root / str(number)) for number, chosen in enumerate(MIXED)]


def test_trainings_of_other_seeds_rates_and_weights_are_as_alone(tmp_path: Path, alone: list[Run]) -> None:
    found = _together(MIXED, tmp_path)
    for one, other in zip(found, alone, strict=True):
        assert_alike(one, other)
        assert one.info["together"] == len(MIXED) and "together" not in other.info


def test_a_decay_reloads_the_weights_of_the_one_that_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle one has its best at epoch 0, so that it decays after epoch 1 and ends after 2; the others go on."""
    real, script = evaluation.validate, cycle([1.0, 2.0, 3.0])

    def validate(model: Any, data: Any, *, seed: int) -> Any:
        values, q = real(model, data, seed=seed)
        return (values | {"neg_elbo": next(script)} if seed == 1 else values), q

    monkeypatch.setattr(training, "validate", validate)
    rule: dict[str, Any] = {"monitor": "elbo", "monitor_from": 0}  # as folders of 0.1.0 have it
    configs = [config(seed=seed, patience=1, max_decays=2, epochs=4, **rule) for seed in range(3)]
    found = _together(configs, tmp_path / "together")
    other = [train_model(chosen, digits(), tmp_path / str(chosen.seed)) for chosen in configs]
    assert [row["learning_rate"] for row in found[1].metrics()] == [1e-3, 1e-3, 5e-4]
    assert [len(run.metrics()) for run in found] == [5, 3, 5]
    for one, expected in zip(found, other, strict=True):
        assert_alike(one, expected)


def test_stopped_together_each_goes_on_alone_or_together(tmp_path: Path, alone: list[Run]) -> None:
    stopped = _together(MIXED, tmp_path, Limits(steps=STEPS + 2))
    assert {run.info["sentence"] for run in stopped} == {f"reached the step limit after 1 epoch and {STEPS + 2} steps"}
    assert_alike(resume_training(stopped[0], digits()), alone[0])
    for run, expected in zip(_together(MIXED[1:], _renumbered(tmp_path)), alone[1:], strict=True):
        assert_alike(run, expected)


def _renumbered(root: Path) -> Path:
    """The last runs of a folder as the first ones of it."""
    (root / "0").rename(root / "done")
    for number in (1, 2):
        (root / str(number)).rename(root / str(number - 1))
    return root


def test_those_behind_catch_up(tmp_path: Path, alone: list[Run]) -> None:
    train_model(MIXED[0], digits(), tmp_path / "0", limits=Limits(steps=STEPS + 1))
    train_model(MIXED[1], digits(), tmp_path / "1", limits=Limits(steps=2))
    for run, expected in zip(_together(MIXED, tmp_path), alone, strict=True):
        assert_alike(run, expected)


def test_a_stop_ends_all_of_them_in_a_state_to_resume_from(tmp_path: Path) -> None:
    found = _together(MIXED, tmp_path, callback=Stop(3))
    assert [run.info["status"] for run in found] == ["stopped"] * 3
    assert all("interrupted after 0 epochs" in run.info["sentence"] for run in found)
    found = _together(MIXED, tmp_path, Limits(seconds=0.0))
    assert all("reached the time limit" in run.info["sentence"] for run in found)


def test_one_that_diverges_leaves_the_others_as_alone(tmp_path: Path, alone: list[Run]) -> None:
    wild = config("vae", seed=3, learning_rate=1e20, patience=1, epochs=4)
    found = _together([MIXED[0], wild, MIXED[2]], tmp_path)
    assert found[1].info["status"] == "failed" and "not finite" in found[1].info["sentence"]
    assert checkpoint.load_last(found[1].path / runs.LAST, "cpu")["position"]["step"] == 0
    assert_alike(found[0], alone[0])
    assert_alike(found[2], alone[2])


def test_an_error_is_written_into_every_folder(tmp_path: Path) -> None:
    class Full(TrainingCallback):
        def step(self, done: int) -> None:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        _together(MIXED, tmp_path, callback=Full())
    told = [Run(tmp_path / str(number)).info for number in range(3)]
    assert {(info["status"], info["sentence"]) for info in told} == {("failed", "OSError: no space left")}


def test_where_one_session_cannot_open_none_is_left_running(tmp_path: Path, alone: list[Run]) -> None:
    class Deaf(TrainingCallback):
        def start(self, run: Run, steps: int, done: int) -> None:
            raise OSError("no terminal")

    callbacks = [TrainingCallback(), Deaf(), TrainingCallback()]
    trainers = [
        create_trainer(MIXED[i], digits(), tmp_path / str(i), callback=each) for i, each in enumerate(callbacks)
    ]
    with pytest.raises(OSError, match="no terminal"):
        batched.train_batched(trainers)
    told = [Run(tmp_path / str(number)).info for number in range(3)]
    assert [info["status"] for info in told] == ["failed", "stopped", "stopped"]
    assert told[0]["sentence"] == "OSError: no terminal" and told[2]["sentence"].startswith("no step was taken: ")
    for run, expected in zip(_together(MIXED, tmp_path), alone, strict=True):
        assert_alike(run, expected)


def test_steps_recorded_before_weights_moved_are_not_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one steps alone for two epochs, beside the other for one, which diverges then, and alone again."""
    real, recorded = evaluation.validate, []

    def validate(model: Any, data: Any, *, seed: int) -> Any:
        values, q = real(model, data, seed=seed)
        return (values | {"neg_elbo": math.nan} if seed == 1 else values), q

    def record(run: replay.Run) -> replay.Run:
        def where() -> list[int]:
            return [p.data_ptr() for p in trainers[0].state.model.parameters()]

        def again() -> StepMetrics:
            recorded.append(where())
            assert recorded[-1] == at, "a recording reads and writes where the weights lay"
            return run()

        at = where()
        return again

    configs = [config("vae", seed=seed, epochs=4) for seed in range(2)]
    train_model(configs[1], digits(), tmp_path / "1", limits=Limits(steps=2 * STEPS))
    trainers = [create_trainer(configs[0], digits(), tmp_path / "0"), restore_trainer(Run(tmp_path / "1"), digits())]
    trainers[0].step = replay.Replayed(trainers[0].state, lambda: record)
    monkeypatch.setattr(training, "validate", validate)
    found = batched.train_batched(trainers)
    assert [run.info["status"] for run in found] == ["finished", "failed"] and recorded
    monkeypatch.setattr(training, "validate", real)
    assert_alike(found[0], train_model(configs[0], digits(), tmp_path / "alone"))


def test_a_checkpoint_holds_the_numbers_of_its_own_model(tmp_path: Path, alone: list[Run]) -> None:
    for one, other in zip(_together(MIXED, tmp_path), alone, strict=True):
        sizes = [(run.path / runs.LAST).stat().st_size for run in (one, other)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_batch_norm_statistics_are_as_alone(tmp_path: Path) -> None:
    configs = [config("vae", arch="he2019-small", seed=seed, epochs=1) for seed in range(2)]
    for run, chosen in zip(_together(configs, tmp_path / "together"), configs, strict=True):
        assert_alike(run, train_model(chosen, digits(), tmp_path / str(chosen.seed)))


@pytest.mark.parametrize(
    "other",
    [
        config("aggressive"),
        config("sa-vae"),
        config("svi"),
        config("ne-vae-se"),
        config("vae", arch="conv"),
        config("vae", batch_size=16),
    ],
    ids=lambda chosen: chosen.method.name,
)
def test_what_differs_or_steps_by_itself_is_refused(other: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be trained together"):
        _together([config("vae"), other], tmp_path)
    assert {Run(path).info["status"] for path in tmp_path.iterdir()} == {"stopped"}
    assert not any(path.joinpath("metrics.jsonl").exists() for path in tmp_path.iterdir())


def test_sequences_are_refused(tmp_path: Path) -> None:
    chosen = config("vae", arch="lstm")
    trainers = [create_trainer(chosen, sentences(), tmp_path / str(number)) for number in range(2)]
    with pytest.raises(UsageError, match="one after another"):
        batched.train_batched(trainers)
