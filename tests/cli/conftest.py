"""The command line in-process, and a copy of one small trained run."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from lso.vae.runs import Run
from tests.charts import leave_charts_out

Lso = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> Path:
    """Every test works in a folder of its own, with no runs and no debugging."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LSO_RUNS", raising=False)
    monkeypatch.delenv("LSO_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture(autouse=True, scope="session")
def built_once() -> Iterator[None]:
    """The tree of commands, which typer builds anew for each call; most calls here take less than that."""
    build = cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", build)
        patch.setattr("typer.testing._get_command", build)
        yield


def line(*arguments: object) -> str:
    """A command as it is typed."""
    return shlex.join(["lso", *map(str, arguments)])


@pytest.fixture
def lso(monkeypatch: pytest.MonkeyPatch) -> Lso:
    """Run a command in this process: ``lso("train", "--method", "vae")``."""
    from lso.cli.main import app

    def run(*arguments: object) -> Result:
        given = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["lso", *given])  # which some commands tell
        return CliRunner().invoke(app, given)

    return run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings without their page, which takes longer than they do."""
    monkeypatch.setattr("lso.tasks.training.experiment._write_report", lambda run, _: run)


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports on searches without what takes their seconds: charts and surrogates."""
    leave_charts_out(monkeypatch)
    monkeypatch.setattr("lso.analysis.black_box_summary.calibrate_evaluations", lambda *_: None)


@pytest.fixture
def run(trained: Run, elsewhere: Path) -> Run:
    """A copy of the trained run under ``runs/``, so that it is the newest."""
    shutil.copytree(trained.path, elsewhere / "runs" / "digits")
    return Run(Path("runs") / "digits")


@pytest.fixture
def process(elsewhere: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start ``python -m lso ...`` beside this process."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "lso", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, env=environment, cwd=elsewhere, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()
