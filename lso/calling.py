"""How calls of a score are carried out: here, one after the other, or by an executor."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lso.objective import LatentObjective
from lso.outcome import Outcome, called, failed, judged
from lso.scores import checked
from lso.vae.errors import LsoError, UsageError
from lso.workers import WorkerDied

LOOK = 0.5  # seconds between looks at what the watch says


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
        objective: holds the score; with targets it is scored itself, by codes.
    """

    def __init__(self, objective: LatentObjective) -> None:
        self._on = objective.on
        self._by_code = objective.targets is not None
        self._score: Callable[..., Any] = objective if self._by_code else objective.score
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
        # One bad datum must not take the others with it: where they fail together, each is tried alone.
        outcomes = self._together(items) or [called(self._score, self._on, item) for item in items]
        return list(zip(calls, outcomes, strict=True))

    def _together(self, items: list[Any]) -> list[Outcome]:
        if len(items) < 2:
            return []
        begun = time.perf_counter()
        try:
            values = checked(self._score(torch.stack(items)), len(items))
        except Exception:  # the user's code may raise anything
            return []
        found, each = [judged(value) for value in torch.split(values, 1)], (time.perf_counter() - begun) / len(items)
        return [replace(outcome, seconds=each) for outcome in found]

    def close(self) -> None:
        """Nothing is under way."""


class Away(Caller):
    """Has an executor call the score, one datum a call.

    Args:
        score: picklable where the executor's processes are others.
        on: what it takes.
        executor: with ``submit``, as in `concurrent.futures`; or a function without arguments that makes one, which is
            called again where the last one broke.
        timeout: seconds after which an executor's call counts as timed out, from when it was handed over; None is no
            limit. Workers of our own are given theirs when they are made, and kill the call.
    """

    def __init__(self, score: Callable[..., Any], on: str, executor: Any, timeout: float | None = None) -> None:
        self._score, self._on, self._timeout = score, on, timeout
        self._make: Callable[[], Any] | None = None if hasattr(executor, "submit") else executor
        self._executor = executor if self._make is None else self._make()
        if not hasattr(self._executor, "submit"):
            raise UsageError(
                f"expected an executor or a function that makes one, got {type(self._executor).__name__}",
                "It needs a method submit, as concurrent.futures.ProcessPoolExecutor has it.",
            )
        self._running: dict[Any, tuple[Call, float]] = {}
        self._ready: list[tuple[Call, Outcome]] = []

    def submit(self, call: Call) -> None:
        """Hand a call to the executor.

        Args:
            call: to be carried out.
        """
        try:
            future = self._executor.submit(called, self._score, self._on, call.item)
        except BrokenExecutor as error:
            self._ready.append((call, _lost(error)))
            self._renew()
        else:
            self._running[future] = (call, time.perf_counter())

    def done(self) -> list[tuple[Call, Outcome]]:
        """Wait a little for the executor.

        Returns:
            Calls that are done.
        """
        ready, self._ready = self._ready, []
        if ready:
            return ready
        # Dask's futures and submitit's jobs have `done`, but are none of concurrent.futures': those are waited for.
        finished = [future for future in self._running if future.done()] or self._waited()
        broken = False
        for future in finished:
            call, begun = self._running.pop(future)
            outcome = _outcome(future)
            broken |= outcome.word == "lost" and isinstance(_error(future), BrokenExecutor)
            ready.append((call, replace(outcome, seconds=outcome.seconds or time.perf_counter() - begun)))
        if broken:
            ready += [(call, Outcome("lost", reason="the executor broke")) for call, _ in self._running.values()]
            self._renew()
        return ready + self._overdue()

    def _waited(self) -> list[Any]:
        if all(isinstance(future, Future) for future in self._running):
            return list(wait(self._running, timeout=LOOK, return_when=FIRST_COMPLETED).done)
        time.sleep(LOOK / 10)
        return []

    def _overdue(self) -> list[tuple[Call, Outcome]]:
        if self._timeout is None:
            return []
        now = time.perf_counter()
        late = [future for future, (_, begun) in self._running.items() if now - begun > self._timeout]
        reason = f"no answer within {self._timeout:g} s"
        return [(self._given_up(future), Outcome("timed_out", reason=reason, seconds=self._timeout)) for future in late]

    def _given_up(self, future: Any) -> Call:
        future.cancel()
        return self._running.pop(future)[0]

    def _renew(self) -> None:
        """Another executor in the place of a broken one."""
        self._running.clear()
        if self._make is None:
            raise LsoError(
                "the executor broke, and its pending calls with it",
                "Resume the search; give a function that makes executors, and it is called again where one breaks.",
            )
        self._close_executor()
        self._executor = self._make()

    def close(self) -> None:
        """Cancel what has not begun, and end the executor where it was made here."""
        for future in self._running:
            future.cancel()
        self._running.clear()
        if self._make is not None:
            self._close_executor()

    def _close_executor(self) -> None:
        if hasattr(self._executor, "shutdown"):
            self._executor.shutdown(wait=False, cancel_futures=True)


def _error(future: Any) -> BaseException | None:
    try:
        error: BaseException | None = future.exception()
    except (CancelledError, TimeoutError) as raised:
        return raised
    return error


def _outcome(future: Any) -> Outcome:
    """What became of a future: the score's own errors are in its result, others come from what carried it out."""
    error = _error(future)
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    if isinstance(error, TimeoutError):
        return Outcome("timed_out", reason=str(error))
    if isinstance(error, WorkerDied | BrokenExecutor | CancelledError):
        return _lost(error)
    return failed(error)


def _lost(error: BaseException) -> Outcome:
    return Outcome("lost", reason=str(error) or type(error).__name__)
