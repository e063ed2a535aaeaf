"""``lso train``: what it prints, how it stops, how it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from lso.cli.signals import Signals
from lso.vae.metrics.collapse import LatentUse, plain
from lso.vae.runs import Run, list_runs, update_run
from tests.cli.conftest import ROOT

pytestmark = pytest.mark.usefixtures("no_report")
SMALL = ("--latent-dim", 4, "--width", 32, "--device", "cpu", "--limit", 200)


def test_a_training_names_its_folder_first_and_last(lso: Callable[..., Result]) -> None:
    result = lso("train", "--method", "vae:anneal=1", "--epochs", 2, *SMALL)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    run = Run(lines[0])
    assert lines[-1] == lines[0]
    assert run.info["status"] == "finished"
    assert "finished 2 epochs" in lines[1]
    assert f"next: lso optimize --model {lines[0]} --target test:20" in lines
    assert "Training vae on digits (200 images of 8x8): mlp, 4 latents, up to 2 epochs, seed 0, on cpu" in result.stderr
    assert "epoch 2/2" in result.stderr.splitlines()[-1]


def test_json_is_the_only_thing_on_stdout(lso: Callable[..., Result]) -> None:
    result = lso("train", "--method", "vae", "--epochs", 1, "--json", "-q", *SMALL)
    told = json.loads(result.stdout)
    assert told["status"] == "finished" and told["best"]["epoch"] == told["last"]["epoch"] == 1
    assert told["kept_by"].startswith("kept epoch 1, of the least validation -ELBO (")
    assert result.stderr == ""


@pytest.mark.usefixtures("no_report")
def test_the_last_lines_say_what_was_kept_by_what_rule_and_what_the_last_epoch_had(lso: Callable[..., Result]) -> None:
    """With steps as large as these the KL of the last epochs is worse than that of an earlier one."""
    rule = ("--monitor", "elbo", "--learning-rate", 0.1, "--epochs", 6)
    result = lso("train", "--method", "beta-vae:beta=0.01", "--out", "made", "-q", *rule, *SMALL)
    run, lines = Run("made"), result.stdout.splitlines()
    best, last = run.best(), run.metrics()[-1]
    kept = best["epoch"]
    assert 1 <= kept < last["epoch"] == 6
    assert f"kept epoch {kept}, of the least validation -ELBO ({best['neg_elbo']:z.2f})" in lines[1]
    assert lines[2].startswith(f"epoch {kept}: -ELBO {best['neg_elbo']:z.2f} = ") and "the decoder uses" in lines[2]
    numbers = f"KL {last['kl']:z.2f}, MI {last['mi_split']:z.2f} nats over the split"
    assert lines[3].startswith("the last epoch, 6: -ELBO ") and numbers in lines[3]
    page = lso("report", "made", "--out", "page")
    assert "made, last epoch" in page.stdout and f"Kept epoch {kept}, of the least" in page.stderr
    assert f"kept epoch {kept}" in lso("doctor", "made").stdout and lso("train", "--monitor", "x").exit_code == 2


@pytest.mark.usefixtures("no_report")
def test_codes_that_carry_little_are_told_by_every_command_that_judges_a_model(lso: Callable[..., Result]) -> None:
    assert lso("train", "--method", "vae", "--epochs", 1, "--out", "made", "-q", *SMALL).exit_code == 0
    use = LatentUse(latent_dim=4, data=179, mutual_information=1.8, kl=2.0, used=3, active_units=4)
    update_run(Run("made"), verdict="", latents=plain(use))
    told = "Believe searches in this model with care: the codes carry 1.80 nats about the data "
    told += "(mutual information over the split, drawn anew; KL 2.00)"
    cpu = ("--device", "cpu")
    for command in (("train", "--resume", "made", *cpu), ("evaluate", "made", *cpu), ("report", "made")):
        assert told in lso(*command).stdout, command
    assert told in lso("doctor", "made").stdout and lso("doctor", "made").exit_code == 0
    update_run(Run("made"), latents=plain(replace(use, mutual_information=2.6, kl=3.0)))
    assert "with care" not in lso("doctor", "made").stdout


def test_flags_win_over_the_file_and_the_file_over_the_defaults(lso: Callable[..., Result], elsewhere: Path) -> None:
    (elsewhere / "c.toml").write_text('[method]\nname = "free-bits"\n[protocol]\nepochs = 7\nbatch_size = 16\n')
    shown = json.loads(lso("config", "show", "--config", "c.toml", "--epochs", 1, "--json").stdout)
    assert (shown["method"]["name"], shown["protocol"]["epochs"], shown["protocol"]["batch_size"]) == (
        "free-bits",
        1,
        16,
    )
    result = lso("train", "--config", "c.toml", "--epochs", 1, "--out", "made", "-q", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert Run("made").config.protocol.epochs == 1
    assert Run("made").config.protocol.batch_size == 16


def test_precision_is_chosen_by_name(lso: Callable[..., Result]) -> None:
    command = ("train", "--method", "vae", "--epochs", 1, "--out", "made", "-q", *SMALL)
    refused = lso(*command, "--precision", "float8")
    assert refused.exit_code == 2 and "float8" in refused.stderr and "bfloat16" in refused.stderr
    assert "Traceback" not in refused.stderr and not Path("made").exists()
    assert lso(*command, "--precision", "bfloat16").exit_code == 0
    assert Run("made").config.protocol.precision == "bfloat16"
    assert Run("made").info["status"] == "finished"


def test_a_precision_that_the_processor_lacks_is_refused_or_warned_of(
    lso: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(layer: str, precision: str, device: object) -> float:
        if layer == "LSTM" and precision == "bfloat16":
            raise RuntimeError("could not create a primitive descriptor")
        return 0.04 if precision == "bfloat16" else 0.01

    monkeypatch.setattr("lso.vae.precision.time_layer", seconds)
    Path("lines.txt").write_text("a b c\nb c a\n" * 30)
    text = ("--data", "lines.txt", "--arch", "lstm", "--width", 4, "--latent-dim", 2)
    command = ("train", "--method", "vae", "--epochs", 1, "--out", "made", "-q", "--precision", "bfloat16")
    refused = lso(*command, *text, "--device", "cpu")
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 2, refused.stderr
    assert "one LSTM failed" in refused.stderr and "--precision" in refused.stderr and not Path("made").exists()
    told = lso(*command, *SMALL)
    assert told.exit_code == 0
    assert told.stderr.strip() == (
        "warning: bfloat16 is slower on this CPU: one small linear layer took 4.0 times as long (40 against 10 ms)"
    )
    assert "4.0 times as long" in Run("made").info["sentence"]


def test_a_cut_training_says_how_it_goes_on_and_does(lso: Callable[..., Result]) -> None:
    first = lso("train", "--method", "vae", "--epochs", 2, "--max-steps", 5, "--out", "cut", "-q", *SMALL)
    assert first.exit_code == 0
    assert "reached the step limit after 1 epoch and 5 steps" in first.stdout
    assert "continue: lso train --resume cut" in first.stdout
    second = lso("train", "--resume", "cut", "--device", "cpu")
    assert second.exit_code == 0
    assert "Continuing at step 5: vae" in second.stderr
    assert Run("cut").info["status"] == "finished"
    third = lso("train", "--resume", "cut")
    assert "already finished" in third.stderr and third.exit_code == 0


def test_the_configuration_of_a_resumed_run_cannot_be_changed(lso: Callable[..., Result], run: Run) -> None:
    result = lso("train", "--resume", run.path, "--latent-dim", 9, "--method", "vae", "--epochs", 9)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --method and --latent-dim cannot be given with --resume")


@pytest.mark.usefixtures("no_report")
def test_a_finished_run_goes_on_to_more_epochs_and_never_to_fewer(lso: Callable[..., Result]) -> None:
    assert lso("train", "--method", "vae", "--epochs", 1, "--out", "short", "-q", *SMALL).exit_code == 0
    more = lso("train", "--resume", "short", "--epochs", 2, "--device", "cpu")
    assert more.exit_code == 0 and "Continuing at step" in more.stderr, more.stderr
    run = Run("short")
    assert run.info["sentence"].startswith("finished 2 epochs") and run.config.protocol.epochs == 2
    assert [row["epoch"] for row in run.metrics()] == [0, 1, 2]
    fewer = lso("train", "--resume", "short", "--epochs", 1)
    assert fewer.exit_code == 2 and "is for 2 epochs, which cannot become 1" in fewer.stderr


def test_a_written_configuration_repeats_the_run(lso: Callable[..., Result], run: Run) -> None:
    result = lso("config", "init", "--config", run.path / "config.toml", "--out", "again.toml")
    assert result.exit_code == 0
    lines = Path("again.toml").read_text().splitlines()
    assert [line for line in lines if not line.startswith("# ")] == (run.path / "config.toml").read_text().splitlines()
    assert lines[0] == "# Random seed. Default: 0."  # what a key sets stands above it
    assert lso("config", "init", "--out", "again.toml").exit_code == 2


def test_ctrl_c_saves_and_tells_how_to_go_on(process: Callable[..., "subprocess.Popen[str]"]) -> None:
    started = process("train", "--method", "vae", "--epochs", 100000, "--out", "cut", *SMALL)
    until = time.monotonic() + 60
    while len(Run("cut").metrics() if Path("cut/run.json").exists() else []) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "continue: lso train --resume cut" in out
    assert out.splitlines()[-1] == "cut"
    assert "interrupted" in err
    assert Run("cut").info["status"] == "stopped"
    assert (Path("cut") / "last.pt").is_file()


def test_sigterm_saves_too(lso: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def epoch(*_: object) -> None:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("lso.vae.progress.RichProgress.on_epoch", epoch)
    result = lso("train", "--method", "vae", "--out", "cut", *SMALL)
    assert result.exit_code == 143
    assert Run("cut").info["sentence"].startswith("terminated after 0 epochs")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    with Signals() as signals:
        signals.listen()
        signal.raise_signal(signal.SIGINT)
        assert (signals.reason(), signals.exit_code) == ("interrupted", 130)
        monkeypatch.setattr(signal, "raise_signal", raised.append)
        signals._handle(signal.SIGINT, None)
        assert raised == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_runs_are_listed_with_what_is_known_of_them(lso: Callable[..., Result], run: Run) -> None:
    row = json.loads(lso("list", "runs", "--json").stdout)[0]
    assert (row["run"], row["kind"], row["method"], row["status"]) == (str(run.path), "train", "vae", "finished")
    (run.path / "config.toml").write_text("seed = [")
    assert json.loads(lso("list", "runs", "--json").stdout)[0]["status"] == "damaged"
    assert len(list_runs()) == 1


def test_only_training_is_for_several_processes(lso: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    result = lso("evaluate", "runs/a")
    assert result.exit_code == 2
    assert "torchrun started several processes, but `lso evaluate` runs in one" in result.stderr


@pytest.mark.slow
def test_torchrun_trains_one_run_that_one_process_goes_on_with(lso: Callable[..., Result], elsewhere: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lso"]
    arguments = ["train", "--method", "aggressive", "--epochs", "3", "--max-steps", "5", "--out", "together"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, *arguments, *map(str, SMALL)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("together") == 2  # first and last, from one process
    assert "continue: lso train --resume together" in done.stdout.splitlines()
    assert done.stderr.count("Training aggressive on digits") == 1
    assert lso("train", "--resume", "together", "--device", "cpu").exit_code == 0
    alone = ["train", "--method", "aggressive", "--epochs", "3", "--out", "alone"]
    assert lso(*alone, *SMALL).exit_code == 0
    for found, wanted in zip(Run("together").metrics(), Run("alone").metrics(), strict=True):
        assert found["neg_elbo"] == pytest.approx(wanted["neg_elbo"], rel=1e-3)
        assert found["inner_steps"] == wanted["inner_steps"]
    assert Run("together").info["processes"] == 1 and Run("together").info["status"] == "finished"


def test_old_words_work_and_are_told_in_one_line(lso: Callable[..., Result]) -> None:
    Path("old.toml").write_text('[protocol]\njudge = "last"\n', encoding="utf-8")
    for given in (
        ("--judge", "last"),
        ("--config", "old.toml"),
        ("--method", "ne-vae-se:shown=hard", "--judge", "last"),
    ):
        result = lso("config", "show", *given, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["protocol"]["monitor"] == "last"
        told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
        assert len(told) == 1 + ("--method" in given) and all(
            "is called" in line and ".py" not in line for line in told
        )
    assert "--judge" not in lso("train", "--help").stdout and "--monitor" in lso("train", "--help").stdout
