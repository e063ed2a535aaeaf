"""``lso sweep``: what it prints, how it is cut, how it goes on."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from lso.vae.runs import Run
from lso.vae.training import batched
from lso.vae.training import loop as training
from tests.cli.conftest import Lso, line
from tests.cli.test_errors import refused

SMALL = ("--limit", 40, "--epochs", 1, "--width", 8, "--batch-size", 20, "--device", "cpu", "--iw-samples", 2)


@pytest.mark.usefixtures("no_report")
def test_a_sweep_prints_its_table_and_is_kept_when_repeated(lso: Lso, elsewhere: Path) -> None:
    command = ("sweep", "--method", "vae", "--method", "ne-vae-se:weight=5", "--latent-dim", "2,3", *SMALL)
    done = lso(*command)
    assert done.exit_code == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split()[:4] == ["method", "latents", "seeds", "IW-NLL"] and lines[3].startswith("ne-vae-se:weight=5  3")
    assert lines[-1] == "report: runs/sweep-digits/report.html" and "[4/4] training" in done.stderr
    again = lso(*command, "--json")
    assert "training:" not in again.stderr
    numbers = json.loads(again.stdout)
    assert numbers["cut"] == "" and [cell["done"] for cell in numbers["cells"]] == [1] * 4


@pytest.mark.usefixtures("no_report")
def test_a_sweep_is_reported_from_its_folder(lso: Lso, elsewhere: Path) -> None:
    command = ("sweep", "--method", "vae", "--method", "ne-vae-se", "--latent-dim", 2, *SMALL, "--out", "here")
    swept = json.loads(lso(*command, "--json").stdout)
    page = (elsewhere / "here/report.html").read_text()
    done = lso("report", "here", "--out", "there", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["cells"] == swept["cells"] and told["trainings"] == swept["trainings"]
    assert Path(told["report"]).read_text() == page and "Figure 4" in page and "data:image/png" in page
    lines = lso("report", "here", "--out", "again").stdout.splitlines()
    assert lines[0].split()[:4] == ["method", "latents", "seeds", "IW-NLL"] and lines[-1] == "report: again/report.html"
    shutil.rmtree(elsewhere / "here/vae-d2-s0")
    fewer = json.loads(lso("report", "here", "--out", "fewer", "--json").stdout)
    assert [cell["method"] for cell in fewer["cells"]] == ["ne-vae-se"]
    with (elsewhere / "here/ne-vae-se-d2-s0/config.toml").open("a") as file:
        file.write("# mine\n")
    edited = lso("report", "here", "--out", "edited")
    assert edited.exit_code == 1 and "--accept-changes" in edited.stderr
    assert lso("report", "here", "--out", "edited", "--accept-changes").exit_code == 0
    both = lso("report", "here", "here/ne-vae-se-d2-s0")
    assert both.exit_code == 2 and "here is a sweep, and other folders" in both.stderr
    content = json.loads((elsewhere / "here/report.json").read_text())
    for missing in ("asked", "trainings"):
        short = {key: value for key, value in content.items() if key not in (missing, "seal")}
        (elsewhere / "here/report.json").write_text(json.dumps(short))
        damaged = lso("report", "here", "--out", "damaged")
        assert damaged.exit_code == 1 and "is not the report of a sweep" in damaged.stderr
        assert len(damaged.stderr.splitlines()) == 2 and not Path("damaged").exists()


@pytest.mark.usefixtures("no_report")
def test_models_trained_together_are_named_and_stop_together(lso: Lso, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(trainer: Any, *rest: Any) -> None:
        after(trainer, *rest)
        if trainer.position.step == 3 and trainer.config.seed == 1:
            signal.raise_signal(signal.SIGINT)

    after = training.after_step
    monkeypatch.setattr(batched, "after_step", press)
    command = ("sweep", "--method", "vae", "--seeds", 2, *SMALL, "--epochs", 4, "--out", "here", "--together")
    done = lso(*command)
    assert done.exit_code == 130 and f"interrupted; continue: {line(*command)}\n" in done.stdout
    assert "[1-2/2] training 2 together, as one batched model:\n  vae-d32-s0\n  vae-d32-s1\n" in done.stderr
    assert Run(Path("here/vae-d32-s1")).info["sentence"] == "interrupted after 1 epoch and 3 steps"
    monkeypatch.setattr(batched, "after_step", after)
    again = lso(*command)
    assert again.exit_code == 0 and "  vae-d32-s1, continuing at step 3\n" in again.stderr
    assert "epoch 4/4  -ELBO " in again.stderr and "trained together each have the seconds" in again.stderr
    assert "training" not in lso(*command[:-1]).stderr.split("kept", 1)[1].split("Mean", 1)[0]


@pytest.mark.usefixtures("no_report")
def test_a_wish_that_cannot_be_followed_is_told(lso: Lso) -> None:
    command = ("sweep", "--method", "vae", "--method", "aggressive", "--seeds", 2, *SMALL, "--time-limit", "0s")
    reason = "aggressive (2 trainings): each model decides on its own inner steps\n"
    told = f"not batched, trained one after the other: {reason}"
    assert told in lso(*command, "--out", "here", "--together").stderr
    assert "not batched" not in lso(*command, "--out", "here").stderr


@pytest.mark.usefixtures("no_report")
def test_a_sweep_out_of_time_says_how_to_go_on(lso: Lso) -> None:
    command = ("sweep", "--method", "vae", *SMALL, "--time-limit", "0s", "--out", "here")
    done = lso(*command)
    assert done.exit_code == 0 and f"reached the time limit; continue: {line(*command)}\n" in done.stdout
    assert "1 of 1 training is not finished" in done.stderr and Path("here/report.html").is_file()


@pytest.mark.usefixtures("no_report")
def test_another_protocol_in_the_same_folder_is_refused(lso: Lso) -> None:
    assert lso("sweep", "--method", "vae", *SMALL, "--out", "here").exit_code == 0
    done = lso("sweep", "--method", "vae", *SMALL, "--learning-rate", 0.01, "--out", "here")
    assert done.exit_code == 1 and "protocol.learning_rate = 0.001, not 0.01" in done.stderr and "--out" in done.stderr


@pytest.mark.usefixtures("no_report")
def test_an_edited_training_is_refused_unless_the_edit_was_meant(lso: Lso) -> None:
    """Of the folder's trainings those alone that are asked for."""
    command = ("sweep", "--method", "vae", "--seeds", 2, *SMALL, "--alone", "--out", "here")
    assert lso(*command).exit_code == 0
    for seed in range(2):
        with Path(f"here/vae-d32-s{seed}/config.toml").open("a") as file:
            file.write("# mine\n")
    refused(lso(*command), 1, "config.toml was damaged or edited", "--accept-changes")
    one = (*command[:4], 1, *command[5:])
    assert lso(*one, "--accept-changes").exit_code == 0 and lso(*one).exit_code == 0
    refused(lso(*command), 1, "s1/config.toml was damaged or edited", "--accept-changes")
    done = lso(*command, "--accept-changes")
    assert done.exit_code == 0 and "training:" not in done.stderr


@pytest.mark.parametrize("said", ["[]", '["name"]', '[{"nam": 1}]', "7"])
@pytest.mark.usefixtures("no_report")
def test_a_damaged_report_of_a_sweep_is_made_anew(lso: Lso, said: str) -> None:
    command = ("sweep", "--method", "vae", *SMALL, "--time-limit", "0s", "--out", "here")
    assert lso(*command).exit_code == 0
    Path("here/report.json").write_text(f'{{"report_kind": "sweep", "trainings": {said}}}')
    done = lso(*command)
    assert done.exit_code == 0, done.stderr
    assert json.loads(Path("here/report.json").read_text())["trainings"][0]["name"] == "vae-d32-s0"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no method given"),
        (("--method", "vea"), "unknown method 'vea'"),
        (("--method", "vae", "--latent-dim", "8;16"), "cannot read the latent sizes"),
        (("--method", "vae", "--seeds", 0), "at least 1 seed"),
        (("--method", "vae", "--iw-samples", -1), "iw_samples >= 0"),
    ],
)
def test_mistakes_are_two_lines_and_exit_2(lso: Lso, arguments: tuple[object, ...], told: str) -> None:
    done = lso("sweep", *arguments)
    assert done.exit_code == 2 and told in done.stderr and len(done.stderr.splitlines()) == 2


@pytest.mark.usefixtures("no_report")
def test_ctrl_c_saves_the_sweep_and_a_repeat_resumes_it(lso: Lso, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(trainer: Any, rows: Any) -> None:
        advance(trainer, rows)
        if trainer.position.step == 3:
            signal.raise_signal(signal.SIGINT)

    advance = training._advance
    monkeypatch.setattr(training, "_advance", press)
    command = ("sweep", "--method", "vae", "--method", "vae-anneal", *SMALL, "--epochs", 4, "--out", "here")
    done = lso(*command)
    assert done.exit_code == 130 and f"interrupted; continue: {line(*command)}\n" in done.stdout
    assert Run(Path("here/vae-d32-s0")).info["sentence"] == "interrupted after 1 epoch and 3 steps"
    assert Path("here/report.html").is_file() and not Path("here/vae-anneal-d32-s0").exists()
    monkeypatch.setattr(training, "_advance", advance)
    again = lso(*command)
    assert again.exit_code == 0 and "[1/2] continuing at step 3: vae-d32-s0" in again.stderr
    assert "not finished" not in again.stderr
