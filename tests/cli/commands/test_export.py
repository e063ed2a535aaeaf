"""`lso export` and `lso train --log` as they are typed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from lso.vae.runs import Run

Lso = Callable[..., Result]


def test_export_prints_the_files_and_the_largest_difference(lso: Lso, run: Run) -> None:
    done = lso("export", run.path, "--to", "pt2")
    assert done.exit_code == 0, done.stderr
    assert "decoder.pt2" in done.stdout and "equal to the model on 100 codes" in done.stdout
    assert done.stdout.splitlines()[-1] == "runs/digits/export/pt2"
    card = json.loads((run.path / "export" / "pt2" / "model.json").read_text())
    assert card["method"] == "vae" and card["data"] == "digits"


def test_export_refuses_what_it_cannot_write(lso: Lso, run: Run, elsewhere: Path) -> None:
    wrong = lso("export", run.path, "--to", "tflite")
    assert wrong.exit_code == 2 and "onnx" in wrong.stderr and len(wrong.stderr.splitlines()) == 2
    (elsewhere / "mine").mkdir()
    (elsewhere / "mine" / "notes.txt").write_text("mine")
    taken = lso("export", run.path, "--out", "mine")
    assert taken.exit_code == 2 and "mine exists" in taken.stderr


@pytest.mark.usefixtures("no_report")
def test_train_logs_for_tensorboard_and_says_how_to_look(lso: Lso) -> None:
    pytest.importorskip("tensorboard")
    sizes = ("--limit", 100, "--latent-dim", 2, "--width", 8, "--epochs", 1)
    done = lso("train", "--method", "vae", *sizes, "--log", "tensorboard", "--out", "r")
    assert done.exit_code == 0, done.stderr
    assert "curves: tensorboard --logdir r/tensorboard" in done.stderr
    assert list(Path("r/tensorboard").glob("events.out.tfevents.*"))
    unknown = lso("train", "--method", "vae", "--log", "tensorbord", "--out", "s")
    assert unknown.exit_code == 2 and "Did you mean 'tensorboard'?" in unknown.stderr and not Path("s").exists()
