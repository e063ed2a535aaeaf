"""Searches killed at any moment go on, lose nothing, and propose what the unbroken ones did."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lso.black_box.journal import JournalLines
from lso.black_box.result import SearchResult
from lso.optimizers import BLACK_BOX_OPTIMIZERS
from tests.lso.killed import Killed, search, tear_at
from tests.lso.searches import lines, rows

SYNCHRONOUS = ["tensors", "objects"]


def died() -> None:
    raise Killed


def torn(monkeypatch: pytest.MonkeyPatch, folder: Path, world: str, optimizer: str, count: int, part: float) -> bool:
    """Goes on with a search until ``count`` more lines are written; whether it came so far."""
    with monkeypatch.context() as patch:
        patch.setattr(JournalLines, "write", tear_at(count, part, died))
        patch.setattr("lso.black_box.journal.os.fsync", lambda number: None)  # hundreds of them take seconds
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
    for first in range(2):
        folder, times = tmp_path / str(first), 0
        while torn(
            monkeypatch, folder, world, optimizer, first if not times else choose.randrange(1, 9), choose.random()
        ):
            times += 1
        result = search(folder, world, optimizer)
        assert times > 4 and rows(result) == rows(unbroken) and result.sentence == unbroken.sentence


def test_asynchronous_search_torn_anywhere_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proposed is evaluated; with calls carried out in order even the proposals are the same."""
    unbroken, choose, times = search(None, "asynchronous", "climb"), random.Random(1), 0
    folder = tmp_path / "run"
    while torn(monkeypatch, folder, "asynchronous", "climb", choose.randrange(1, 6), choose.random()):
        before = lines(folder)
        times += 1
    result = search(folder, "asynchronous", "climb")
    kept(before, folder)
    proposed = [z for line in lines(folder) if b'"ask"' in line and b'"event"' in line for z in json.loads(line)["z"]]
    assert times > 5 and [record.z for record in result.records] == proposed
    assert result.counters["unique"] == 16 and rows(result)[:4] == rows(unbroken)[:4]


# --- real kills -------------------------------------------------------------------------------------------------------


Zygote = Any  # the process of `tests.lso.zygote`


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Forks the searches."""
    yield from zygote_of("tests.lso.killed")


def zygote_of(module: str) -> Iterator[Zygote]:
    """Forks what a module does (see `tests.lso.zygote`)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.lso.zygote", module],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": "."},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate(timeout=60)


def asked(zygote: Zygote, line: list[Any] | None = None) -> int:
    if line is not None:
        zygote.stdin.write(json.dumps(line) + "\n")
        zygote.stdin.flush()
    return int(zygote.stdout.readline())


def killed(zygote: Zygote, folder: Path, world: str, optimizer: str, kills: int) -> SearchResult:
    """Kills a search that often, each time after some lines and a part of one, or some milliseconds later."""
    choose, died = random.Random(f"{world} {optimizer}"), 0
    for kill in range(kills):
        before = lines(folder) if folder.exists() else []
        pid = asked(zygote, [str(folder), world, optimizer, choose.randrange(1, 4) + 99 * (kill % 2), choose.random()])
        if kill % 2:  # from outside, at a moment of its own
            wait_for_more(folder, len(before))
            time.sleep(choose.random() * 0.005)
            with suppress(ProcessLookupError):  # it had come to its end
                os.kill(pid, signal.SIGKILL)
        died += asked(zygote) == -signal.SIGKILL
        kept(before, folder)
    assert died >= kills - 2  # a search may have come to its end
    return search(folder, world, optimizer)


def wait_for_more(folder: Path, count: int) -> None:
    path, until = folder / "evaluations.jsonl", time.monotonic() + 60
    while (not path.is_file() or len(lines(folder)) <= count) and time.monotonic() < until:
        time.sleep(0.0005)


def test_search_that_was_killed_is_the_unbroken_one(tmp_path: Path, zygote: Zygote) -> None:
    result = killed(zygote, tmp_path / "run", "tensors", "climb", 3)
    assert rows(result) == rows(search(None, "tensors", "climb"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["random", "climb"])
@pytest.mark.parametrize("world", ["tensors", "objects", "workers"])
def test_search_killed_many_times_is_the_unbroken_one(
    tmp_path: Path, zygote: Zygote, world: str, optimizer: str
) -> None:
    """Fifty kills over the six searches, and two."""
    result = killed(zygote, tmp_path / "run", world, optimizer, 9 if world != "workers" else 8)
    assert rows(result) == rows(search(None, world, optimizer))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", sorted({"gp", "turbo", "cmaes"} & set(BLACK_BOX_OPTIMIZERS)))
def test_optimizers_with_a_model_propose_the_same_after_five_kills(
    tmp_path: Path, zygote: Zygote, optimizer: str
) -> None:
    if optimizer == "cmaes":
        pytest.importorskip("cma")
    result = killed(zygote, tmp_path / "run", "tensors", optimizer, 5)
    assert rows(result) == rows(search(None, "tensors", optimizer))
