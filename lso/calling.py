"""How calls of a score are carried out: here, one after the other, or by an executor."""

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

import torch
from torch import Tensor

from lso.objective import LatentObjective
from lso.outcome import REASON, Outcome, called, failed, judged
from lso.vae.errors import LsoError, UsageError
from lso.worker import NotStarted, WorkerDied

LOOK = 0.5  # seconds between looks at what the watch says
SOON = 0.01  # seconds until the first look at jobs that cannot be waited for; each further one takes twice as long

# Errors by which Dask, loky and submitit say that a process is gone, by name: none of them need be installed.
LOST = ("KilledWorker", "FutureCancelledError", "CommClosedError", "UncompletedJobError")

# Executors whose futures can be cancelled only before they begin; those of others do not say whether they did.
POOLS = (ThreadPoolExecutor, ProcessPoolExecutor)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A datum to be scored.

    Args:
        number: of the call.
        z: ``(d,)`` code that it was decoded from.
        item: the datum.
    """

    number: int
    z: Tensor
    item: Any


class Caller(ABC):
    """Takes calls and gives them back with what became of them, in any order."""

    @abstractmethod
    def submit(self, call: Call) -> None:
        """Take a call.

        Args:
            call: to be carried out.
        """

    @abstractmethod
    def done(self) -> list[tuple[Call, Outcome]]:
        """Wait a little for calls.

        Returns:
            Those that are done; perhaps none yet.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of what is still under way."""


class Here(Caller):
    """Scores in this process: objects one after the other, tensors all that wait at once.

    Args:
        objective: holds the score; with targets it is scored itself, by codes and without the part of the prior.
    """

    def __init__(self, objective: LatentObjective) -> None:
        self._on = objective.on
        self._by_code = objective.targets is not None
        self._score: Callable[..., Any] = objective.score
        if self._by_code:
            self._score = plain = copy.copy(objective)
            plain.prior_weight = 0.0
        self._waiting: list[Call] = []

    def submit(self, call: Call) -> None:
        """Take a call.

        Args:
            call: to be carried out.
        """
        self._waiting.append(call)

    @torch.no_grad()
    def done(self) -> list[tuple[Call, Outcome]]:
        """Score what waits.

        Returns:
            The next object, or all tensors.
        """
        take = len(self._waiting) if self._on == "tensors" else 1
        calls, self._waiting = self._waiting[:take], self._waiting[take:]
        items = [call.z if self._by_code else call.item for call in calls]
        # One bad datum must not take the others with it: where the score raises for all, each is tried alone.
        outcomes = self._together(items) or [called(self._score, self._on, item) for item in items]
        return list(zip(calls, outcomes, strict=True))

    def _together(self, items: list[Any]) -> list[Outcome]:
        if len(items) < 2:
            return []
        begun = time.perf_counter()
        try:
            found = judged(self._score(torch.stack(items)), len(items))
        except (Exception, SystemExit):  # the user's code may raise anything
            return []
        each = (time.perf_counter() - begun) / len(items)
        return [replace(outcome, seconds=each) for outcome in found]

    def close(self) -> None:
        """Nothing is under way."""


class Away(Caller):
    """Has an executor call the score, one datum a call.

    Args:
        score: picklable where the executor's processes are others.
        on: what it takes.
        executor: with ``submit``, as in `concurrent.futures`; or a function without arguments that makes one, which is
            called again where the last one broke. What ``submit`` returns has ``done``, ``exception``, ``result`` and
            ``cancel``.
        timeout: seconds after which an executor's call counts as timed out, from when it was handed over, or as lost
            where a pool of Python's own never began it; None is no limit. Workers of our own are given theirs when they
            are made, and kill the call.
    Raises:
        UsageError: if it is neither.
    """

    def __init__(self, score: Callable[..., Any], on: str, executor: Any, timeout: float | None = None) -> None:
        self._score, self._on, self._timeout = score, on, timeout
        given = hasattr(executor, "submit") and not isinstance(executor, type)
        if not given and not callable(executor):
            raise _no_executor(executor)
        self._make: Callable[[], Any] | None = None if given else executor
        self._executor = executor if self._make is None else self._made(self._make)
        self._running: dict[Any, tuple[Call, float]] = {}
        self._ready: list[tuple[Call, Outcome]] = []
        self._stopped: LsoError | None = None  # why nothing more can be carried out
        self._pause = SOON

    def _made(self, make: Callable[[], Any]) -> Any:
        executor = make()
        if not hasattr(executor, "submit"):
            raise _no_executor(executor)
        return executor

    def submit(self, call: Call) -> None:
        """Hand a call to the executor.

        Args:
            call: to be carried out.
        Raises:
            LsoError: if the executor is broken or shut down, and cannot be made anew.
        """
        try:
            future = self._handed(_portable(call.item))
        except LsoError:
            raise
        except Exception as error:  # what cannot be pickled
            self._ready.append((call, failed(error)))
        else:
            self._running[future] = (call, time.perf_counter())

    def _handed(self, item: Any) -> Any:
        try:
            return self._executor.submit(called, self._score, self._on, item)
        except RuntimeError as error:  # broken, or shut down
            self._renew(error)
        try:
            return self._executor.submit(called, self._score, self._on, item)
        except RuntimeError as error:
            raise LsoError(f"a new executor broke at once: {error}", "Look at the function that makes it.") from None

    def done(self) -> list[tuple[Call, Outcome]]:
        """Wait a little for the executor.

        Returns:
            Calls that are done.
        Raises:
            LsoError: if nothing can be carried out any more.
        """
        if self._stopped is not None:
            raise self._stopped
        ready, self._ready = self._ready, []
        if ready:
            return ready
        finished = [future for future in self._running if future.done()] or self._waited()
        errors = [_error(future) for future in finished]
        if any(isinstance(error, BrokenExecutor) for error in errors):
            finished = list(self._running)  # all are lost but those that were done before
            errors = [_error(future) if future.done() else BrokenExecutor() for future in finished]
        self._stopped = next((error for error in errors if isinstance(error, NotStarted)), None)
        for future, error in zip(finished, errors, strict=True):
            call, begun = self._running.pop(future)
            if not isinstance(error, NotStarted):
                outcome = _outcome(future, error)
                ready.append((call, replace(outcome, seconds=outcome.seconds or time.perf_counter() - begun)))
        return ready + self._overdue()

    def _waited(self) -> list[Any]:
        if all(isinstance(future, Future) for future in self._running):
            return list(wait(self._running, timeout=LOOK, return_when=FIRST_COMPLETED).done)
        time.sleep(self._pause)  # submitit's jobs have `done`, but are none of concurrent.futures'
        finished = [future for future in self._running if future.done()]
        self._pause = SOON if finished else min(2 * self._pause, LOOK)
        return finished

    def _overdue(self) -> list[tuple[Call, Outcome]]:
        if self._timeout is None:
            return []
        now = time.perf_counter()
        late = [future for future, (_, begun) in self._running.items() if now - begun > self._timeout]
        return [self._given_up(future, self._timeout) for future in late if not future.done()]

    def _given_up(self, future: Any, timeout: float) -> tuple[Call, Outcome]:
        unbegun = _cancelled(future) and isinstance(self._executor, POOLS)
        word, what = ("lost", "not begun") if unbegun else ("timed_out", "no answer")
        return self._running.pop(future)[0], Outcome(word, reason=f"{what} within {timeout:g} s", seconds=timeout)

    def _renew(self, error: Exception) -> None:
        """Another executor in the place of a broken one."""
        if self._make is None:
            raise LsoError(
                f"the executor takes no more calls: {error}",
                "Resume the search with another; give a function that makes executors, and it is called again where "
                "one breaks.",
            ) from None
        self._close_executor()
        self._executor = self._made(self._make)

    def close(self) -> None:
        """Cancel what has not begun, and end the executor where it was made here."""
        for future in self._running:
            _cancelled(future)
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


def _no_executor(given: Any) -> UsageError:
    return UsageError(
        f"expected an executor or a function that makes one, got {type(given).__name__}",
        "It needs a method submit, as concurrent.futures has it; lso.Workers(4) are four processes.",
    )


def _portable(item: Any) -> Any:
    """A tensor as an array: pickled, a row would take its whole batch along, or memory shared with this process."""
    if not isinstance(item, Tensor):
        return item
    item = item.detach().cpu()
    try:
        return item.numpy()
    except TypeError:  # a type that numpy does not have
        return item.clone()


def _cancelled(future: Any) -> bool:
    try:
        return bool(future.cancel())
    except Exception:  # a cluster's command may fail, e.g. because the job has ended meanwhile
        return False


def _error(future: Any) -> BaseException | None:
    try:
        error: BaseException | None = future.exception()
    except (Exception, CancelledError) as raised:
        return raised
    return error


def _outcome(future: Any, error: BaseException | None) -> Outcome:
    """What became of a future: the score's own errors are in its result, others come from what carried it out."""
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    if isinstance(error, TimeoutError):
        return Outcome("timed_out", reason=str(error))
    if isinstance(error, WorkerDied | BrokenExecutor | CancelledError) or type(error).__name__ in LOST:
        return Outcome("lost", reason=(str(error) or "the executor broke")[:REASON])
    return failed(error)
