"""What a user can get wrong: two lines on stderr, exit code 2 for usage and 1 for the rest, no traceback."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from lso.vae import runs
from lso.vae.runs import Run
from lso.vae.utils.files import Lock
from tests.vae.small import contents

Lso = Callable[..., Result]


def refused(result: Result, code: int, *words: str) -> None:
    lines = result.stderr.splitlines()
    assert result.exit_code == code, result.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-2:-1], result.stderr
    assert lines[-1] and "Traceback" not in result.stderr
    for word in words:
        assert word in " ".join(lines[-2:])


def test_an_unknown_method_with_the_nearest_name(lso: Lso) -> None:
    refused(lso("train", "--method", "ne-vae-sq"), 2, "unknown method 'ne-vae-sq'", "Did you mean 'ne-vae-se'?")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--method", "beta-vae:beta=much"], "expected a number"),
        (["--method", "beta-vae:gamma=1"], "unknown parameter"),
        (["--method", "ne-vae-lp"], "needs c"),
        (["--method", "vae", "--latent-dim", "0"], "from z alone"),
        (["--method", "vae", "--arch", "cnv"], "Did you mean 'conv'?"),
        (["--method", "vae", "--task", "mnits"], "Did you mean 'mnist'?"),
        (["--method", "vae", "--binarize", "maybe"], "dynamic, fixed, none"),
        (["--method", "vae", "--time-limit", "soon"], "cannot read the duration"),
    ],
)
def test_a_bad_parameter(lso: Lso, arguments: list[str], word: str) -> None:
    refused(lso("train", *arguments), 2, word)


def test_a_missing_folder(lso: Lso) -> None:
    refused(lso("train", "--method", "vae", "--data", "nowhere"), 1, "there is no file or folder nowhere")


def test_an_empty_folder(lso: Lso, elsewhere: Path) -> None:
    (elsewhere / "empty").mkdir()
    refused(lso("train", "--method", "vae", "--data", "empty"), 1, "empty")


def test_a_text_file_named_png(lso: Lso, run: Run, elsewhere: Path) -> None:
    (elsewhere / "text.png").write_text("not a picture")
    refused(lso("optimize", "--target", "text.png"), 1, "text.png")


def test_a_truncated_checkpoint(lso: Lso, run: Run) -> None:
    file = run.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    refused(lso("sample", run.path), 1, "model.safetensors is not a model that lso wrote")


def test_a_run_that_is_being_trained(lso: Lso, run: Run) -> None:
    runs.update_run(run, status="running")
    before = contents(run.path)
    with Lock(run.path):
        refused(lso("train", "--resume", run.path, "--device", "cpu"), 1, "is at work in", str(run.path), "Wait for it")
    assert contents(run.path) == before


def test_a_run_folder_that_exists(lso: Lso, run: Run) -> None:
    refused(lso("train", "--method", "vae", "--out", run.path), 1, "never overwritten", "--resume")


def test_a_config_with_a_wrong_key(lso: Lso, elsewhere: Path) -> None:
    (elsewhere / "c.toml").write_text("[protocol]\nepoch = 3\n")
    refused(lso("train", "--config", "c.toml"), 2, "unknown key in [protocol] 'epoch'", "Did you mean 'epochs'?")
    refused(lso("config", "show", "--config", "missing.toml"), 2, "missing.toml", "lso config init")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_without_a_device(lso: Lso) -> None:
    refused(lso("train", "--method", "vae", "--device", "cuda"), 2, "'cuda'", "--device cpu")


def test_a_target_of_the_wrong_channel_count(lso: Lso, run: Run, elsewhere: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(elsewhere / "colour.png")
    refused(lso("optimize", "--target", "colour.png"), 1, "3 channels", "--channels 1")


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("write", [lambda p: p.write_bytes(pickle.dumps(Bomb())), lambda p: torch.save(Bomb(), p)])
def test_a_pickle_is_never_executed(lso: Lso, run: Run, write: Callable[[Path], object]) -> None:
    write(run.path / "model.safetensors")
    refused(lso("sample", run.path), 1, "is not a model that lso wrote")
    write(run.path / "last.pt")
    info = (run.path / "run.json").read_text().replace('"finished"', '"stopped"', 1)
    (run.path / "run.json").write_text(info)
    assert lso("doctor", run.path, "--accept-changes").exit_code == 0
    refused(lso("train", "--resume", run.path), 1, "last.pt", "nothing in it was executed")
    write(Path("codes.npz"))
    refused(lso("decode", run.path, "codes.npz"), 1, "codes.npz")
    assert not Path("exploded").exists()


def test_searching_before_any_training_says_in_two_lines_what_to_do(lso: Lso) -> None:
    result = lso("optimize", "--target", "images/", "--optimizer", "adam")
    refused(result, 1, "no trained model found under runs/", "lso train --method ne-vae-se")
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("flag", ["--starts", "--max-steps"])
def test_a_number_out_of_the_range_of_its_flag(lso: Lso, run: Run, flag: str) -> None:
    result = lso("optimize", "--target", "test:2", flag, 0)
    assert result.exit_code == 2 and f"'{flag}': 0 is not in the range x>=1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "nothing to search for was given"),
        (["--target", "test:0"], "test:N"),
        (["--target", "test:2", "--channels", "1"], "--channels is for files"),
        (["--target", "test:2", "--optimizer", "adm"], "adm"),
        (["--target", "test:2", "--optimizer", "Adafactor"], "Adafactor"),
        (["--target", "test:2", "--control", "newton"], "unknown control"),
        (["--target", "test:2", "--start", "mena"], "Did you mean 'mean'?"),
        (["--target", "test:2", "--loss", "mse"], "loss"),
        (["--target", "test:2", "--tol", "-1"], "tol >= 0"),
        (["--target", "test:2", "--optimizer", "lbfgs", "--lr", "1"], "no learning rate"),
    ],
)
def test_a_bad_search(lso: Lso, run: Run, arguments: list[str], word: str) -> None:
    refused(lso("optimize", *arguments), 2, word)
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]  # no folder is left behind


def test_a_search_is_no_training_run(lso: Lso, run: Run) -> None:
    info = (run.path / "run.json").read_text().replace('"train"', '"search"', 1)
    (run.path / "run.json").write_text(info)
    refused(lso("sample", run.path), 1, "run.json was damaged or edited", "--accept-changes")
    refused(lso("sample", run.path, "--accept-changes"), 1, "is a search")
    refused(lso("evaluate", run.path), 1, "is a search")
    refused(lso("evaluate", "nowhere"), 1, "nowhere does not exist")
