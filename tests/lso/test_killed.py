"""Searches killed at any moment go on, lose nothing, and propose what the unbroken ones did."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lso.journal import Journal
from lso.optimizers import BLACK_BOX_OPTIMIZERS
from lso.search_result import SearchResult
from tests.lso.killed import Killed, search, tear_at
from tests.lso.searches import lines, rows

SYNCHRONOUS = ["tensors", "objects"]


def died() -> None:
    raise Killed


def torn(monkeypatch: pytest.MonkeyPatch, folder: Path, world: str, optimizer: str, count: int, part: float) -> bool:
    """Goes on with a search until ``count`` more lines are written; whether it came so far."""
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_write", tear_at(count, part, died))
        patch.setattr("lso.journal.os.fsync", lambda number: None)  # hundreds of them take seconds
        try:
            search(folder, world, optimizer)
        except Killed:
            return True
    return False


def kept(before: list[bytes], folder: Path) -> None:
    """What was whole stands where it stood."""
    whole = [line for line in before if line.endswith(b"\n")]
    assert lines(folder)[: len(whole)] == whole


@pytest.mark.parametrize("optimizer", ["random", "climb"])
@pytest.mark.parametrize("world", SYNCHRONOUS)
def test_search_torn_at_every_line_is_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: str, optimizer: str
) -> None:
    """Torn, gone on with, torn again a few lines later, and so on to the end."""
    unbroken = search(None, world, optimizer)
    assert unbroken.counters["duplicate"] > 5 or world == "tensors"
    assert unbroken.counters["invalid"] > 2 or world == "tensors"
    choose = random.Random(0)
    for first in range(3):
        folder, times = tmp_path / str(first), 0
        while torn(
            monkeypatch, folder, world, optimizer, first if not times else choose.randrange(1, 5), choose.random()
        ):
            times += 1
        result = search(folder, world, optimizer)
        assert times > 5 and rows(result) == rows(unbroken) and result.sentence == unbroken.sentence


def test_asynchronous_search_torn_anywhere_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proposed is evaluated; with calls carried out in order even the proposals are the same."""
    unbroken, choose, times = search(None, "asynchronous", "climb"), random.Random(1), 0
    folder = tmp_path / "run"
    while torn(monkeypatch, folder, "asynchronous", "climb", choose.randrange(1, 6), choose.random()):
        before = lines(folder)
        times += 1
    result = search(folder, "asynchronous", "climb")
    kept(before, folder)
    asked = [z for line in lines(folder) if b'"ask"' in line and b'"event"' in line for z in json.loads(line)["z"]]
    assert times > 5 and [record.z for record in result.records] == asked
    assert result.counters["unique"] == 16 and rows(result)[:4] == rows(unbroken)[:4]


# --- real kills -------------------------------------------------------------------------------------------------------


def start(folder: Path, world: str, optimizer: str, count: int = 0, part: float = 0.0) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.lso.killed", str(folder), world, optimizer, str(count), str(part)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."})


def killed(folder: Path, world: str, optimizer: str, kills: int, seed: int) -> SearchResult:
    """Kills a search that often, each time after some lines and a part of one, or some milliseconds later."""
    choose = random.Random(seed)
    for kill in range(kills):
        before = lines(folder) if folder.exists() else []
        process = start(folder, world, optimizer, choose.randrange(1, 4), choose.random())
        if kill % 2:  # from outside, at a moment of its own
            while process.poll() is None and (not folder.exists() or len(lines(folder)) <= len(before)):
                time.sleep(0.001)
            time.sleep(choose.random() * 0.005)
            process.kill()
        assert process.wait(timeout=120) in (-signal.SIGKILL, 0)
        kept(before, folder)
    return search(folder, world, optimizer)


def test_search_that_was_killed_is_the_unbroken_one(tmp_path: Path) -> None:
    result = killed(tmp_path / "run", "tensors", "climb", 2, seed=0)
    assert rows(result) == rows(search(None, "tensors", "climb"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["random", "climb"])
@pytest.mark.parametrize("world", ["tensors", "objects", "workers"])
def test_search_killed_many_times_is_the_unbroken_one(tmp_path: Path, world: str, optimizer: str) -> None:
    """Fifty kills over the six searches, and two."""
    result = killed(tmp_path / "run", world, optimizer, 9 if world != "workers" else 8, seed=len(world + optimizer))
    assert rows(result) == rows(search(None, world, optimizer))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", sorted({"gp", "turbo", "cmaes"} & set(BLACK_BOX_OPTIMIZERS)))
def test_optimizers_with_a_model_propose_the_same_after_five_kills(tmp_path: Path, optimizer: str) -> None:
    if optimizer == "cmaes":
        pytest.importorskip("cma")
    result = killed(tmp_path / "run", "tensors", optimizer, 5, seed=5)
    assert rows(result) == rows(search(None, "tensors", optimizer))
