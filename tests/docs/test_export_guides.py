"""The scripts of the guides on export and on logging that need more than a run: without `lso`, and with a stand-in."""

import os
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest

import lso

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
SCRIPTS = GUIDES / "scripts"
# What runs before the script: no `lso` can be imported, wherever it is installed.
BLOCK = "import runpy, sys; sys.modules['lso'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_exported_models_are_used_where_lso_cannot_be_imported(to: Any, trained: lso.Run, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    lso.export(trained, to, out=tmp_path / to)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", BLOCK, str(SCRIPTS / f"use_{to}.py"), to]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.match(r"\(16, 1, 8, 8\) pixels from (\S+) to (\S+) ", done.stdout)
    assert found and 0 <= float(found[1]) < float(found[2]) <= 1
    text = (SCRIPTS / f"use_{to}.py").read_text(encoding="utf-8")
    assert "lso" not in text and len(re.findall(r"^[^#\s].*", text, flags=re.MULTILINE)) <= 12


def test_the_callback_for_weights_and_biases_logs_every_epoch_to_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package `wandb` is not installed: an object with the functions that the script calls stands in for it."""
    calls: list[tuple[str, Any]] = []

    class StandIn:
        summary: ClassVar[dict[str, Any]] = {}

        def log(self, numbers: dict[str, float], step: int) -> None:
            calls.append(("log", (step, numbers)))

        def finish(self) -> None:
            calls.append(("finish", None))

    def init(**options: Any) -> StandIn:
        calls.append(("init", options))
        return StandIn()

    wandb = types.ModuleType("wandb")
    wandb.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("lso.tasks.training.experiment._write_report", lambda run, dataset: run)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(SCRIPTS / "wandb_callback.py"))
    assert [name for name, _ in calls] == ["init", *["log"] * 6, "finish"]
    assert calls[0][1]["project"] == "digits" and calls[0][1]["resume"] == "allow"
    rows = lso.Run("runs/wandb").metrics()
    for (step, numbers), row in zip((value for name, value in calls if name == "log"), rows, strict=True):
        assert step == row["epoch"] and numbers["neg_elbo"] == row["neg_elbo"]
        assert sum(numbers[f"kl/{number}"] for number in range(8)) == pytest.approx(row["kl"], rel=1e-4, abs=1e-4)
    assert StandIn.summary["sentence"]


@pytest.mark.parametrize("path", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_pages_show_the_scripts_of_this_folder(path: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in GUIDES.glob("*.md")]
    assert any(f'--8<-- "docs/guides/scripts/{path.name}"' in page for page in pages)
