import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from importlib import import_module
from pathlib import Path

import pytest
import torch

from lso.black_box.workers import WorkerDied, WorkerNotStarted, Workers
from lso.vae.errors import LsoError, UsageError
from tests.lso import scorers


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    """Two processes for all tests here; starting one takes a good part of a second."""
    workers = Workers(2, timeout=1.5)
    yield workers
    workers.shutdown(wait=False)


def gone(pid: int, within: float = 5.0) -> bool:
    """Whether a process ends, looked up in /proc; what is left of it for its parent to read counts as ended."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_answers_and_errors_come_back(pool: Workers) -> None:
    assert pool.submit(scorers.plus, 1.0, b=2.0).result() == 3.0
    with pytest.raises(KeyError, match="no assay for 1 words"):
        pool.submit(scorers.raising, ["0"]).result()


@pytest.mark.slow  # the processes import torch
def test_tensors_travel_as_values(pool: Workers) -> None:
    """Not as memory shared with this process, which a change of theirs would reach."""
    x = torch.zeros(3)
    far = pool.submit(torch.Tensor.add_, x, 1.0)
    assert far.result().tolist() == [1.0] * 3 and x.tolist() == [0.0] * 3 and not x.is_shared()  # type: ignore[no-untyped-call]


def test_call_that_hangs_is_killed_and_its_process_replaced(pool: Workers) -> None:
    late, good = pool.submit(scorers.sleep, 60), pool.submit(scorers.plus, 1, 1)
    with pytest.raises(TimeoutError, match=r"no answer within 1\.5 s"):
        late.result()
    assert good.result() == 2 and pool.submit(scorers.plus, 2, 2).result() == 4


def test_process_that_dies_takes_its_own_call_alone(pool: Workers) -> None:
    calls = [pool.submit(scorers.kill_self), *(pool.submit(scorers.plus, i, 0) for i in range(4))]
    with pytest.raises(WorkerDied, match="killed by signal 9"):
        calls[0].result()
    assert [call.result() for call in calls[1:]] == [0, 1, 2, 3]
    with pytest.raises(WorkerDied, match="ended with exit code 7"):
        pool.submit(scorers.dying, ["-1"]).result()


def test_process_that_dies_while_another_holds_its_pipe_is_seen_to_die(pool: Workers) -> None:
    with pytest.raises(WorkerDied, match="exit code 3"):
        pool.submit(scorers.die_with_a_child_on_the_pipe).result(timeout=10)


@pytest.mark.usefixtures("forgotten")
def test_what_cannot_be_sent_is_an_error_of_that_call_alone(
    pool: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pool.submit(scorers.process_id).result()
    with pytest.raises(LsoError, match="the call cannot be pickled"):
        pool.submit(lambda: None).result()
    with pytest.raises(LsoError, match="cannot pickle the answer"):
        pool.submit(scorers.unpicklable).result()
    with pytest.raises(LsoError, match="the answer of the worker process cannot be unpickled"):
        pool.submit(scorers.awkward).result()
    (tmp_path / "only_here.py").write_text("def score(x): return x\n")
    with monkeypatch.context() as patch:  # the processes were started with another path
        patch.syspath_prepend(tmp_path)
        call = pool.submit(import_module("only_here").score, 1)
    with pytest.raises(LsoError, match="cannot unpickle the call: ModuleNotFoundError"):
        call.result()
    assert before in {pool.submit(scorers.process_id).result() for _ in range(8)}  # nobody was replaced


def test_timeout_kills_what_the_call_started(pool: Workers, tmp_path: Path) -> None:
    """A docking program, say."""
    with pytest.raises(TimeoutError):
        pool.submit(scorers.with_child, str(tmp_path / "pids")).result()
    worker, child = map(int, (tmp_path / "pids").read_text().split())
    assert gone(worker) and gone(child)


def test_shutdown_without_waiting_leaves_no_process(tmp_path: Path) -> None:
    workers = Workers(1)
    running, waiting = workers.submit(scorers.with_child, str(tmp_path / "pids")), workers.submit(scorers.plus, 1, 1)
    while not (tmp_path / "pids").is_file() or not (tmp_path / "pids").read_text().endswith("\n"):
        time.sleep(0.02)
    begun = time.monotonic()
    workers.shutdown(wait=False)
    assert time.monotonic() - begun < 2
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    with pytest.raises(WorkerDied, match="shut down"):
        running.result()
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(LsoError, match="these workers were shut down"):
        workers.submit(scorers.plus, 1, 1)
    workers.shutdown()


def test_shutdown_waits_for_the_calls() -> None:
    with Workers(1) as workers:
        calls = [workers.submit(scorers.plus, i, 0) for i in range(3)]
        pid = workers.submit(scorers.process_id)
    assert [call.result() for call in calls] == [0, 1, 2] and gone(pid.result())
    assert not wait([pid], timeout=0).not_done


def test_process_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso.black_box.workers._run_worker", scorers.plus)  # takes two arguments, is given one
    workers = Workers(1)
    with pytest.raises(WorkerNotStarted, match="did not start: its process ended with exit code 1"):
        workers.submit(scorers.plus, 1, 1).result(timeout=60)
    workers.shutdown(wait=False)


@pytest.mark.parametrize(("count", "timeout"), [(0, None), (1, 0.0), (1, -1.0)])
def test_numbers_out_of_range_are_refused(count: int, timeout: float | None) -> None:
    with pytest.raises(UsageError):
        Workers(count, timeout)


PARENT = """
import signal, sys
from lso.black_box.workers import Workers
from tests.lso import scorers

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background have it ignored
    workers = Workers(1)
    call = workers.submit(scorers.with_child, sys.argv[1])
    try:
        call.result()
    except KeyboardInterrupt:
        workers.shutdown(wait=False)
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    """Killed, it can do nothing for them; interrupted from a terminal, they get the signal too and say nothing."""
    script, pids = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        start_new_session=True,
    )
    until = time.monotonic() + 30
    while not (pids.is_file() and pids.read_text().endswith("\n")) and time.monotonic() < until:
        time.sleep(0.02)
    worker, child = map(int, pids.read_text().split())
    if number == signal.SIGINT:
        os.kill(worker, number)
        os.killpg(parent.pid, number)
    else:
        parent.kill()
    said, errors = parent.communicate(timeout=30)
    assert gone(worker) and gone(child)
    assert errors == "" and said.strip() == ("interrupted" if number == signal.SIGINT else "")


UNGUARDED = """
from lso.black_box.workers import Workers
from tests.lso import scorers
print(Workers(1).submit(scorers.plus, 1, 1).exception())
"""


def test_script_that_makes_workers_when_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, env=environment, timeout=60
    )
    assert "did not start" in done.stdout and "__main__" in done.stdout and "when it is imported" in done.stderr
