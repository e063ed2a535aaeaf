"""Which weights are kept: the full loss against its definition, and from which epoch on it is watched."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from lso.vae import runs
from lso.vae.checkpoint_selection import describe_selection, is_eligible
from lso.vae.config.components import Amortized
from lso.vae.config.methods import METHODS
from lso.vae.config.training import from_toml, to_toml
from lso.vae.metrics.evaluation import validate
from lso.vae.metrics.passes import draw_normals, eval_mode
from lso.vae.runs import Run
from lso.vae.training import batched
from lso.vae.training import cuda_graphs as replay
from lso.vae.training import loop as training
from lso.vae.training import step as stepping
from lso.vae.training.loop import Limits, resume_training, train_model
from lso.vae.training.monitor import full_loss
from lso.vae.training.setup import create_trainer
from lso.vae.training.step import State, StepMetrics, StepNoise, losses
from tests.vae.small import BASELINE_METHODS, STEPS, config, data_for, digits, example, rows, small_model

VARIANTS = ["ne-vae-se:reduction=sum,weight=3", "ne-vae-lp:c=-2", "free-bits:over=batch", "beta-vae:beta=0.3", "vae"]
VARIANTS += ["iwae:samples=3", "ne-vae-se:reconstruction=detached", "free-bits:floor=0.4"]


def measured(name: str, **sizes: Any) -> tuple[Any, ...]:
    """A method, an untrained model of it, validation digits, their posteriors and their row."""
    chosen = example(name)
    model = small_model(chosen, **sizes).double()
    x = digits().pixels("validation").double()
    values, q = validate(model, x, seed=5)
    return chosen, model, x, q, values


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_the_full_loss_is_that_of_a_training_step_at_the_last_weight(name: str) -> None:
    """With the same draws: all data as one batch, in eval mode; refined posteriors are those of validation."""
    sizes = {"arch": "mlp"} if name not in BASELINE_METHODS else {}
    if name == "lstm-lm":
        pytest.skip("the same formula on sequences; see the next test")
    chosen, model, x, q, values = measured(name, **sizes)
    found = full_loss(chosen, model, x, q, values["reconstruction"], 5)
    if chosen.inference != Amortized():
        assert found == pytest.approx(values["reconstruction"] + chosen.schedule.end * values["kl"])
        return
    count = chosen.objective.samples
    codes = [draw_normals(model, x, 5, f"watched/{i}" if i else "posterior") for i in range(count)]
    noise = StepNoise({"posterior": torch.stack(codes), "reencode": draw_normals(model, x, 5, "reencoding")[None]})
    with eval_mode(model), torch.no_grad():
        expected = losses(model, chosen, x, noise, torch.tensor(chosen.schedule.end, dtype=torch.float64)).loss
    assert found == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("name", ["lstm-lm", "ne-vae-se", "ne-vae-lp:c=0,reconstruction=hard", "iwae:samples=2"])
def test_of_sequences_it_is_finite_the_same_again_and_above_its_parts(name: str) -> None:
    chosen = config(name, arch="lstm")
    data, model = data_for(chosen), small_model(chosen.method, "lstm")
    values, q = validate(model, data.validation, seed=1)
    one, two = (full_loss(chosen.method, model, data.validation, q, values["reconstruction"], 1) for _ in range(2))
    assert math.isfinite(one) and one == two
    if name == "ne-vae-se":
        assert one > values["neg_elbo"]
    if name == "lstm-lm":
        assert one == pytest.approx(values["neg_elbo"])


def test_the_penalties_are_those_of_their_definition() -> None:
    """By torch.distributions: an untrained se has 2 a dimension, lp the entropy of a unit normal and the distance."""
    chosen, model, x, q, values = measured("ne-vae-lp:c=0.5")
    z = q.sample(draw_normals(model, x, 5, "posterior"))
    with eval_mode(model), torch.no_grad():
        again = model.encode(model.decode(z, x).mean)
    density: Tensor = Normal(again.mean, (0.5 * again.log_var).exp()).log_prob(z)  # type: ignore[no-untyped-call]
    lp = (-density).clamp(min=0.5).sum(1).mean().item()
    found = full_loss(chosen, model, x, q, values["reconstruction"], 5)
    assert found == pytest.approx(values["neg_elbo"] + lp, rel=1e-9)
    se = full_loss(example("ne-vae-se"), model, x, q, values["reconstruction"], 5)
    assert se == pytest.approx(values["neg_elbo"] + values["reencoding_error"], rel=1e-9)


def test_hard_pixels_are_drawn_alike_whatever_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, model, x, q, values = measured("ne-vae-se:reconstruction=hard")
    whole = full_loss(chosen, model, x, q, values["reconstruction"], 5)
    monkeypatch.setattr("lso.vae.training.monitor.pass_size", lambda model: 7)
    assert full_loss(chosen, model, x, q, values["reconstruction"], 5) == pytest.approx(whole, rel=1e-10)


# --- from which epoch on ----------------------------------------------------------------------------------------------


def script(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """What is watched is as written, epoch by epoch."""
    written = iter(values)
    monkeypatch.setattr(training, "monitored_value", lambda *args: next(written))


def test_a_method_that_pays_for_its_codes_keeps_them(tmp_path: Path) -> None:
    """-ELBO rises with what an lp penalty buys, so that its least is early; the method's own loss goes on falling."""
    chosen = config("ne-vae-lp:c=-5,weight=20", anneal=1, epochs=4, learning_rate=1e-2)
    run = train_model(chosen, digits(), tmp_path / "r")
    found = run.metrics()
    assert min(found, key=lambda row: row["neg_elbo"])["epoch"] == 2
    assert run.best()["epoch"] == min(found[1:], key=lambda row: row["watched"])["epoch"] == 4
    assert run.info["kept"]["epoch"] == run.info["last"]["epoch"] == 4
    assert run.info["kept"]["by"] in run.info["sentence"] and "-ELBO + re-encoding penalty" in run.info["sentence"]


def test_no_epoch_within_the_ramp_is_the_best_and_patience_counts_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least in the ramp of three epochs; from then on 9, 8, then nothing better: decays after epochs 6 and 8."""
    weights: list[Tensor] = []
    real = stepping.step

    def spy(state: State, *rest: Any) -> StepMetrics:
        weights.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]).clone())
        return real(state, *rest)

    monkeypatch.setattr(replay, "step", spy)
    script(monkeypatch, [1.0, 2.0, 3.0, 9.0, 8.0, 8.5, 8.6, 8.7, 8.8])
    run = train_model(config("vae-anneal", anneal=3, epochs=50, patience=2, max_decays=2), digits(), tmp_path / "r")
    found = run.metrics()
    assert [row["eligible"] for row in found] == [False] * 3 + [True] * 6
    assert [row["best"] for row in found] == [True] * 5 + [False] * 4
    assert [row["learning_rate"] for row in found] == [1e-3] * 7 + [5e-4] * 2
    best = weights[4 * STEPS]  # before the first step of epoch 5: the weights of epoch 4
    assert torch.equal(weights[6 * STEPS], best)
    assert torch.equal(torch.cat([p.detach().flatten() for p in run.model().parameters()]), best)
    assert "kept epoch 4, of the least validation -ELBO (8.00)" in run.info["sentence"]


@pytest.mark.parametrize(("epochs", "told"), [(0, "untrained"), (2, "before the KL ramp has ended")])
def test_until_an_epoch_can_win_the_latest_weights_stand_and_are_called_so(
    epochs: int, told: str, tmp_path: Path
) -> None:
    run = train_model(config("vae-anneal", anneal=3, epochs=epochs), digits(), tmp_path / "r")
    assert f"kept the latest epoch, {epochs}, {told}" in run.info["sentence"]
    assert run.best()["epoch"] == epochs and not run.best()["eligible"]
    values, _ = validate(run.model(), digits().validation, seed=0)
    assert values["neg_elbo"] == run.metrics()[-1]["neg_elbo"]


def test_an_early_stop_says_what_it_keeps(tmp_path: Path) -> None:
    run = train_model(config("vae-anneal", anneal=3), digits(), tmp_path / "r", limits=Limits(steps=STEPS + 1))
    assert run.info["status"] == "stopped" and run.info["kept"]["epoch"] == run.info["last"]["epoch"] == 1
    assert run.info["kept"]["by"] == run.kept_by() == "kept the latest epoch, 1, before the KL ramp has ended"


@pytest.mark.parametrize(("first", "kept"), [(0, 0), (1, 2)])
def test_by_elbo_the_ramp_counts_and_the_untrained_model_only_in_old_folders(
    first: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_ = iter([1.0, 5.0, 4.0, 4.5])

    def scripted(*args: Any, **kwargs: Any) -> Any:
        values, q = validate(*args, **kwargs)
        return values | {"neg_elbo": next(losses_)}, q

    monkeypatch.setattr(training, "validate", scripted)
    chosen = config("vae-anneal", anneal=3, epochs=3, monitor="elbo", monitor_from=first)
    run = train_model(chosen, digits(), tmp_path / "r")
    assert run.best()["epoch"] == kept and f"kept epoch {kept}, of the least validation -ELBO" in run.info["sentence"]


def test_the_last_weights_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    run = train_model(config("vae", anneal=0, epochs=3, monitor="last"), digits(), tmp_path / "r")
    assert all(row["best"] and row["watched"] is None for row in run.metrics())
    assert "kept the last epoch, 3, as asked for" in run.info["sentence"]


def test_a_folder_without_the_key_means_what_it_meant(tmp_path: Path) -> None:
    """Written by 0.1.0: the rule is stated, the first epoch is not; before that neither was."""
    chosen = config(monitor="elbo", monitor_from=0)
    run = train_model(chosen, digits(), tmp_path / "r", limits=Limits(steps=STEPS))
    old = "".join(line for line in to_toml(chosen).splitlines(True) if not line.startswith("monitor_from"))
    (run.path / runs.CONFIG).write_text(old)
    assert Run(run.path, accept_changes=True).config == chosen and from_toml(old).protocol.monitor_from == 1
    (run.path / runs.CONFIG).write_text(old.replace('monitor = "elbo"\n', ""))
    assert Run(run.path, accept_changes=True).config == chosen and from_toml(old).protocol.monitor == "elbo"


def test_rows_of_older_folders_are_told_by_their_rule() -> None:
    row = {"epoch": 3, "neg_elbo": 9.0, "reconstruction": 5.0, "kl": 4.0}
    assert describe_selection(config(monitor="elbo"), row) == "kept epoch 3, of the least validation -ELBO (9.00)"
    own = describe_selection(config("beta-vae:beta=0.5", monitor="objective"), row)
    assert own == "kept epoch 3, of the least validation reconstruction + 0.5 KL (7.00)"


def test_fractions_and_cycles_of_a_ramp_end_with_their_last_step() -> None:
    half = config("vae", anneal=2.5)
    assert [is_eligible(half, epoch, 4 * epoch, 4) for epoch in range(5)] == [False, False, False, True, True]
    cycles = config("vae:anneal=1,cycles=2")  # a ramp, a plateau, and the second ramp
    assert [is_eligible(cycles, epoch, 4 * epoch, 4) for epoch in range(5)] == [False, False, False, True, True]


def test_in_lockstep_the_same_epochs_are_kept(tmp_path: Path) -> None:
    chosen = [config("ne-vae-se", anneal=2, seed=seed, epochs=4, patience=1) for seed in range(2)]
    found = batched.train_batched([create_trainer(one, digits(), tmp_path / f"t{one.seed}") for one in chosen])
    for one, run in zip(chosen, found, strict=True):
        other = train_model(one, digits(), tmp_path / f"a{one.seed}")
        for key in ("eligible", "best", "learning_rate"):
            assert [row[key] for row in run.metrics()] == [row[key] for row in other.metrics()]
        assert [row["watched"] for row in run.metrics()] == pytest.approx(
            [row["watched"] for row in other.metrics()], rel=1e-4
        )


def test_cut_in_the_ramp_and_resumed_it_ends_as_unbroken(tmp_path: Path) -> None:
    chosen = config("ne-vae-lp:c=-1", anneal=2, epochs=4, patience=1)
    whole = train_model(chosen, digits(), tmp_path / "whole")
    cut = train_model(chosen, digits(), tmp_path / "cut", limits=Limits(steps=STEPS + 2))
    assert rows(resume_training(cut, digits()).path) == rows(whole.path)
    assert json.dumps(cut.info["kept"]) == json.dumps(whole.info["kept"])
