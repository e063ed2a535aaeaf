"""The training loop: what it lowers and records, decay, limits, divergence, and resume bit for bit wherever cut."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lso.vae import checkpoint, runs
from lso.vae.config.methods import METHODS
from lso.vae.data.dataset import count_batches
from lso.vae.errors import DivergedError, RunError
from lso.vae.metrics import evaluation
from lso.vae.objectives.kl_schedules import kl_weight
from lso.vae.runs import Run
from lso.vae.training import cuda_graphs as replay
from lso.vae.training import loop as training
from lso.vae.training import step as stepping
from lso.vae.training.loop import Limits, TrainingCallback, resume_training, train_model
from lso.vae.training.setup import create_trainer
from lso.vae.training.step import State, StepInputs, StepMetrics, StepNoise
from lso.vae.utils.files import LOCK
from tests.vae.small import STEPS, Stop, assert_same_run, config, data_for, digits, rows

ROOT = Path(__file__).resolve().parents[3]
every_method = pytest.mark.parametrize("name", METHODS)


# --- training ---------------------------------------------------------------------------------------------------------


@every_method
def test_two_epochs_lower_the_loss_and_fill_the_folder(name: str, tmp_path: Path) -> None:
    data = data_for(config(name))
    run = train_model(config(name, learning_rate=3e-3), data, tmp_path / "r")
    found, length = run.metrics(), count_batches(data.train, 32)
    assert length == STEPS or data.kind == "sequence"
    assert [(row["epoch"], row["step"]) for row in found] == [(0, 0), (1, length), (2, 2 * length)]
    assert found[-1]["neg_elbo"] < found[1]["neg_elbo"] < found[0]["neg_elbo"]
    assert found[2]["train_loss"] < found[1]["train_loss"] and found[0]["train_loss"] is None
    assert run.info["status"] == "finished" and "; kept epoch 2, of the least validation " in run.info["sentence"]
    assert sorted(os.listdir(run.path)) == sorted(
        [LOCK, runs.CONFIG, runs.INFO, runs.METRICS, runs.MODEL, runs.LAST, runs.CODES]
    )
    assert run.config == config(name, learning_rate=3e-3)


def test_saved_model_and_codes_are_those_of_the_best_row(tmp_path: Path) -> None:
    run = train_model(config(learning_rate=3e-3), digits(), tmp_path / "r")
    model, codes = run.model(), run.codes()
    values, q = evaluation.validate(model, digits().validation, seed=0)
    assert values["neg_elbo"] == run.best()["neg_elbo"] and values["mi_split"] == run.best()["mi_split"]
    assert codes is not None and codes.decoder_use is not None and codes.decoder_use.shape == (4,)
    assert torch.equal(codes.mean, q.mean) and torch.equal(codes.log_var, q.log_var)


def test_the_best_row_may_be_judged_at_the_methods_own_weight(tmp_path: Path) -> None:
    """With a weight of 0.01 and z used, the KL alone makes later epochs worse at weight 1."""
    run = train_model(config("beta-vae:beta=0.01", learning_rate=3e-3, monitor="objective"), digits(), tmp_path / "r")
    own = [row["reconstruction"] + 0.01 * row["kl"] for row in run.metrics()]
    assert run.best()["epoch"] == own.index(min(own))
    values, _ = evaluation.validate(run.model(), digits().validation, seed=0)
    assert values["reconstruction"] + 0.01 * values["kl"] == pytest.approx(min(own))


@every_method
def test_result_is_a_function_of_the_configuration(name: str, tmp_path: Path) -> None:
    for place in ("a", "b"):
        torch.manual_seed(len(os.listdir(tmp_path)))
        before = torch.get_rng_state()
        train_model(config(name), data_for(config(name)), tmp_path / place)
        assert torch.equal(before, torch.get_rng_state())
    assert_same_run(tmp_path / "a", tmp_path / "b")
    train_model(config(name, seed=1), data_for(config(name)), tmp_path / "c")
    assert rows(tmp_path / "c") != rows(tmp_path / "a")


def test_rows_tell_the_weights_that_were_used(tmp_path: Path) -> None:
    chosen = config("vae-anneal", anneal=2, epochs=3)
    found = train_model(chosen, digits(), tmp_path / "r").metrics()
    last_steps = [0, STEPS - 1, 2 * STEPS - 1, 3 * STEPS - 1]
    assert [row["kl_weight"] for row in found] == [
        kl_weight(chosen.method.schedule, step, STEPS) for step in last_steps
    ]
    assert found[2]["kl_weight"] == pytest.approx(1) and found[1]["kl_weight"] == pytest.approx(0.55)
    assert [row["eligible"] for row in found] == [False, False, True, True]
    assert [row["best"] for row in found] == [True, True, True, found[3]["watched"] < found[2]["watched"]]


def test_every_datum_is_seen_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    real = stepping.step
    monkeypatch.setattr(replay, "step", lambda state, x, *rest: seen.append(x) or real(state, x, *rest))  # type: ignore[func-returns-value]
    train_model(config(), digits(), tmp_path / "r")
    assert [len(x) for x in seen] == [32, 32, 32, 4] * 2
    epochs = [torch.cat(seen[:STEPS]).flatten(1), torch.cat(seen[STEPS:]).flatten(1)]
    assert not torch.equal(*epochs)  # another order
    assert all(torch.equal(_sorted(x), _sorted(digits().pixels("train").flatten(1))) for x in epochs)


def test_every_step_has_its_own_noise_and_weight_and_counts_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[StepNoise, StepInputs, StepMetrics]] = []
    real = stepping.step

    def spy(
        state: State, x: Tensor, noise: StepNoise, knobs: StepInputs, groups: tuple[stepping.Group, ...]
    ) -> StepMetrics:
        calls.append((noise, knobs, real(state, x, noise, knobs, groups)))
        return calls[-1][2]

    monkeypatch.setattr(replay, "step", spy)
    chosen = config("vae-anneal", anneal=2)
    found = train_model(chosen, digits(), tmp_path / "r").metrics()
    assert len({noise.drawn["posterior"].sum().item() for noise, _, _ in calls}) == len(calls) == 2 * STEPS
    weights = [kl_weight(chosen.method.schedule, step, STEPS) for step in range(2 * STEPS)]
    assert [knobs.kl_weight.item() for _, knobs, _ in calls] == pytest.approx(weights)
    sizes = torch.tensor([32.0, 32.0, 32.0, 4.0])
    for row, part in ((found[1], calls[:STEPS]), (found[2], calls[STEPS:])):
        losses = torch.stack([info.loss for _, _, info in part])
        assert row["train_loss"] == pytest.approx((losses * sizes).sum().item() / 100, rel=1e-5)


def _sorted(x: Tensor) -> Tensor:
    return x[torch.tensor(sorted(range(len(x)), key=lambda i: x[i].tolist()))]


def test_no_epochs_write_an_untrained_model(tmp_path: Path) -> None:
    run = train_model(config(epochs=0), digits(), tmp_path / "r")
    assert run.info["status"] == "finished" and len(run.metrics()) == 1 and not run.model().training


def test_bytes_and_doubles_train_as_their_floats(tmp_path: Path) -> None:
    base = digits()
    grey = (base.pixels("train") * 255).round().to(torch.uint8)
    kinds = {"bytes": grey, "floats": grey.float() / 255, "doubles": (grey.float() / 255).double()}
    for name, x in kinds.items():
        train_model(config(), dataclasses.replace(base, train=x), tmp_path / name)
    assert rows(tmp_path / "bytes") == rows(tmp_path / "floats") == rows(tmp_path / "doubles")


def test_a_taken_folder_is_refused_before_training(tmp_path: Path) -> None:
    train_model(config(epochs=0), digits(), tmp_path / "r")
    before = (tmp_path / "r" / runs.INFO).read_text()
    with pytest.raises(RunError, match="exists and runs are never overwritten"):
        train_model(config(), digits(), tmp_path / "r")
    assert (tmp_path / "r" / runs.INFO).read_text() == before and os.listdir(tmp_path) == ["r"]


def test_watch_is_told_of_start_steps_and_epochs(tmp_path: Path) -> None:
    class Notes(TrainingCallback):
        def __init__(self) -> None:
            self.said: list[Any] = []

        def start(self, run: Run, steps: int, done: int) -> None:
            self.said.append((run.path.name, steps, done))

        def step(self, done: int) -> None:
            self.said.append(done)

        def epoch(self, row: Mapping[str, Any]) -> None:
            self.said.append(f"epoch {row['epoch']}")

    one, two = Notes(), Notes()
    run = train_model(config(), digits(), tmp_path / "r", callback=one, limits=Limits(steps=5))
    resume_training(run, digits(), callback=two)
    assert one.said == [("r", 8, 0), "epoch 0", 1, 2, 3, 4, "epoch 1", 5]
    assert two.said == [("r", 8, 5), 6, 7, 8, "epoch 2"]


@pytest.mark.parametrize(
    ("anneal", "judged", "word"), [(2.0, True, "Posterior collapse"), (3.0, False, "Not learnt yet")]
)
def test_a_collapse_is_told_after_the_warm_up_alone(anneal: float, judged: bool, word: str, tmp_path: Path) -> None:
    run = train_model(config("vae-anneal", anneal=anneal, learning_rate=1e-5), digits(), tmp_path / "r")
    assert run.verdict.startswith(f"{word}: the codes carry 0.")
    assert run.info["judged"] is judged and run.info["latents"]["mutual_information"] < 0.5


# --- decay ------------------------------------------------------------------------------------------------------------


def _script(monkeypatch: pytest.MonkeyPatch, losses: list[float], **other: Any) -> None:
    """Validation as written: the n-th call returns the n-th loss."""
    real, script = evaluation.validate, iter(losses)

    def validate(*args: Any, **kwargs: Any) -> Any:
        values, q = real(*args, **kwargs)
        return values | {"neg_elbo": next(script), **other}, q

    monkeypatch.setattr(training, "validate", validate)


def _weights(state: State) -> Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()]).clone()


def test_decay_reloads_the_best_weights_and_forgets_the_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He et al. (2019) with patience 2: best at epoch 1, so decays after epochs 3 and 5, where training ends."""
    before: list[tuple[Tensor, int]] = []
    real = stepping.step

    def spy(state: State, *rest: Any) -> StepMetrics:
        before.append((_weights(state), sum(len(optimizer.state) for optimizer in state.optimizers.values())))
        return real(state, *rest)

    monkeypatch.setattr(replay, "step", spy)
    _script(monkeypatch, [10.0, 9.0, 9.5, 9.0, 9.2, 9.1])
    run = train_model(config(epochs=50, patience=2, max_decays=2, monitor="elbo"), digits(), tmp_path / "r")
    found = run.metrics()
    assert [row["epoch"] for row in found] == [0, 1, 2, 3, 4, 5]
    assert [row["learning_rate"] for row in found] == [1e-3] * 4 + [5e-4] * 2
    assert [row["best"] for row in found] == [True, True, False, False, False, False]
    best, moments = before[STEPS]  # before the first step of epoch 2: the weights of epoch 1
    assert moments == 12  # Adam has a state for each of the 6 + 6 parameters
    assert torch.equal(before[3 * STEPS][0], best) and before[3 * STEPS][1] == 0
    assert torch.equal(torch.cat([p.detach().flatten() for p in run.model().parameters()]), best)


def test_without_patience_the_rate_never_decays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, [1.0, 2.0, 3.0, 4.0])
    found = train_model(config(epochs=3, patience=0), digits(), tmp_path / "r").metrics()
    assert {row["learning_rate"] for row in found} == {1e-3} and len(found) == 4


# --- divergence -------------------------------------------------------------------------------------------------------


def test_an_exploding_run_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"not finite .*the last good checkpoint is kept\nLower the learning rate"):
        train_model(config(learning_rate=1e20), digits(), tmp_path / "r")
    run = Run(tmp_path / "r")
    assert run.info["status"] == "failed" and "not finite" in run.info["sentence"]
    assert checkpoint.load_last(run.path / runs.LAST, "cpu")["position"]["step"] == 0
    assert all(value.isfinite().all() for value in run.model().state_dict().values())
    assert len(run.metrics()) == 1


@pytest.mark.parametrize("field", ["loss", "gradient_norm"])
@pytest.mark.parametrize("stop", [False, True])
def test_one_bad_step_is_never_checkpointed(
    field: str, stop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the interval nor by a stop right after it; a finite loss with an infinite gradient counts as bad."""
    real, done = stepping.step, [0]

    def poisoned(*args: Any) -> StepMetrics:
        done[0] += 1
        info = real(*args)
        return info._replace(**{field: torch.tensor(float("inf"))}) if done[0] == STEPS + 2 else info

    monkeypatch.setattr(replay, "step", poisoned)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(DivergedError, match=f"by step {STEPS + 2}"):
        train_model(config(), digits(), tmp_path / "r", callback=Stop(STEPS + 2) if stop else None)
    run = Run(tmp_path / "r")
    assert run.info["status"] == "failed"
    assert checkpoint.load_last(run.path / runs.LAST, "cpu")["position"]["step"] == STEPS + 1


def test_a_checkpoint_that_takes_long_comes_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of 54 million parameters took 5 s to write, which they did every 5 s."""
    written, real = list[str](), checkpoint.save_last

    def spy(values: dict[str, Any], path: Path) -> None:
        written.append(path.name)
        real(values, path)

    monkeypatch.setattr(checkpoint, "save_last", spy)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 1e-6)
    train_model(config(), digits(), tmp_path / "often")
    assert len(written) == 2 * STEPS + 2
    written.clear()
    monkeypatch.setattr(training, "CHEAP_SECONDS", 1e-12)  # so that the milliseconds of this one are much
    train_model(config(), digits(), tmp_path / "rarely")
    assert len(written) == 2  # at the start and at the end


def test_bad_validation_stops_before_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, [float("nan")])
    with pytest.raises(DivergedError, match="validation loss was not finite after epoch 0; no checkpoint was made yet"):
        train_model(config(), digits(), tmp_path / "r")
    assert Run(tmp_path / "r").info["status"] == "failed"


def test_of_several_processes_none_finds_divergence_by_its_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = create_trainer(config("vae"), digits(), tmp_path / "r")
    trainer.saved = -math.inf
    ruined = StepMetrics(*(torch.tensor(math.nan) for _ in StepMetrics._fields))
    launch = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    with monkeypatch.context() as several:
        for name, value in launch.items():
            several.setenv(name, value)
        training.after_step(trainer, ruined, 32)
        trainer.position = dataclasses.replace(trainer.position, step=training.READ_EVERY - 1)
        with pytest.raises(DivergedError, match=f"not finite by step {training.READ_EVERY}"):
            training.after_step(trainer, ruined, 32)
    trainer.position = dataclasses.replace(trainer.position, step=6)
    with pytest.raises(DivergedError, match="not finite by step 7"):
        training.after_step(trainer, ruined, 32)
    assert not (trainer.run.path / runs.LAST).exists()
