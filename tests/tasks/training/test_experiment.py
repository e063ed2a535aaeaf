"""Trainings by name, and from tensors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.tasks.training.experiment import evaluate, load, reload_dataset, resolve_device, resume, train
from lso.tasks.training.plan import plan
from lso.vae.config.components import Constant
from lso.vae.config.methods import method
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, RunError, UsageError
from lso.vae.training.loop import Limits, TrainingCallback

SMALL = {"architecture": {"latent_dim": 2, "width": 8}, "protocol": {"epochs": 2}}


def squares() -> Dataset:
    x = torch.linspace(0, 1, 40)[:, None, None, None].expand(40, 1, 8, 8)
    return Dataset(name="squares", train=x, validation=x[:20], test=x[20:])


def test_tensors_of_the_users_are_trained_on_as_they_are(tmp_path: Path) -> None:
    run = train("vae", settings=SMALL, dataset=squares(), out=tmp_path / "run", limits=Limits(steps=1))
    assert run.config.data.task == "given" and run.config.protocol.binarize == "none"
    with pytest.raises(DataError, match="were given in Python"):
        resume(run)
    assert resume(run, dataset=squares()).info["status"] == "finished"
    page = run.path / "report.html"
    page.unlink()  # as if killed between the last step and the report
    assert resume(run).info["status"] == "finished" and page.is_file()
    assert evaluate(load(run), squares(), iw_samples=0).n == 20


def test_a_method_built_by_hand_is_refused_where_a_configuration_could_not_say_it(tmp_path: Path) -> None:
    """A run's config.toml holds a name and parameters: what these do not build would be resumed as another method."""
    chosen = method("ne-vae-se", weight=2.0)
    assert plan({"method": chosen}).method == chosen
    others: list[dict[str, Any]] = [{"skip": True}, {"schedule": Constant(end=0.5)}, {"penalty": None}]
    for other in (replace(chosen, **change) for change in others):
        with pytest.raises(UsageError, match=r"not what ne-vae-se builds from its parameters.*\nGive a row of"):
            plan({"method": other})
        with pytest.raises(UsageError, match="not what ne-vae-se builds"):
            train(other, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_another_dataset_is_refused_at_resume(tmp_path: Path) -> None:
    run = train("vae", settings=SMALL, dataset=squares(), out=tmp_path / "run", limits=Limits(steps=1))
    other = Dataset(name="other", train=torch.rand(40, 1, 8, 8), validation=squares().validation, test=squares().test)
    with pytest.raises(RunError, match="have changed"):
        resume(run, dataset=other)


def test_ctrl_c_in_python_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    class Interrupt(TrainingCallback):
        def step(self, done: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("vae", settings=SMALL, out=tmp_path / "run", callback=Interrupt())
    run = resume(tmp_path / "run")
    assert run.info["status"] == "finished" and len(run.metrics()) == 3
    assert reload_dataset(run).name == "digits"


def test_a_width_does_not_follow_into_another_family(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[architecture]\nname = "mlp"\nwidth = 100\n')
    assert plan({}, file).architecture.width == 100
    assert plan({"architecture": {"name": "conv"}}, file).architecture.width == 32
    assert plan({"architecture": {"name": "conv", "width": 7}}, file).architecture.width == 7


def test_a_baseline_has_no_latents_and_an_autoregressive_decoder() -> None:
    planned = plan({"method": "pixelcnn"})
    assert (planned.architecture.name, planned.architecture.latent_dim) == ("he2019-small", 0)
    assert plan({"method": "pixelcnn", "architecture": {"name": "he2019"}}).architecture.width == 64
    with pytest.raises(UsageError, match=r"pixelcnn has no latents, and latent_dim is 8\nLeave --latent-dim out"):
        plan({"method": "pixelcnn", "architecture": {"latent_dim": 8}})
    with pytest.raises(UsageError, match=r"ne-vae-se acts on latents, and latent_dim is 0\nTake a method without"):
        plan({"method": "ne-vae-se", "architecture": {"name": "he2019", "latent_dim": 0}})
    with pytest.raises(UsageError, match=r"mlp decodes from z alone"):
        plan({"method": "pixelcnn", "architecture": {"name": "mlp"}})


def test_each_of_several_processes_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    launch = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:1")
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="2 CUDA devices are available") as error:
        resolve_device("auto")
    assert "as many processes on a machine as it has GPUs" in error.value.hint
