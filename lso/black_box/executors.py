"""How calls of a score are carried out: here, or by an executor."""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lso.black_box.workers import WorkerDied, WorkerNotStarted, Workers
from lso.objectives.failures import ScoreError
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.score_calls import MAX_REASON_CHARS, Chunk, ScoreOutcome, copy_datum, failed_outcome
from lso.vae.errors import LsoError, UsageError

POLL_SECONDS = 0.5  # seconds between looks at what the callback says
FIRST_POLL_SECONDS = 0.01  # until the first poll of jobs that cannot be waited for; each further wait is twice as long

# Errors by which Dask, loky and submitit say that a process is gone, by name: none of them need be installed.
LOST_ERROR_NAMES = ("KilledWorker", "FutureCancelledError", "CommClosedError", "UncompletedJobError")

# Executors whose futures can be cancelled only before they begin; those of others do not say whether they did.
POOLS = (ThreadPoolExecutor, ProcessPoolExecutor)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCall:
    """A datum to be scored.

    Args:
        number: of the call.
        z: ``(d,)`` code that it was decoded from.
        item: the datum.
        alone: whether the score is to be given it alone.
    """

    number: int
    z: Tensor
    item: Any
    alone: bool = False


class ScoreExecutor(ABC):
    """Takes calls and gives them back with what became of them, in any order."""

    @abstractmethod
    def submit(self, call: ScoreCall) -> None:
        """Take a call."""

    @abstractmethod
    def collect(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Wait a little for calls."""

    @abstractmethod
    def withdraw(self) -> list[ScoreCall]:
        """Take back what has not begun; the others are still to come by `collect`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is still under way."""


class SerialExecutor(ScoreExecutor):
    """Scores in this process, several data at once.

    Args:
        objective: holds the score; with targets it is scored itself, by codes and without the part of the prior.
        together: data that the score is given at once, at most. Where it raises, each is tried alone, so that a bad one
            does not take the others with it.
    """

    def __init__(self, objective: LatentObjective, together: int = 1) -> None:
        self._on, self._together = objective.on, together
        self._by_code = objective.targets is not None
        self._score: Callable[..., Any] = objective.score
        if self._by_code:
            self._score = plain = copy.copy(objective)
            plain.prior_weight = 0.0
        self._waiting: list[ScoreCall] = []

    def submit(self, call: ScoreCall) -> None:
        """Take a call."""
        self._waiting.append(call)

    def collect(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Score what waits."""
        calls = self._next_batch()
        items = [copy_datum(call.z if self._by_code else call.item) for call in calls]
        outcomes = Chunk(self._score, self._on, items)()
        if not outcomes:
            self._waiting[:0] = [replace(call, alone=True) for call in calls]
            return []
        return list(zip(calls, outcomes, strict=True))

    def _next_batch(self) -> list[ScoreCall]:
        alone = next((i for i, call in enumerate(self._waiting) if call.alone), len(self._waiting))
        take = min(alone, self._together) or 1
        calls, self._waiting = self._waiting[:take], self._waiting[take:]
        return calls

    def withdraw(self) -> list[ScoreCall]:
        """Take back what waits; nothing is under way between two calls of `collect`."""
        left, self._waiting = self._waiting, []
        return left

    def close(self) -> None:
        """Nothing is under way."""


class FuturesExecutor(ScoreExecutor):
    """Has an executor call the score.

    Args:
        score: picklable where the executor's processes are others.
        on: what it takes.
        executor: with ``submit``, as in `concurrent.futures`; or a function without arguments that makes one, which is
            called again where the last one broke. What ``submit`` returns has ``done``, ``exception``, ``result`` and
            ``cancel``.
        timeout: seconds for each datum of a call, after which an executor's call counts as timed out, from when it was
            handed over, or as lost where a pool of Python's own never began it; None is no limit. Workers of our own
            are given theirs when they are made, and kill the call.
        chunk: data a call. Where a call of several is lost, late or raises, each is tried alone.
    Raises:
        UsageError: if it is neither.
    """

    def __init__(
        self, score: Callable[..., Any], on: str, executor: Any, timeout: float | None = None, chunk: int = 1
    ) -> None:
        self._score, self._on, self._timeout, self._chunk = score, on, timeout, chunk
        given = hasattr(executor, "submit") and not isinstance(executor, type)
        if not given and not callable(executor):
            raise _not_an_executor(executor)
        self._make: Callable[[], Any] | None = None if given else executor
        self._executor = executor if self._make is None else self._make_executor(self._make)
        self._waiting: list[ScoreCall] = []
        self._running: dict[Any, tuple[list[ScoreCall], float]] = {}
        self._ready: list[tuple[ScoreCall, ScoreOutcome]] = []
        self._stopped: LsoError | None = None  # why nothing more can be carried out
        self._pause = FIRST_POLL_SECONDS

    def _make_executor(self, make: Callable[[], Any]) -> Any:
        executor = make()
        if not hasattr(executor, "submit"):
            raise _not_an_executor(executor)
        return executor

    def submit(self, call: ScoreCall) -> None:
        """Take a call, and hand as many to the executor as make a chunk."""
        self._waiting.append(call)
        if call.alone or len(self._waiting) >= self._chunk:
            self._submit_waiting()

    def _submit_waiting(self) -> None:
        calls, self._waiting = self._waiting, []
        together = [call for call in calls if not call.alone]
        for part in filter(None, [*([call] for call in calls if call.alone), together]):
            self._submit_calls(part)

    def _submit_calls(self, calls: list[ScoreCall]) -> None:
        try:
            future = self._submit_chunk(Chunk(self._score, self._on, [_picklable_copy(call.item) for call in calls]))
        except LsoError:
            raise
        except Exception as error:  # what cannot be pickled
            self._ready += self._assign_outcome(calls, failed_outcome(error))
        else:
            self._running[future] = (calls, time.perf_counter())

    def _submit_chunk(self, chunk: Chunk) -> Any:
        try:
            return self._executor.submit(chunk)
        except RuntimeError as error:  # broken, or shut down
            self._renew(error)
        try:
            return self._executor.submit(chunk)
        except RuntimeError as error:
            raise LsoError(f"a new executor broke at once: {error}", "Look at the function that makes it.") from None

    def collect(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Wait a little for the executor."""
        if self._stopped is not None:
            raise self._stopped
        self._submit_waiting()
        ready, self._ready = self._ready, []
        if ready:
            return ready
        finished = [future for future in self._running if future.done()] or self._wait_briefly()
        errors = [_exception_of(future) for future in finished]
        if any(isinstance(error, BrokenExecutor) for error in errors):
            finished = list(self._running)  # all are lost but those that were done before
            errors = [_exception_of(future) if future.done() else BrokenExecutor() for future in finished]
        self._stopped = next((error for error in errors if isinstance(error, WorkerNotStarted | ScoreError)), None)
        for future, error in zip(finished, errors, strict=True):
            calls, begun = self._running.pop(future)
            if not isinstance(error, WorkerNotStarted | ScoreError):
                ready += self._read_result(calls, future, error, time.perf_counter() - begun)
        return ready + self._give_up_overdue()

    def _read_result(
        self, calls: list[ScoreCall], future: Any, error: BaseException | None, seconds: float
    ) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """What became of a future: the score's own errors are in its result, others come from what carried it out."""
        if error is not None:
            return self._assign_outcome(calls, replace(_executor_failure(error), seconds=seconds))
        outcomes: list[ScoreOutcome] = future.result()
        return list(zip(calls, outcomes, strict=True)) if outcomes else self._assign_outcome(calls, None)

    def _assign_outcome(
        self, calls: list[ScoreCall], outcome: ScoreOutcome | None
    ) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """An outcome for a call of one datum; of several each is to be tried alone."""
        if len(calls) == 1 and outcome is not None:
            return [(calls[0], outcome)]
        self._waiting += [replace(call, alone=True) for call in calls]
        return []

    def _wait_briefly(self) -> list[Any]:
        if all(isinstance(future, Future) for future in self._running):
            return list(wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done)
        time.sleep(self._pause)  # submitit's jobs have `done`, but are none of concurrent.futures'
        finished = [future for future in self._running if future.done()]
        self._pause = FIRST_POLL_SECONDS if finished else min(2 * self._pause, POLL_SECONDS)
        return finished

    def _give_up_overdue(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        if self._timeout is None:
            return []
        now, each = time.perf_counter(), self._timeout
        late = [future for future, (calls, begun) in self._running.items() if now - begun > each * len(calls)]
        return [told for future in late if not future.done() for told in self._give_up(future, each)]

    def _give_up(self, future: Any, timeout: float) -> list[tuple[ScoreCall, ScoreOutcome]]:
        unbegun = _cancel(future) and isinstance(self._executor, POOLS)
        word, what = ("lost", "not begun") if unbegun else ("timed_out", "no answer")
        outcome = ScoreOutcome(word, reason=f"{what} within {timeout:g} s", seconds=timeout)
        return self._assign_outcome(self._running.pop(future)[0], outcome)

    def _renew(self, error: Exception) -> None:
        """Another executor in the place of a broken one."""
        if self._make is None:
            raise LsoError(
                f"the executor takes no more calls: {error}",
                "Resume the search with another; give a function that makes executors, and it is called again where "
                "one breaks.",
            ) from None
        self._close_executor()
        self._executor = self._make_executor(self._make)

    def withdraw(self) -> list[ScoreCall]:
        """Cancel what has not begun; executors that would cancel what is under way, too, are waited for."""
        left, self._waiting = self._waiting, []
        able = isinstance(self._executor, (*POOLS, Workers))
        gone = [future for future in self._running if able and _cancel(future)]
        return left + [call for future in gone for call in self._running.pop(future)[0]]

    def close(self) -> None:
        """Cancel what has not begun, and end the executor where it was made here."""
        for future in self._running:
            _cancel(future)
        self._running.clear()
        if self._make is not None:
            self._close_executor()

    def _close_executor(self) -> None:
        shutdown = getattr(self._executor, "shutdown", None)
        if shutdown is None:
            return
        try:
            shutdown(wait=False, cancel_futures=True)
        except TypeError:  # Dask's does not know cancel_futures
            shutdown(wait=False)


def _not_an_executor(given: Any) -> UsageError:
    return UsageError(
        f"expected an executor or a function that makes one, got {type(given).__name__}",
        "It needs a method submit, as concurrent.futures has it; lso.Workers(4) are four processes.",
    )


def _picklable_copy(item: Any) -> Any:
    """A copy, of a tensor as an array: pickled, a row would take its whole batch along, or memory shared with this
    process.
    """
    item = copy_datum(item)
    if not isinstance(item, Tensor):
        return item
    try:
        return item.cpu().numpy()
    except TypeError:  # a type that numpy does not have
        return item.cpu()


def _cancel(future: Any) -> bool:
    try:
        return bool(future.cancel())
    except Exception:  # a cluster's command may fail, e.g. because the job has ended meanwhile
        return False


def _exception_of(future: Any) -> BaseException | None:
    try:
        error: BaseException | None = future.exception()
    except (Exception, CancelledError) as raised:
        return raised
    return error


def _executor_failure(error: BaseException) -> ScoreOutcome:
    """What an error amounts to that is not the score's own."""
    if isinstance(error, TimeoutError):
        return ScoreOutcome("timed_out", reason=str(error))
    if isinstance(error, WorkerDied | BrokenExecutor | CancelledError) or type(error).__name__ in LOST_ERROR_NAMES:
        return ScoreOutcome("lost", reason=(str(error) or "the executor broke")[:MAX_REASON_CHARS])
    return failed_outcome(error)
