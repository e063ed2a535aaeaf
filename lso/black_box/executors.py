"""Execution of the score's calls: in this process, or by an executor as in `concurrent.futures`."""

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

POLL_SECONDS = 0.5  # longest wait for results, after which the search asks its callback whether to stop
FIRST_POLL_SECONDS = 0.01  # until the first poll of jobs that cannot be waited for; each further wait is twice as long

# Errors by which Dask, loky and submitit report that a process is gone. By name, as none of them need be installed.
LOST_ERROR_NAMES = ("KilledWorker", "FutureCancelledError", "CommClosedError", "UncompletedJobError")

# Executors whose futures can be cancelled only before they begin; other executors may cancel running calls as well.
POOLS = (ThreadPoolExecutor, ProcessPoolExecutor)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCall:
    """A call of the score for one datum."""

    number: int
    z: Tensor  # (d,) code that the datum was decoded from
    item: Any  # the datum
    alone: bool = False  # whether the score is given this datum alone


class ScoreExecutor(ABC):
    """Executes calls of the score and returns them with their outcomes, in any order."""

    @abstractmethod
    def submit(self, call: ScoreCall) -> None:
        """Accept a call for execution."""

    @abstractmethod
    def collect(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Wait briefly, and return the calls that have finished since, with their outcomes."""

    @abstractmethod
    def withdraw(self) -> list[ScoreCall]:
        """Cancel and return the calls that have not begun; `collect` still returns the others."""

    @abstractmethod
    def close(self) -> None:
        """Give up the calls that are still running, and release resources."""


class SerialExecutor(ScoreExecutor):
    """Calls the score in this process, with at most ``batch`` data at once.

    Where the score raises on several data, each is scored alone, so that one bad datum does not fail the others. An
    objective with targets is evaluated itself, on codes and without the prior's term.
    """

    def __init__(self, objective: LatentObjective, batch: int = 1) -> None:
        self._on, self._batch = objective.on, batch
        self._by_code = objective.targets is not None
        self._score: Callable[..., Any] = objective.score
        if self._by_code:
            self._score = without_prior = copy.copy(objective)
            without_prior.prior_weight = 0.0
        self._waiting: list[ScoreCall] = []

    def submit(self, call: ScoreCall) -> None:
        """Accept a call; it is scored by `collect`."""
        self._waiting.append(call)

    def collect(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Score the next waiting calls."""
        calls = self._next_batch()
        items = [copy_datum(call.z if self._by_code else call.item) for call in calls]
        outcomes = Chunk(self._score, self._on, items)()
        if not outcomes:
            self._waiting[:0] = [replace(call, alone=True) for call in calls]
            return []
        return list(zip(calls, outcomes, strict=True))

    def _next_batch(self) -> list[ScoreCall]:
        alone = next((i for i, call in enumerate(self._waiting) if call.alone), len(self._waiting))
        size = min(alone, self._batch) or 1  # up to the next call to be scored alone; that call by itself
        calls, self._waiting = self._waiting[:size], self._waiting[size:]
        return calls

    def withdraw(self) -> list[ScoreCall]:
        """Return the waiting calls; nothing is running between two calls of `collect`."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def close(self) -> None:
        """Do nothing: no call is running."""


class FuturesExecutor(ScoreExecutor):
    """Calls the score through an executor.

    Args:
        score: the score; picklable where the executor uses other processes.
        on: ``"objects"`` or ``"tensors"``, which the score takes.
        executor: an object with ``submit``, as in `concurrent.futures`; or a function without arguments that makes one,
            which is called again when an executor breaks. The futures have ``done``, ``exception``, ``result`` and
            ``cancel``.
        timeout: seconds for each datum, counted from submission, after which a call counts as timed out, or as lost
            where one of Python's own pools never began it; None is no limit. `Workers` get their timeout when they are
            made, and kill the call.
        chunk: data in each call. Where a call of several data is lost, late or raises, each is scored alone.
    """

    def __init__(
        self, score: Callable[..., Any], on: str, executor: Any, timeout: float | None = None, chunk: int = 1
    ) -> None:
        self._score, self._on, self._timeout, self._chunk = score, on, timeout, chunk
        is_executor = hasattr(executor, "submit") and not isinstance(executor, type)
        if not is_executor and not callable(executor):
            raise _not_an_executor(executor)
        self._make: Callable[[], Any] | None = None if is_executor else executor
        self._executor = executor if self._make is None else self._make_executor(self._make)
        self._waiting: list[ScoreCall] = []
        self._running: dict[Any, tuple[list[ScoreCall], float]] = {}
        self._ready: list[tuple[ScoreCall, ScoreOutcome]] = []
        self._stopped: LsoError | None = None  # the error for which no further call can be executed
        self._pause = FIRST_POLL_SECONDS

    def _make_executor(self, make: Callable[[], Any]) -> Any:
        executor = make()
        if not hasattr(executor, "submit"):
            raise _not_an_executor(executor)
        return executor

    def submit(self, call: ScoreCall) -> None:
        """Accept a call; submit the waiting calls once they fill a chunk."""
        self._waiting.append(call)
        if call.alone or len(self._waiting) >= self._chunk:
            self._submit_waiting()

    def _submit_waiting(self) -> None:
        calls, self._waiting = self._waiting, []
        shared = [call for call in calls if not call.alone]
        for part in filter(None, [*([call] for call in calls if call.alone), shared]):
            self._submit_calls(part)

    def _submit_calls(self, calls: list[ScoreCall]) -> None:
        try:
            future = self._submit_chunk(Chunk(self._score, self._on, [_picklable_copy(call.item) for call in calls]))
        except LsoError:
            raise
        except Exception as error:  # e.g. a datum that cannot be pickled
            self._ready += self._assign_outcome(calls, failed_outcome(error))
        else:
            self._running[future] = (calls, time.perf_counter())

    def _submit_chunk(self, chunk: Chunk) -> Any:
        try:
            return self._executor.submit(chunk)
        except RuntimeError as error:  # the executor is broken or was shut down
            self._renew(error)
        try:
            return self._executor.submit(chunk)
        except RuntimeError as error:
            raise LsoError(
                f"a new executor broke at once: {error}", "Check the function that makes the executors."
            ) from None

    def collect(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Wait briefly for the executor."""
        if self._stopped is not None:
            raise self._stopped
        self._submit_waiting()
        ready, self._ready = self._ready, []
        if ready:
            return ready
        finished = [future for future in self._running if future.done()] or self._wait_briefly()
        errors = [_exception_of(future) for future in finished]
        if any(isinstance(error, BrokenExecutor) for error in errors):
            finished = list(self._running)  # all are lost except those that were done before
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
        """The outcomes of a finished future: the score's errors are in its result, other errors are the executor's."""
        if error is not None:
            return self._assign_outcome(calls, replace(_executor_failure(error), seconds=seconds))
        outcomes: list[ScoreOutcome] = future.result()
        return list(zip(calls, outcomes, strict=True)) if outcomes else self._assign_outcome(calls, None)

    def _assign_outcome(
        self, calls: list[ScoreCall], outcome: ScoreOutcome | None
    ) -> list[tuple[ScoreCall, ScoreOutcome]]:
        """Pair a call of one datum with its outcome; several data are put back, each to be scored alone."""
        if len(calls) == 1 and outcome is not None:
            return [(calls[0], outcome)]
        self._waiting += [replace(call, alone=True) for call in calls]
        return []

    def _wait_briefly(self) -> list[Any]:
        if all(isinstance(future, Future) for future in self._running):
            return list(wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done)
        time.sleep(self._pause)  # submitit's jobs have `done`, but are not futures that `wait` takes
        finished = [future for future in self._running if future.done()]
        self._pause = FIRST_POLL_SECONDS if finished else min(2 * self._pause, POLL_SECONDS)
        return finished

    def _give_up_overdue(self) -> list[tuple[ScoreCall, ScoreOutcome]]:
        if self._timeout is None:
            return []
        now, timeout = time.perf_counter(), self._timeout
        late = [future for future, (calls, begun) in self._running.items() if now - begun > timeout * len(calls)]
        return [pair for future in late if not future.done() for pair in self._give_up(future, timeout)]

    def _give_up(self, future: Any, timeout: float) -> list[tuple[ScoreCall, ScoreOutcome]]:
        never_began = _cancel(future) and isinstance(self._executor, POOLS)
        status, event = ("lost", "not begun") if never_began else ("timed_out", "no answer")
        outcome = ScoreOutcome(status, reason=f"{event} within {timeout:g} s", seconds=timeout)
        return self._assign_outcome(self._running.pop(future)[0], outcome)

    def _renew(self, error: Exception) -> None:
        """Replace a broken executor."""
        if self._make is None:
            raise LsoError(
                f"the executor takes no more calls: {error}",
                "Resume the search with another executor. A function that makes executors is called again when one "
                "breaks.",
            ) from None
        self._close_executor()
        self._executor = self._make_executor(self._make)

    def withdraw(self) -> list[ScoreCall]:
        """Cancel and return the calls that have not begun; none of an executor that might cancel running calls, too."""
        waiting, self._waiting = self._waiting, []
        safe = isinstance(self._executor, (*POOLS, Workers))
        cancelled = [future for future in self._running if safe and _cancel(future)]
        return waiting + [call for future in cancelled for call in self._running.pop(future)[0]]

    def close(self) -> None:
        """Cancel the calls that have not begun, and shut the executor down where it was made here."""
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
        except TypeError:  # the executor of Dask does not know cancel_futures
            shutdown(wait=False)


def _not_an_executor(value: Any) -> UsageError:
    return UsageError(
        f"expected an executor or a function that makes one, got {type(value).__name__}",
        "An executor has a method submit, as in concurrent.futures; lso.Workers(4) are four processes.",
    )


def _picklable_copy(item: Any) -> Any:
    """A copy of a datum for other processes; of a tensor, an array."""
    # Pickled, a row of a tensor would take its whole batch along, or memory shared with this process.
    item = copy_datum(item)
    if not isinstance(item, Tensor):
        return item
    try:
        return item.cpu().numpy()
    except TypeError:  # a dtype that numpy does not have
        return item.cpu()


def _cancel(future: Any) -> bool:
    try:
        return bool(future.cancel())
    except Exception:  # a cluster's cancel command may fail, e.g. because the job has just ended
        return False


def _exception_of(future: Any) -> BaseException | None:
    try:
        error: BaseException | None = future.exception()
    except (Exception, CancelledError) as raised:
        return raised
    return error


def _executor_failure(error: BaseException) -> ScoreOutcome:
    """The outcome of a call for which the executor, not the score, raised an error."""
    if isinstance(error, TimeoutError):
        return ScoreOutcome("timed_out", reason=str(error))
    if isinstance(error, WorkerDied | BrokenExecutor | CancelledError) or type(error).__name__ in LOST_ERROR_NAMES:
        return ScoreOutcome("lost", reason=(str(error) or "the executor broke")[:MAX_REASON_CHARS])
    return failed_outcome(error)
