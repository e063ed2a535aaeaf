"""Executors of all kinds, and what becomes of calls that they lose."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.black_box.ask_tell import BlackBox
from lso.black_box.result import SearchResult
from lso.black_box.runner import SearchCallback
from lso.black_box.workers import Workers
from lso.decoders.decoder import Decoder
from lso.objectives.failures import ScoreError
from lso.objectives.latent_objective import LatentObjective
from lso.results.export import read_evaluations
from lso.vae.errors import LsoError, UsageError
from lso.vae.runs import Run
from tests.lso import scorers
from tests.lso.clusters import Cluster
from tests.lso.searches import climb, climber, objects, rows, run, tensors


def spawned() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


def check(result: SearchResult, budget: int) -> None:
    assert result.status == "finished" and result.counters["unique"] == budget
    assert all(r.value == scorers.first([r.decoded or ""])[0] for r in result.records if r.valid)


def test_executors_give_what_this_process_gives() -> None:
    """Threads, a factory of them, and jobs that can only be asked whether they are done."""
    here = rows(run(objects(), 12, batch=3))
    with ThreadPoolExecutor(3) as threads:
        assert rows(run(objects(lambda words: scorers.first(words)), 12, batch=3, executor=threads)) == here
        assert threads.submit(int, 3).result() == 3  # not ours to shut down
    for executor in (lambda: ThreadPoolExecutor(2), Cluster(), Cluster):
        assert rows(run(objects(), 12, batch=3, executor=executor)) == here
    assert rows(run(tensors(), 8, batch=4, executor=lambda: ThreadPoolExecutor(2))) == rows(run(tensors(), 8, batch=4))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_answers_in_any_order_are_those_of_their_calls(asynchronous: bool) -> None:
    """Pending points are shown to the optimizer, and every answer goes to its own code."""

    def slow(words: list[str]) -> list[float]:
        time.sleep(0.02 if scorers.first(words)[0] > 0 else 0.001)
        return scorers.first(words)

    seen = []

    def pending(history: Any, n: int, seed: int) -> Any:
        seen.append((len(history.pending), len(history.z)))
        return climb(history, n, seed)

    objective = objects(slow)
    box = BlackBox("pending", objective.space, pending)
    with ThreadPoolExecutor(4) as threads:
        result = run(objective, 20, batch=4, asynchronous=asynchronous, executor=threads, optimizer=box)
    check(result, 20)
    finished = sorted(result.records, key=lambda record: record.elapsed)
    assert [record.call for record in finished] != [record.call for record in result.records]
    assert any(waiting for waiting, _ in seen) == asynchronous
    history = box.history()
    values = {tuple(record.z): record.value for record in result.records}
    assert [values[tuple(z)] for z in history.z.tolist()] == history.gain.tolist()
    if not asynchronous:  # whatever the order of answers
        assert rows(result) == rows(run(objects(), 20, batch=4, optimizer=climber(objective)))


def test_jobs_that_a_cluster_loses_are_recorded_and_their_objects_tried_again() -> None:
    result = run(objects(digits=0), 6, batch=6, executor=Cluster(lose=3), max_calls=60)
    lost = [record for record in result.records if record.outcome == "lost"]
    assert lost and "node failure" in lost[0].reason and all(record.duplicate_of is None for record in lost)
    assert result.counters["failed"] == len(lost) and result.status == "finished"
    again = {r.decoded for r in lost} & {r.decoded for r in result.records if r.valid}
    assert again  # an object whose first call was lost


def test_overdue_calls_are_given_up() -> None:
    cluster = Cluster(looks=10**9)
    result = run(objects(), 2, batch=2, executor=cluster, timeout=0.05, max_calls=4)
    assert result.status == "failed" and result.counters["timed_out"] == 4
    assert all(job.cancelled for job in cluster.jobs) and "no answer within 0.05 s" in result.sentence


def test_calls_behind_one_that_hangs_are_lost_and_not_timed_out() -> None:
    """Nothing is known of an object that a pool never began: it says nothing of feasibility."""
    release = threading.Event()

    def stuck(words: list[str]) -> list[float]:
        release.wait(60)
        return scorers.first(words)

    with ThreadPoolExecutor(1) as threads:
        result = run(objects(stuck), 3, batch=3, executor=threads, timeout=0.3, max_calls=3)
        release.set()
    assert sorted(record.outcome for record in result.records) == ["lost", "lost", "timed_out"]
    reasons = {record.outcome: record.reason for record in result.records}
    assert reasons == {"lost": "not begun within 0.3 s", "timed_out": "no answer within 0.3 s"}


def test_what_is_no_executor_is_refused() -> None:
    for wrong in (4, "threads", lambda: 4):
        with pytest.raises(UsageError, match="expected an executor or a function that makes one"):
            run(objects(), executor=wrong)


def test_executor_that_is_shut_down_says_what_to_do(tmp_path: Path) -> None:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(LsoError, match="the executor takes no more calls: cannot schedule") as error:
        run(objects(), 4, batch=2, executor=threads, out=tmp_path / "run")
    assert "Resume the search with another" in error.value.hint
    assert Run(tmp_path / "run").info["status"] == "failed"
    result = run(objects(), 4, batch=2, out=tmp_path / "run", resume=True)
    assert rows(result) == rows(run(objects(), 4, batch=2))


def test_score_that_cannot_be_pickled_is_said(tmp_path: Path) -> None:
    with Workers(1) as workers:
        result = run(objects(lambda words: [1.0]), 3, executor=workers, max_calls=3)
    assert result.status == "failed" and "cannot be pickled" in result.records[0].reason


# --- several data at once ---------------------------------------------------------------------------------------------


class Lists:
    """A score that writes down what it is given together."""

    def __init__(self, score: Callable[..., Any] = scorers.first) -> None:
        self.score, self.given = score, []  # type: ignore[var-annotated]
        self.__name__ = "first"

    def __call__(self, words: list[str]) -> Any:
        self.given.append(list(words))
        return self.score(words)

    @property
    def sizes(self) -> list[int]:
        return [len(words) for words in self.given]


def picky(words: list[str]) -> list[float]:
    if any(value < 0 for value in scorers.first(words)):
        raise ValueError("negative")
    return scorers.first(words)


def test_in_this_process_the_score_is_given_a_batch_as_one_list() -> None:
    """README's example."""
    score = Lists()
    result = run(objects(score), 10, batch=4)
    assert score.sizes == [4, 4, 2] and result.counters["unique"] == 10
    assert rows(result) == rows(run(objects(), 10, batch=4, executor=Cluster()))
    few = Lists()
    assert rows(run(objects(few, digits=0), 6, batch=6)) == rows(run(objects(digits=0), 6, batch=6, executor=Cluster()))
    assert sum(few.sizes) == len({word for words in few.given for word in words}) == 6 < sum(few.sizes) + 1
    one = Lists()
    run(objects(one), 4, batch=4, asynchronous=True)
    assert one.sizes == [1] * 4  # each is told before the next is asked for


def test_seconds_of_a_list_are_shared() -> None:
    def slow(words: list[str]) -> list[float]:
        time.sleep(0.2)
        return scorers.first(words)

    result = run(objects(slow), 4, batch=4)
    assert all(0.05 <= record.seconds < 0.1 for record in result.records)


def test_one_that_fails_is_told_from_all() -> None:
    score = Lists(picky)
    result = run(objects(score), 5, batch=5, max_calls=5)
    bad = [record for record in result.records if record.outcome == "failed"]
    assert score.sizes == [5, 1, 1, 1, 1, 1] and 0 < len(bad) < 5
    assert all("negative" in record.reason and scorers.first([record.decoded or ""])[0] < 0 for record in bad)


def test_lists_of_another_length_are_one_clear_error(tmp_path: Path) -> None:
    """Nothing is recorded of them, and with the score mended the search is the one that it would have been."""
    for wrong, got in ((lambda words: [1.0], "1 value"), (lambda words: [1.0] * 9, "9 values"), (lambda _: [], "0 va")):
        with pytest.raises(ScoreError, match=f"the score gave {got}.* for 4 data, expected 4") as error:
            run(objects(wrong), 8, batch=4)
        assert "one float (or None) for each" in error.value.hint
    short = [False]

    def filtering(words: list[str]) -> list[float]:
        return scorers.first(words)[short[0] :]

    class Shorten(SearchCallback):
        def called(self, *_: Any) -> None:
            short[0] = True

    with pytest.raises(ScoreError, match="3 values for 4 data"):
        run(objects(filtering), 8, batch=4, out=tmp_path / "run", callback=Shorten())
    short[0] = False
    assert rows(run(objects(filtering), 8, batch=4, out=tmp_path / "run", resume=True)) == rows(
        run(objects(), 8, batch=4)
    )


@pytest.mark.parametrize("calls", range(1, 6))
def test_what_is_missing_of_a_list_that_was_tried_one_by_one_is_scored_alone(tmp_path: Path, calls: int) -> None:
    """Values depend on the size of the list in their last digits; nothing is scored twice after it was recorded."""

    def uneven(words: list[str]) -> list[float]:
        return [value + 1e-9 * len(words) for value in picky(words)]

    def broken_off(words: list[str]) -> list[float]:
        if len(score.given) == calls + 1:
            raise KeyboardInterrupt
        return uneven(words)

    whole = rows(run(objects(uneven), 9, batch=5, max_calls=10))
    score = Lists(broken_off)
    score.__name__ = "uneven"
    with pytest.raises(KeyboardInterrupt):
        run(objects(score), 9, batch=5, max_calls=10, out=tmp_path / "run")
    again = Lists(uneven)
    again.__name__ = "uneven"
    assert rows(run(objects(again), 9, batch=5, max_calls=10, out=tmp_path / "run", resume=True)) == whole
    assert again.sizes[:1] == [5 if calls == 1 else 1] and sum(size == 1 for size in again.sizes) <= 5 - calls + 1 + 5


def test_processes_are_given_as_many_as_wished() -> None:
    for chunk, sizes in ((1, [1] * 6), (4, [4, 2]), (9, [6])):
        score = Lists()
        with ThreadPoolExecutor(1) as threads:
            result = run(objects(score), 6, batch=6, executor=threads, chunk=chunk)
        assert score.sizes == sizes and rows(result) == rows(run(objects(), 6, batch=6))
    with ThreadPoolExecutor(1) as threads:
        bad = run(objects(picky), 6, batch=6, max_calls=6, executor=threads, chunk=3)
        assert rows(bad) == rows(run(objects(picky), 6, batch=6, max_calls=6))
        assert rows(run(tensors(), 8, batch=4, executor=threads, chunk=4)) == rows(run(tensors(), 8, batch=4))
        with pytest.raises(ScoreError, match="1 value for 3 data"):
            run(objects(lambda words: [1.0]), 6, batch=6, executor=threads, chunk=3)
    with pytest.raises(UsageError, match="chunk needs an executor or a timeout"):
        run(objects(), chunk=2)


def test_the_timeout_is_an_objects_and_what_a_chunk_loses_is_tried_alone() -> None:
    with Workers(1, timeout=1.0) as workers:
        assert workers.submit(scorers.first, ["0"]).result() == [0.0]  # started
        slow = run(objects(scorers.slow), 2, batch=2, executor=workers, chunk=2)  # 0.7 s for each object
        assert [record.outcome for record in slow.records] == ["evaluated"] * 2
    with Workers(1, timeout=0.5) as workers:
        for score, outcome in ((scorers.dying_any, "lost"), (scorers.hanging_any, "timed_out")):
            result = run(objects(score), 4, batch=4, max_calls=4, executor=workers, chunk=4)
            expected = ["evaluated" if scorers.first([r.decoded or ""])[0] > 0 else outcome for r in result.records]
            assert [r.outcome for r in result.records] == expected and len(set(expected)) == 2


# --- scores that do more than to score --------------------------------------------------------------------------------


def spoilt(batch: Any) -> Any:
    """The first coordinate, then all of what was given is overwritten."""
    found = [float(item[0]) for item in batch]
    if isinstance(batch, torch.Tensor):
        batch.fill_(9.0)
        return torch.tensor(found, dtype=torch.float64)
    for item in batch:
        item[:] = [9.0] * len(item)
    return found


class Vector(list):  # type: ignore[type-arg]
    """An object that can be changed."""


KEPT = [Vector([float(i), -1.0]) for i in range(7)]
TABLE = torch.arange(14, dtype=torch.float64).reshape(7, 2)
DECODERS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "identity, tensors": (lambda z: z, "tensors"),
    "identity, arrays": (lambda z: z, "objects"),
    "rows of a table": (lambda z: TABLE[: len(z)], "objects"),
    "objects that are kept": (lambda z: [KEPT[int(abs(row[0]) * 100) % 7] for row in z], "objects"),
}


@pytest.mark.parametrize("options", [{}, {"batch": 3}, {"batch": 3, "threads": True}, {"batch": 3, "chunk": 3}])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_score_that_changes_what_it_is_given_changes_no_record(kind: str, options: dict[str, Any]) -> None:
    def kept() -> str:
        return repr(KEPT) + repr(TABLE)

    decode, on = DECODERS[kind]
    objective = LatentObjective(Decoder(decode, latent_dim=2, differentiable=False), spoilt, on=on, maximize=True)
    before, options, asked = kept(), dict(options), []

    def noting(history: Any, n: int, seed: int) -> Any:
        asked.append(climb(history, n, seed).clone())
        return asked[-1].clone()

    box = BlackBox("noting", objective.space, noting)
    with ThreadPoolExecutor(2) if options.pop("threads", "chunk" in options) else nullcontext() as executor:
        result = run(objective, 5, max_calls=9, optimizer=box, executor=executor, **options)
    assert kept() == before
    assert [record.z for record in result.records] == torch.cat(asked).tolist()[: len(result.records)]
    assert "identity" not in kind or all(record.value == record.z[0] for record in result.records)
    assert torch.equal(box.history().z, result.z) and not len(box.pending)


@pytest.mark.parametrize("on", ["tensors", "objects"])
def test_nor_does_it_change_the_codes_that_an_objective_is_asked_for(on: str) -> None:
    objective = LatentObjective(Decoder(lambda z: z, latent_dim=2, differentiable=False), spoilt, on=on)
    z = torch.tensor([[0.5, 1.0], [0.25, 2.0]], dtype=torch.float64)
    assert objective(z).tolist() == [0.5, 0.25] and z.tolist() == [[0.5, 1.0], [0.25, 2.0]]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("leaves", 3)])
def test_a_process_that_a_score_forked_does_not_search_on(tmp_path: Path, how: str, code: int) -> None:
    parent, codes = os.getpid(), []

    def forking(words: list[str]) -> list[float]:
        child = os.fork()
        if child == 0:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            if how == "raises":
                raise KeyError("child")
            return sys.exit(3) if how == "leaves" else scorers.first(words)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return scorers.first(words)

    try:
        result = run(objects(forking), 3, batch=2, out=tmp_path / "run")
        values = objects(forking, remember=False)(torch.zeros(2, 2))  # asked for directly
    finally:
        if os.getpid() != parent:
            os._exit(99)
    assert codes == [code] * 3 and rows(result) == rows(run(objects(), 3, batch=2)) and values.tolist() == [0.0, 0.0]
    assert len(read_evaluations(tmp_path / "run")) == 3 and Run(tmp_path / "run").info["status"] == "finished"


def test_nor_does_one_in_a_process_of_ours() -> None:
    with Workers(1, timeout=20) as workers:
        result = run(objects(scorers.forking), 3, batch=3, executor=workers)
    assert rows(result) == rows(run(objects(), 3, batch=3))


MISBEHAVING = [
    (scorers.raising, "failed", "KeyError"),
    (scorers.leaving, "failed", "SystemExit: score left"),
    (scorers.half, "invalid", "the score gave None"),
    (scorers.dying, "lost", "exit code 7"),
    (scorers.hanging, "timed_out", "no answer within 0.5 s"),
]


def test_scores_that_misbehave_in_processes_are_recorded_with_their_reason() -> None:
    """One pool for all; the calls that go well go on."""
    with Workers(2, timeout=0.5) as workers:
        for score, outcome, reason in MISBEHAVING:
            result = run(objects(score), 3, batch=3, executor=workers, max_calls=9, max_failures=10)
            bad = [record for record in result.records if not record.valid]
            assert bad and {record.outcome for record in bad} == {outcome}
            assert all(reason in record.reason for record in bad)
            assert result.status == ("failed" if score in (scorers.raising, scorers.leaving) else "finished")


def test_timeout_without_an_executor_kills_the_call() -> None:
    result = run(objects(scorers.hanging), 2, timeout=0.5, max_calls=5)
    assert result.counters["timed_out"] > 0 and result.best_value > 0
    assert not [thread for thread in threading.enumerate() if "_serve" in thread.name]


@pytest.mark.slow
@pytest.mark.parametrize("factory", [True, False])
def test_pool_that_breaks_loses_its_calls_and_is_made_anew(tmp_path: Path, factory: bool) -> None:
    made = []

    def make() -> ProcessPoolExecutor:
        made.append(spawned())
        return made[-1]

    out = tmp_path / "run"
    if factory:
        result = run(objects(scorers.dying), 6, batch=3, executor=make, out=out)
    else:
        for _ in range(20):
            try:
                result = run(objects(scorers.dying), 6, batch=3, executor=make(), out=out, resume=out.exists())
                break
            except LsoError as error:
                assert "A function that makes executors is called again" in error.hint
    check(result, 6)
    assert len(made) > 1 and {r.outcome for r in result.records} == {"evaluated", "lost"}
    for pool in made:
        pool.shutdown()


@pytest.mark.slow
def test_tensors_go_to_processes_and_back() -> None:
    result = run(tensors(), 6, batch=3, executor=lambda: Workers(2, 30))
    assert rows(result) == rows(run(tensors(), 6, batch=3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_cluster_scores_and_survives_a_score_that_kills(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        executor = client.get_executor()
        assert rows(run(objects(), 8, batch=4, executor=executor)) == rows(run(objects(), 8, batch=4))
        assert rows(run(tensors(), 4, batch=4, executor=client.get_executor)) == rows(run(tensors(), 4, batch=4))
        result = run(objects(scorers.raising), 2, executor=executor, max_calls=2)
        assert result.status == "failed" and "KeyError" in result.records[0].reason
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        result = run(objects(scorers.dying), 3, batch=2, executor=lambda: client.get_executor(retries=0))
        check(result, 3)
        lost = [record for record in result.records if record.outcome == "lost"]
        assert lost and "worker" in lost[0].reason.lower()


def test_future_that_is_cancelled_from_outside_is_lost() -> None:
    class Cancelling(Cluster):
        def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
            future: Future[Any] = Future()
            future.cancel()
            return future

    result = run(objects(), 2, executor=Cancelling(), max_calls=2)
    assert {record.outcome for record in result.records} == {"lost"} and result.status == "failed"
