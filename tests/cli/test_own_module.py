"""Networks of the user's own on the command line: named by --arch, and imported from a folder with --trust only."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import lso as face
from lso.vae.errors import UsageError
from lso.vae.runs import Run
from lso.vae.utils import user_module
from tests.vae import own_modules

Lso = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trained_own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch by a module that stands in a file of the working folder. Do not write into it."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copyfile(own_modules.__file__, folder / "mine.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setattr("lso.tasks.training.experiment._write_report", lambda run, *_: run)
        run = face.train("vae", model="mine:Pictures", task="digits", epochs=1, out="run", device="cpu")
    sys.modules.pop("mine", None)
    return folder / run.path


@pytest.fixture
def own(trained_own: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run beside the file, in a process that was given no module."""
    monkeypatch.setattr(user_module, "_given", {})
    shutil.copyfile(trained_own.parent / "mine.py", elsewhere / "mine.py")
    return Path(shutil.copytree(trained_own, elsewhere / "runs" / "own"))


COMMANDS: dict[str, tuple[object, ...]] = {
    "evaluate": ("evaluate", "runs/own", "--iw-samples", 0, "--limit", 20),
    "sample": ("sample", "runs/own", "-n", 4),
    "encode": ("encode", "runs/own", "--data", "test:3"),
    "traverse": ("traverse", "runs/own", "--dim", "all", "--steps", 2, "--points", 0, "--directions", 0),
    "optimize": ("optimize", "runs/own", "--target", "test:1", "--starts", 1, "--max-steps", 2, "--control", "none"),
    "train --resume": ("train", "runs/own", "--epochs", 2),
}


SLOW = {"optimize": pytest.mark.slow}


@pytest.mark.usefixtures("own", "plain_report", "no_report")
@pytest.mark.parametrize(
    "arguments", [pytest.param(value, id=key, marks=SLOW.get(key, ())) for key, value in COMMANDS.items()]
)
def test_commands_import_it_with_trust_only(arguments: tuple[object, ...], lso: Lso) -> None:
    refused = lso(*arguments)
    assert refused.exit_code == 2 and "mine" not in sys.modules
    first, second = refused.stderr.strip().splitlines()[-2:]
    assert first.startswith("error: ") and "mine:Pictures" in first and "--trust" in second
    done = lso(*arguments, "--trust")
    assert done.exit_code == 0, done.stderr


def test_doctor_reads_the_weights_without_it(own: Path, lso: Lso) -> None:
    found = lso("doctor", own)
    assert found.exit_code == 0 and "mine:Pictures, which was not imported" in found.stdout
    assert "names the module" not in found.stdout and "mine" not in sys.modules
    found = lso("doctor", own, "--trust")
    assert "model.safetensors and codes.npz are as they were written" in found.stdout


@pytest.mark.usefixtures("no_report")
def test_it_is_trained_by_name(own: Path, lso: Lso) -> None:
    arguments = (
        "train",
        "--arch",
        "mine:Pictures",
        "--latent-dim",
        2,
        "--max-steps",
        2,
        "--device",
        "cpu",
        "--out",
        "new",
    )
    done = lso(*arguments)
    assert done.exit_code == 0, done.stderr
    assert "ne-vae-se" in done.stderr and "mine:Pictures, 2 latents" in done.stderr
    assert "lso train --resume new --trust" in done.stdout and Run("new").config.architecture.latent_dim == 2
    for flags, words in (
        (("--arch", "mine:Nothing"), "cannot import the module mine:Nothing"),
        (("--arch", "mine:Pictures", "--width", 5), "no width for a module of your own"),
        (("--arch", "mine:NeedsMore"), "needs depth"),
        (("--arch", "mine:Pictures", "--method", "skip-vae"), "has a decoder of its own"),
        (("--arch", "mine:Counter"), "changes calls in training"),
        (("--config", own / "config.toml"), "mine:Pictures"),
    ):
        user_module._given.clear()
        refused = lso("train", *flags, "--out", "other")
        assert refused.exit_code == 2 and words in " ".join(refused.stderr.split()), refused.stderr
        assert not Path("other").exists()


def test_python_takes_the_module_in_place_of_an_import(own: Path) -> None:
    with pytest.raises(UsageError, match="names the module mine:Pictures"):
        face.load(own)
    model = face.load(own, model=own_modules.Pictures())
    assert isinstance(model.module, own_modules.Pictures) and "mine" not in sys.modules
    assert Run(own).model().module is not model.module  # known to this process from now on
    with pytest.raises(UsageError, match="a model was given"):
        face.load("zoo:digits-alive", model=own_modules.Pictures())
    with pytest.raises(UsageError, match="expected a model or an arch, got both"):
        face.train(model=own_modules.Pictures(), arch="mlp")
