"""Under ``--json`` nothing but JSON reaches stdout, whatever a user's code prints."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from lso.vae.runs import Run
from tests.cli.conftest import ROOT

Lso = Callable[..., Result]

NOISY = """
import atexit, ctypes, os, subprocess, sys

def all_ways(word):
    print(f"print {word}")
    os.write(1, f"write {word}\\n".encode())
    subprocess.run(["echo", f"program {word}"])
    sys.__stdout__.write(f"stream {word}\\n")  # kept back by Python
    ctypes.CDLL(None).printf(f"library {word}\\n".encode())  # kept back by C

atexit.register(print, "print at the end")
"""
PROGRAM = """
from typing import Annotated
import typer
from lso.cli import main
from lso.cli.console import Console
from noisy import all_ways

def command(json: bool) -> None:
    all_ways("before")
    Console(json=json).emit({"caf\\u00e9": 1.0})
    all_ways("after")

main.guarded(command, "command")(json=True)
"""
CALL = 'main.guarded(command, "command")(json=True)'
WAYS = ("print", "write", "program", "stream", "library")


def test_only_json_reaches_stdout_whatever_prints(tmp_path: Path) -> None:
    """Also what C and Python write out when the program ends."""
    (tmp_path / "noisy.py").write_text(NOISY)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout.decode()) == {"café": 1.0}
    said = done.stderr.decode()
    assert all(f"{way} {word}\n" in said for way in WAYS for word in ("before", "after")), said
    assert "print at the end" in said


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text("def all_ways(word): pass\n")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    reading, writing = os.pipe()
    os.close(reading)
    ending = f"try:\n    {CALL}\nexcept typer.Exit as end:\n    raise SystemExit(end.exit_code)"
    command = [sys.executable, "-c", PROGRAM.replace(CALL, ending)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=120)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == b""


def test_every_command_that_takes_json_keeps_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one wrapper of all commands, before the command begins."""
    from lso.cli import main
    from lso.cli.commands import COMMANDS
    from lso.vae.utils.lazy import resolve

    class Kept(BaseException):
        pass

    def alone() -> None:
        raise Kept

    commands = [main.guarded(resolve(f"lso.cli.commands.{row.function}"), path) for path, row in COMMANDS.items()]
    taking = [one for one in commands if "json" in inspect.signature(one).parameters]
    assert len(taking) >= 10
    monkeypatch.setattr("lso.cli.console.answer_alone", alone)
    for one in taking:
        with pytest.raises(Kept):
            one(json=True)


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_score_that_prints_leaves_the_json_alone(
    lso: Lso, run: Run, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    """Here and in processes; at the import of its module and when called."""
    Path("noisy.py").write_text(
        "import os\n\nprint('imported')\n\n\ndef score(xs):\n    print('called', flush=True)\n"
        "    os.write(1, b'raw\\n')\n    return [float(x.sum()) for x in xs]\n"
    )
    sought = ("--objective", "noisy:score", "--maximize", "--optimizer", "random", "--budget", 4)
    result = lso("optimize", *sought, "--workers", workers, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["status"] == "finished"
    said = capfd.readouterr()
    assert said.out == "" and "raw" in said.err and "imported" in said.err + result.stderr
    assert "called" in said.err + result.stderr
