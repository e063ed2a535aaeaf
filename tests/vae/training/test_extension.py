"""A training that goes on beyond its end is, bit for bit, the one that was begun for so many epochs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lso.vae import runs
from lso.vae.config.training import TrainConfig
from lso.vae.errors import RunError, UsageError, WriteError
from lso.vae.runs import Run, create
from lso.vae.training.extension import lengthen
from lso.vae.training.loop import Limits, resume_training, train_model
from lso.vae.utils.files import Lock
from tests.vae.small import assert_same_run, config, digits

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "the last weights": ("ne-vae-se:anneal=3", {"monitor": "last"}),
    "the best weights, within the ramp at first": ("beta-vae:beta=2,anneal=2", {"monitor": "loss"}),
    "a decay before the end": ("vae", {"monitor": "elbo", "patience": 1, "decay": 0.1, "learning_rate": 0.3}),
    "inner steps": ("aggressive:budget=2,anneal=2", {"monitor": "elbo"}),
}


def of(name: str, epochs: int) -> TrainConfig:
    method, protocol = CASES[name]
    one = config(method)
    return replace(one, protocol=replace(one.protocol, **protocol, epochs=epochs))


@pytest.mark.parametrize("name", CASES)
def test_it_ends_as_the_training_of_so_many_epochs(name: str, tmp_path: Path) -> None:
    whole = train_model(of(name, 4), digits(), tmp_path / "whole")
    short = train_model(of(name, 1), digits(), tmp_path / "short")
    assert short.info["status"] == "finished"
    longer = lengthen(short, 4)
    assert longer.info["status"] == "stopped" and longer.config == whole.config
    cut = resume_training(longer, digits(), limits=Limits(steps=6))
    assert cut.info["status"] == "stopped"
    done = resume_training(lengthen(cut, 4), digits())
    assert done.info["status"] == "finished"
    assert_same_run(done.path, whole.path)
    assert "decay" not in name or done.metrics()[-1]["learning_rate"] < 0.3
    assert (done.path / runs.CONFIG).read_bytes() == (whole.path / runs.CONFIG).read_bytes()
    again = Run(done.path)  # sealed as what it is
    assert again.config == whole.config and again.info["latents"] == whole.info["latents"]


def test_what_fails_in_between_leaves_a_run_that_ends_where_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_model(of("the last weights", 1), digits(), tmp_path / "run")
    before = {name: (run.path / name).read_bytes() for name in (runs.MODEL, runs.METRICS, runs.CONFIG)}

    def full(*_: object) -> None:
        raise WriteError("the disk is full", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_files", full)
        with pytest.raises(WriteError):
            lengthen(run, 3)
    ended = resume_training(Run(run.path), digits())
    assert ended.info["status"] == "finished" and ended.config.protocol.epochs == 1
    assert {name: (run.path / name).read_bytes() for name in before} == before


def test_fewer_epochs_a_busy_folder_several_processes_and_searches_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_model(of("the last weights", 2), digits(), tmp_path / "run")
    assert lengthen(run, 2) is run
    with pytest.raises(UsageError, match=r"is for 2 epochs, which cannot become 1\nGive more"):
        lengthen(run, 1)
    with Lock(run.path), pytest.raises(RunError):
        lengthen(run, 3)
    search = create(tmp_path / "search", "search", {"status": "finished"})
    with pytest.raises(RunError, match="is a search, expected a training"):
        lengthen(search, 3)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="several processes"):
        lengthen(run, 3)
    assert run.info["status"] == "finished"
