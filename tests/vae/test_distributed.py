"""Several processes train as one: shares, sums, batch-norm over all, common decisions, and when one is lost.

Two processes on this machine, over gloo; one launch does everything that `tests.vae.several` names.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.vae import runs
from lso.vae.distributed import (
    any_process_reason,
    broadcast_object,
    compute_share,
    current_share,
    process_group,
    sharded_batch,
    sum_flat,
)
from lso.vae.errors import UsageError
from lso.vae.launch import ProcessInfo, process_info
from lso.vae.runs import Run
from lso.vae.training.loop import Limits, resume_training, train_model
from lso.vae.utils.files import Lock
from tests.vae.several import CASES, stepped, trainings
from tests.vae.small import contents, data_for, digits, rows, tensors

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes filled; trainings that one process began lie in it before they start.

    This process is at work in ``held`` meanwhile.
    """
    out = tmp_path_factory.mktemp("two")
    for name in ("cut", "held"):
        train_model(trainings()["vae"], digits(), out / name, limits=Limits(steps=6))
    before = contents(out / "held")
    shared_by = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared_by |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.vae.several", str(out)]
    lock = Lock(out / "held")
    started = [
        subprocess.Popen(
            command, env={**shared_by, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    try:
        said_last = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
        lock.release()
    assert contents(out / "held") == before
    assert [process.returncode for process in started] == [0, 0], "\n".join(said_last)
    return out


@pytest.fixture(scope="module")
def found(two: Path) -> list[dict[str, Any]]:
    """What each process found."""
    return [torch.load(two / f"{rank}.pt", weights_only=True) for rank in range(2)]


# --- one process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 50])
def test_shares_are_even_cover_the_batch_and_weigh_one(size: int, count: int) -> None:
    shares = [compute_share(size, rank, count) for rank in range(count)]
    seen = [row for share in shares for row in range(size)[share.rows]]
    assert sum(share.weight for share in shares) == pytest.approx(1)
    assert min(share.mine for share in shares) >= 1
    if size >= count:
        assert seen == list(range(size)) and max(share.mine for share in shares) <= -(-size // count)
    else:
        assert seen == list(range(size)) * count


def test_with_one_process_everything_is_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCH:
        monkeypatch.delenv(name, raising=False)
    x = torch.rand(3)
    before = x.clone()
    with process_group("cpu"), sharded_batch(3) as part:
        sum_flat([x])
        assert part is None and current_share() is None and torch.equal(x, before)
        assert (
            broadcast_object("this") == "this"
            and any_process_reason(None) is None
            and any_process_reason("why") == "why"
        )


def test_a_launch_is_read_from_the_environment_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert process_info() == ProcessInfo(rank=3, count=4, local=1)
    for rank in ("4", "-1", "one"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(UsageError, match=f"expected 0 <= RANK < WORLD_SIZE, got RANK={rank}"):
            process_info()
    monkeypatch.delenv("MASTER_PORT")
    assert process_info() == ProcessInfo()


# --- two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c.name}-{c.arch}-{c.scope}" for c in CASES])
def test_steps_are_those_of_one_process(number: int, found: list[dict[str, Any]]) -> None:
    """In double; what one-sided differences leave is the rounding of a gradient over their length."""
    wanted = stepped(CASES[number])
    one, other = (each["steps"][number] for each in found)
    assert all(torch.equal(one[key], other[key]) for key in wanted)
    tolerance = 1e-7 if "differences" in CASES[number].name else 1e-9
    for key, value in wanted.items():
        torch.testing.assert_close(one[key], value, rtol=tolerance, atol=tolerance)


def assert_close_run(one: Path, other: Path) -> None:
    """Two run folders hold the same to the rounding of single precision."""
    for found, wanted in zip(rows(one), rows(other), strict=True):
        assert {key for key, value in found.items() if value is None} == {k for k, v in wanted.items() if v is None}
        numbers = {key: value for key, value in wanted.items() if value is not None}
        assert {key: found[key] for key in numbers} == pytest.approx(numbers, rel=2e-4, abs=2e-5)
    last = [tensors(torch.load(path / runs.LAST, weights_only=True)) for path in (one, other)]
    for key, value in last[1].items():
        torch.testing.assert_close(last[0][key], value, rtol=1e-3, atol=1e-4)
    assert [Run(path).info["status"] for path in (one, other)] == ["finished", "finished"]


@pytest.mark.parametrize("name", trainings())
def test_trainings_are_those_of_one_process(name: str, two: Path, tmp_path: Path) -> None:
    chosen = trainings()[name]
    train_model(chosen, data_for(chosen), tmp_path / name)
    assert_close_run(two / name, tmp_path / name)
    assert Run(two / name).info["processes"] == 2 and Run(tmp_path / name).info["processes"] == 1


def test_a_run_goes_on_under_another_number_of_processes(two: Path) -> None:
    """One process began `cut` and two went on; two began `begun`, where the second one asked for a stop."""
    assert_close_run(two / "cut", two / "vae")
    begun = Run(two / "begun")
    assert begun.info["sentence"] == "interrupted after 1 epoch and 6 steps"
    resume_training(begun, digits())
    assert_close_run(two / "begun", two / "vae")


def test_a_folder_held_by_another_launch_is_refused_by_all(two: Path, found: list[dict[str, Any]]) -> None:
    """At once, and the processes go on together; nothing was written, see `two`."""
    wanted = f"RunError: another process is at work in {two / 'held'}\nWait for it, or choose another folder."
    assert [each["held"] for each in found] == [wanted, wanted]


def test_all_find_that_a_training_diverged(two: Path, found: list[dict[str, Any]]) -> None:
    assert all(each["diverged"].startswith("DivergedError: the ") for each in found)
    assert Run(two / "diverged").info["status"] == "failed"


def test_different_trainings_are_refused(two: Path, found: list[dict[str, Any]]) -> None:
    wanted = "UsageError: the processes were given different trainings\nStart all by one command, with the same files."
    assert [each["different"] for each in found] == [wanted, wanted]
    assert not (two / "different").exists()


def test_a_launch_trains_again_until_a_process_is_lost(two: Path, found: list[dict[str, Any]]) -> None:
    assert Run(two / "again").info["sentence"] == "reached the step limit after 0 epochs and 1 step"
    assert found[0]["lost"].startswith("RunError: another process of this training has ended or does not answer (")
    assert found[1]["lost"] == "MemoryError: "
    lost = Run(two / "lost")
    assert lost.info["status"] == "failed"
    assert lost.info["sentence"].startswith("another process of this training has ended or does not answer (")
    resume_training(lost, digits())
    assert_close_run(two / "lost", two / "vae")
    assert all(each["parted"].startswith("UsageError: these processes were disconnected") for each in found)
