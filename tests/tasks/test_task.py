"""The task table and what is inferred from a path."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lso.tasks.task import TASKS, fill_defaults, infer_task, likelihood_for, task
from lso.tasks.training.plan import plan
from lso.vae.config.architectures import ARCHITECTURES
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError, UsageError


def test_the_table_needs_no_torch() -> None:
    code = "import sys, lso.tasks.task; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", TASKS)
def test_every_row_is_consistent(name: str) -> None:
    row = task(name)
    module, _, function = row.load.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert row.name == row.data.task == name
    assert row.architecture in ARCHITECTURES
    assert ARCHITECTURES[row.architecture].kind == row.kind
    drawn = row.protocol.binarize != "none"
    likelihood = "bernoulli" if drawn else {"image": "logistic", "sequence": "categorical"}[row.kind]
    assert likelihood_for(row, row.protocol.binarize) == likelihood
    if row.kind == "image":
        assert drawn == (not row.needs_path) == (row.data.fit == "pad")


def test_a_tasks_own_sizes_are_those_of_its_default_network_alone() -> None:
    own = plan({"data": {"task": "ehrlich"}})
    other = plan({"data": {"task": "ehrlich"}, "architecture": {"name": "lstm"}})
    assert (own.architecture.width, own.architecture.dropout, own.protocol.monitor) == (128, 0.0, "loss")
    assert (other.architecture.width, other.architecture.dropout) == (256, 0.5)


@pytest.mark.parametrize("name", TASKS)
def test_data_named_in_python_are_those_of_the_command_line(name: str) -> None:
    """And what is said, as by every run folder, stays."""
    path: Any = {"path": str(Path(__file__).parent)} if TASKS[name].needs_path else {}
    assert fill_defaults(DataConfig(task=name, **path)) == plan({"data": {"task": name, **path}}).data
    said = DataConfig(task=name, fit="crop", tokenizer="words", limited="encoded")
    assert fill_defaults(said) is said
    assert fill_defaults(DataConfig(task=name, fit="stretch")).tokenizer == task(name).data.tokenizer


def test_a_file_may_leave_things_to_the_task_in_so_many_words() -> None:
    full = plan({"data": {"task": "molecules", "tokenizer": "task", "fit": "task"}})
    assert (full.data.tokenizer, full.data.fit) == ("selfies", "crop")
    assert full.data.limited == "encoded"  # no limit
    assert plan({"data": {"task": "molecules", "limit": 9}}).data.limited == "read"
    with pytest.raises(UsageError, match="unknown task 'nothing'"):
        fill_defaults(DataConfig(task="nothing"))


def test_a_wrong_name_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'omniglot'"):
        task("omniglott")


def test_a_path_without_a_task_tells_its_format(tmp_path: Path) -> None:
    for name, expected in [("x.npy", "arrays"), ("x.NPZ", "arrays"), ("chardata.mat", "omniglot"), ("x.gz", "text")]:
        (tmp_path / name).touch()
        assert infer_task(tmp_path / name) == expected
    assert infer_task(tmp_path) == "images"
    (tmp_path / "one.png").touch()
    with pytest.raises(UsageError, match=r"single image.*\nGive the folder"):
        infer_task(tmp_path / "one.png")
    (tmp_path / "one.png").unlink()
    (tmp_path / "equation2_15_dataset.txt").touch()
    assert infer_task(tmp_path) == "expressions"
    (tmp_path / "x.csv").touch()
    with pytest.raises(UsageError, match=r"cannot tell what .*\n.*add --task text"):
        infer_task(tmp_path / "x.csv")
    with pytest.raises(DataError, match="no file or folder"):
        infer_task(tmp_path / "missing")
