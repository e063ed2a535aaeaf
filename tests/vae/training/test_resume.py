"""Resume: a run that was cut, killed or stopped anywhere ends bit for bit as the unbroken one; what is refused."""

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lso.vae import checkpoint, runs
from lso.vae.config.methods import METHODS
from lso.vae.config.training import TrainConfig, to_toml
from lso.vae.errors import RunError, UsageError
from lso.vae.metrics import evaluation
from lso.vae.models.vae import VAE
from lso.vae.runs import Run
from lso.vae.training import cuda_graphs as replay
from lso.vae.training import loop as training
from lso.vae.training import step as stepping
from lso.vae.training.loop import Limits, TrainingCallback, resume_training, train_model
from lso.vae.utils.files import LOCK
from tests.vae.small import STEPS, Stop, assert_same_run, config, data_for, digits, sentences

ROOT = Path(__file__).resolve().parents[3]
every_method = pytest.mark.parametrize("name", METHODS)


class Killed(BaseException):
    """Stands for a process that ends without a word."""


class Kill(TrainingCallback):
    """Ends the session at a step or an epoch, as a power cut would."""

    def __init__(self, *, step: int = -1, epoch: int = -1) -> None:
        self.at_step, self.at_epoch = step, epoch

    def step(self, done: int) -> None:
        if done == self.at_step:
            raise Killed

    def epoch(self, row: Mapping[str, Any]) -> None:
        if row["epoch"] == self.at_epoch:
            raise Killed


def killed(chosen: TrainConfig, path: Path, **at: int) -> Run:
    with pytest.raises(Killed):
        train_model(chosen, data_for(chosen), path, callback=Kill(**at))
    run = Run(path)
    assert run.info["status"] == "running"
    return run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an uninterrupted run of a method, trained once."""
    root = tmp_path_factory.mktemp("unbroken")

    def find(name: str) -> Path:
        if not (root / name).exists():
            train_model(config(name), data_for(config(name)), root / name)
        return root / name

    return find


@every_method
@pytest.mark.parametrize("cut", [2, STEPS], ids=["mid-epoch", "boundary"])
def test_cut_and_resumed_run_is_the_unbroken_one(
    name: str, cut: int, tmp_path: Path, unbroken: Callable[[str], Path]
) -> None:
    run = train_model(config(name), data_for(config(name)), tmp_path / "r", limits=Limits(steps=cut))
    assert run.info["status"] == "stopped" and f"and {cut} steps" in run.info["sentence"]
    assert resume_training(run, data_for(config(name))).info["status"] == "finished"
    assert_same_run(run.path, unbroken(name))


def test_a_run_cut_at_every_step_is_the_unbroken_one(tmp_path: Path, unbroken: Callable[[str], Path]) -> None:
    run = train_model(config("ne-vae-se"), digits(), tmp_path / "r", callback=Stop(0))
    for done in range(1, 2 * STEPS):
        run = resume_training(Run(run.path), digits(), callback=Stop(done))
        assert run.info["status"] == "stopped" and "interrupted" in run.info["sentence"]
        run.model(), run.codes()  # what a search needs is there at any time
    assert_same_run(resume_training(run, digits()).path, unbroken("ne-vae-se"))


@pytest.mark.parametrize("interval", [0.0, 1e9], ids=["checkpoint-each-step", "checkpoint-at-start"])
@pytest.mark.parametrize("step", [1, 3, STEPS, STEPS + 1, 2 * STEPS])
def test_killed_and_resumed_run_is_the_unbroken_one(
    step: int, interval: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: Callable[[str], Path]
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", interval)
    run = killed(config("ne-vae-lp"), tmp_path / "r", step=step)
    (run.path / ".last.pt.4711").touch()  # the half-written file that a kill may leave
    assert_same_run(resume_training(run, digits()).path, unbroken("ne-vae-lp"))
    assert list(run.path.glob(".*")) == [run.path / LOCK]


def test_rows_with_other_line_ends_go_on(tmp_path: Path, unbroken: Callable[[str], Path]) -> None:
    run = killed(config("ne-vae-lp"), tmp_path / "r", step=STEPS + 1)
    rows = run.path / "metrics.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"\n", b"\r\n"))
    assert_same_run(resume_training(run, digits()).path, unbroken("ne-vae-lp"))


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_rows_without_a_checkpoint_are_written_again(
    epoch: int, tmp_path: Path, unbroken: Callable[[str], Path]
) -> None:
    """Killed after the row and before the next checkpoint; at epoch 0 there is no last.pt yet."""
    run = killed(config("iwae"), tmp_path / "r", epoch=epoch)
    assert (run.path / runs.LAST).exists() == (epoch > 0) and len(run.metrics()) == epoch + 1
    assert_same_run(resume_training(run, digits()).path, unbroken("iwae"))


@pytest.mark.parametrize(("name", "lengths"), [("aggressive:budget=3", "equal"), ("sa-vae:steps=2", "near")])
def test_a_run_on_sequences_with_dropout_is_the_unbroken_one(name: str, lengths: str, tmp_path: Path) -> None:
    chosen = config(name, arch="lstm", lengths=lengths, optimizer="sgd", learning_rate=1.0)
    assert chosen.architecture.dropout > 0
    whole = train_model(chosen, sentences(), tmp_path / "whole")
    cut = train_model(chosen, sentences(), tmp_path / "cut", limits=Limits(steps=3))
    cut = resume_training(cut, sentences(), limits=Limits(steps=6))
    assert_same_run(resume_training(cut, sentences()).path, whole.path)


def test_a_checkpoint_with_moments_of_another_layout_goes_on_as_one_with_its_own(tmp_path: Path) -> None:
    """Weights of convolutions have channels innermost; those of older checkpoints had not, nor had their moments."""
    chosen = config("vae", arch="he2019-small")
    whole = train_model(chosen, digits(), tmp_path / "whole")
    cut = train_model(chosen, digits(), tmp_path / "cut", limits=Limits(steps=3))
    values = checkpoint.load_last(cut.path / runs.LAST, "cpu")
    for optimizer in values["optimizers"].values():
        for moments in optimizer["state"].values():
            moments |= {name: value.contiguous() for name, value in moments.items()}
    checkpoint.save_last(values, cut.path / runs.LAST)
    assert_same_run(resume_training(cut, digits()).path, whole.path)


def test_a_torn_row_is_dropped(tmp_path: Path, unbroken: Callable[[str], Path]) -> None:
    run = killed(config("vae"), tmp_path / "r", step=3)
    with (run.path / runs.METRICS).open("a") as file:
        file.write('{"epoch": 1, "neg_el')
    assert_same_run(resume_training(run, digits()).path, unbroken("vae"))


def test_resume_during_decay_is_the_unbroken_run(tmp_path: Path) -> None:
    """A large rate and patience 1 make real decays; cut before, at and after them."""
    chosen = config("ne-vae-se", learning_rate=0.3, patience=1, max_decays=3, epochs=12)
    whole = train_model(chosen, digits(), tmp_path / "whole")
    rates = [row["learning_rate"] for row in whole.metrics()]
    changes = [i * STEPS for i in range(1, len(rates)) if rates[i] < rates[i - 1]]
    assert len(changes) >= 2  # the case is what it says
    for cut in sorted({step + shift for step in changes for shift in (-STEPS - 1, -STEPS, -STEPS + 1)}):
        run = train_model(chosen, digits(), tmp_path / str(cut), limits=Limits(steps=cut))
        assert_same_run(resume_training(run, digits()).path, whole.path)


class Ask(TrainingCallback):
    """Asks for a stop when asked itself for so many a time."""

    def __init__(self, times: int) -> None:
        self.left = times

    def stop(self) -> str | None:
        self.left -= 1
        return "interrupted" if self.left < 0 else None


@pytest.mark.parametrize(
    ("arch", "name"), [("mlp", "aggressive:window=2,cap=5"), ("he2019-small", "aggressive:budget=3")]
)
def test_a_stop_among_inner_steps_goes_back_to_the_last_outer_one(arch: str, name: str, tmp_path: Path) -> None:
    """Weights, running statistics, optimizer and plan: an outer step that was cut was never begun."""
    chosen = config(name, arch=arch, epochs=1)
    whole = train_model(chosen, digits(), tmp_path / "whole")
    for times in (3, 8, 10) if arch == "mlp" else (10,):
        run = train_model(chosen, digits(), tmp_path / str(times), callback=Ask(times))
        step = int(run.info["sentence"].split()[-2])
        before = train_model(chosen, digits(), tmp_path / f"before-{times}", limits=Limits(steps=step))
        assert_same_run(run.path, before.path)
        assert_same_run(resume_training(run, digits()).path, whole.path)


def test_time_limit_is_looked_at_among_inner_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, real = [time.monotonic()], stepping.step

    def slow(*args: Any) -> Any:
        now[0] += 1.0
        return real(*args)

    monkeypatch.setattr(replay, "step", slow)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    chosen, start = config("aggressive:budget=50"), now[0]
    run = train_model(chosen, digits(), tmp_path / "r", limits=Limits(seconds=53.5))
    assert run.info["sentence"] == "reached the time limit after 0 epochs and 1 step" and now[0] - start == 54


def test_resume_keeps_what_the_phase_of_aggressive_updates_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phase ends after epoch 3, whose MI is below that of epoch 2: a session cut in epoch 3 has to know that."""
    chosen, real = config("aggressive:budget=2,patience=1", epochs=4), evaluation.validate

    def scripted(model: VAE, x: Tensor, seed: int) -> Any:
        row, q = real(model, x, seed)
        return {**row, "mi": next(script)}, q

    monkeypatch.setattr(training, "validate", scripted)
    script = iter([0.0, 1.0, 1.1, 0.9, 2.0])
    whole = train_model(chosen, digits(), tmp_path / "whole")
    assert [row["inner_steps"] for row in whole.metrics()] == [0, 2, 2, 2, 0]
    script = iter([0.0, 1.0, 1.1, 0.9, 2.0])
    run = train_model(chosen, digits(), tmp_path / "r", limits=Limits(steps=2 * STEPS + 1))
    assert_same_run(resume_training(run, digits()).path, whole.path)


def test_time_limit_stops_and_can_be_resumed(tmp_path: Path, unbroken: Callable[[str], Path]) -> None:
    run = train_model(config("vae"), digits(), tmp_path / "r", limits=Limits(seconds=0.0))
    assert run.info["sentence"] == "reached the time limit after 0 epochs and 0 steps"
    assert_same_run(resume_training(run, digits()).path, unbroken("vae"))


def test_a_limit_beyond_the_end_changes_nothing(tmp_path: Path, unbroken: Callable[[str], Path]) -> None:
    run = train_model(config("vae"), digits(), tmp_path / "r", limits=Limits(steps=2 * STEPS, seconds=1e6))
    assert run.info["status"] == "finished"
    assert_same_run(run.path, unbroken("vae"))


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path) -> None:
    run = train_model(config(), digits(), tmp_path / "r")
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    assert resume_training(run, digits()).path == run.path
    assert before == {path.name: path.read_bytes() for path in run.path.iterdir()}


def test_seconds_add_up_over_sessions(tmp_path: Path) -> None:
    run = train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=3))
    first = run.info["seconds"]
    assert 0 < first <= resume_training(run, digits()).info["seconds"] < first + 60


# --- what is refused --------------------------------------------------------------------------------------------------


def stopped(path: Path, name: str = "vae") -> Run:
    return train_model(config(name), digits(), path, limits=Limits(steps=3))


def test_other_data_are_refused(tmp_path: Path) -> None:
    run, base = stopped(tmp_path / "r"), digits()
    for other in (dataclasses.replace(base, train=base.train[1:]), dataclasses.replace(base, validation=base.test)):
        with pytest.raises(RunError, match=r"the data of .* have changed\n|have changed since"):
            resume_training(run, other)
    assert run.info["status"] == "stopped"


@pytest.mark.parametrize("damage", ["truncated", "other", "list", "tensor", "empty"])
def test_a_damaged_checkpoint_is_refused_in_two_lines(damage: str, tmp_path: Path) -> None:
    run = stopped(tmp_path / "r")
    path = run.path / runs.LAST
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        other = train_model(config("skip-vae"), digits(), tmp_path / "other", limits=Limits(steps=1)).path / runs.LAST
        content: Any = {"list": [1], "tensor": torch.ones(2), "empty": {}, "other": checkpoint.load_last(other, "cpu")}
        torch.save(content[damage], path)
    with pytest.raises(RunError, match=r"last\.pt") as caught:
        resume_training(run, digits())
    assert str(caught.value).count("\n") == 1


def test_lost_rows_are_noticed(tmp_path: Path) -> None:
    run = stopped(tmp_path / "r")
    (run.path / runs.METRICS).unlink()
    with pytest.raises(RunError, match=r"metrics\.jsonl was damaged or edited"):
        resume_training(run, digits())


def test_a_search_cannot_be_resumed_as_a_training(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "s", "search", {"status": "stopped"})
    with pytest.raises(RunError, match="is a search, not a training"):
        resume_training(run, digits())


# --- a real process, killed -------------------------------------------------------------------------------------------

CHILD = """
import sys, torch
from pathlib import Path
from lso.vae.training import loop as training
from lso.vae.config.training import from_toml
from lso.vae.data.dataset import Dataset
torch.set_num_threads(1)
training.CHECKPOINT_SECONDS = 0.05
folder = Path(sys.argv[1])
train, validation, test = torch.load(folder / "data.pt")
dataset = Dataset(name="digits", train=train, validation=validation, test=test)
training.train_model(from_toml((folder / "config.toml").read_text()), dataset, folder / sys.argv[2])
"""


def kill_after(folder: Path, name: str, rows: int, delay: float) -> int:
    """Train in a process of its own, SIGKILL it some seconds after so many rows; returns the rows that it left."""
    path = folder / name / runs.METRICS
    with subprocess.Popen([sys.executable, "-c", CHILD, str(folder), name], cwd=ROOT) as child:
        while child.poll() is None and rows and (not path.exists() or path.read_bytes().count(b"\n") < rows):
            time.sleep(0.002)
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_unbroken_run(tmp_path: Path) -> None:
    """SIGKILL at 20 random moments spread over the life of a training, start-up included; each resumed."""
    chosen = config("ne-vae-se", epochs=150, patience=4, max_decays=20, learning_rate=0.01, anneal=5)
    data, draw, struck = digits(), Random(0), []
    torch.save([data.train, data.validation, data.test], tmp_path / "data.pt")
    (tmp_path / "config.toml").write_text(to_toml(chosen))
    whole = train_model(chosen, data, tmp_path / "whole")
    total = len(whole.metrics())
    for i in range(20):
        rows = int(total * (i + draw.random()) / 20)
        struck.append(kill_after(tmp_path, str(i), rows, draw.random() * (0.02 if rows else 2.0)))
        path = tmp_path / str(i)
        run = resume_training(Run(path), data) if path.exists() else train_model(chosen, data, path)
        assert_same_run(run.path, whole.path)
        assert list(path.glob(".*")) == [path / LOCK]
    assert len({count for count in struck if 0 < count < total}) >= 10, struck  # it did strike mid-training


class Look(TrainingCallback):
    """Sees the number of CPU threads."""

    seen = 0

    def step(self, done: int) -> None:
        self.seen = torch.get_num_threads()


def test_threads_of_another_number_of_processes_are_not_kept(tmp_path: Path) -> None:
    run, look = killed(config("vae"), tmp_path / "r", step=4), Look()
    runs.update_run(run, processes=2, threads=7)
    resume_training(run, digits(), callback=look)
    assert look.seen == run.info["threads"] == 1 and run.info["processes"] == 1


def test_resume_goes_on_with_the_threads_it_began_with(tmp_path: Path, unbroken: Callable[[str], Path]) -> None:
    run, look = killed(config("vae"), tmp_path / "r", step=4), Look()
    torch.set_num_threads(2)
    try:
        resume_training(run, digits(), callback=look)
        assert look.seen == run.info["threads"] == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert_same_run(run.path, unbroken("vae"))


# --- begun with given weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["mlp", "lstm"])
@pytest.mark.parametrize("cut", ["epoch 0", "step 2"])
def test_a_run_begun_with_given_weights_is_the_unbroken_one(arch: str, cut: str, tmp_path: Path) -> None:
    """Before the first checkpoint the weights come from the folder, not from the seed."""
    chosen = config("vae", arch=arch, monitor="last")
    begun = train_model(chosen, data_for(chosen), tmp_path / "begun").model()
    whole = train_model(chosen, data_for(chosen), tmp_path / "whole", start=begun)
    kind, at = cut.split()
    with pytest.raises(Killed):
        train_model(chosen, data_for(chosen), tmp_path / "cut", start=begun, callback=Kill(**{kind: int(at)}))
    assert_same_run(resume_training(Run(tmp_path / "cut"), data_for(chosen)).path, whole.path)
    assert whole.metrics()[0]["neg_elbo"] == Run(tmp_path / "begun").metrics()[-1]["neg_elbo"]
    assert whole.best()["epoch"] == 2 and len(whole.info["start"]) == 64


def test_a_model_says_as_many_tokens_as_before_whatever_it_is_trained_on_next(tmp_path: Path) -> None:
    chosen, data = config("vae", arch="lstm", epochs=1), sentences()
    begun = train_model(chosen, data, tmp_path / "begun").model()
    short = data.corpus("train")[data.corpus("train").lengths < data.shape[0]]
    fewer = dataclasses.replace(data, train=short, validation=short, test=short)
    assert fewer.shape[0] < data.shape[0]
    assert train_model(chosen, fewer, tmp_path / "next", start=begun).model().shape == begun.shape


def test_weights_of_other_networks_are_refused(tmp_path: Path) -> None:
    begun = train_model(config("vae", epochs=0), digits(), tmp_path / "begun").model()
    with pytest.raises(UsageError, match="expected Architecture"):
        train_model(config("skip-vae"), digits(), tmp_path / "next", start=begun)
    assert not (tmp_path / "next").exists()
