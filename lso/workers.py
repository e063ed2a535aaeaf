"""Processes of our own for expensive scores, which a timeout kills."""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing.connection import Connection, wait
from typing import Any

from lso.vae.errors import LsoError
from lso.vae.values import require

STARTING = 120.0  # seconds that a process may take to start
LIVING = 1.0  # seconds between looks at whether a busy process lives


class WorkerDied(Exception):
    """The process that worked on a call died: of its own, or killed from outside."""


class Workers(Executor):
    """N spawned processes behind `concurrent.futures.Executor`.

    Unlike a `ProcessPoolExecutor` it kills a process whose call takes longer than ``timeout``, and a process that dies
    takes no call but its own with it; both are replaced. They end with their parent, however that ends.

    Functions and arguments must be picklable, and importable where the processes start.

    Args:
        count: of processes.
        timeout: seconds that a call may take, from when its process begins with it; None is no limit.
    Raises:
        UsageError: if a number is out of range.
    """

    def __init__(self, count: int, timeout: float | None = None) -> None:
        require(count >= 1, "1 worker or more", count, "One for each core is usual.")
        require(timeout is None or timeout > 0, "a timeout > 0 seconds", timeout, "None is no limit.")
        self._timeout = timeout
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Have a function called.

        Args:
            fn: picklable.
            *args: for it.
            **kwargs: for it.
        Returns:
            Its future; it raises `TimeoutError` where it took too long, `WorkerDied` where its process died, or what
            the function raised.
        Raises:
            LsoError: after `shutdown`.
        """
        if self._closed.is_set():
            raise LsoError("these workers were shut down", "Make new ones: lso.workers.Workers(count).")
        future: Future[Any] = Future()
        self._jobs.put((future, (fn, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes.

        Args:
            wait: for the calls under way; else they are killed.
            cancel_futures: those that have not begun.
        """
        if not wait:
            self._closed.set()
        if cancel_futures or not wait:
            self._drop()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._closed.set()

    def _drop(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job[0].cancel()

    def _serve(self) -> None:
        """One thread for each process: hands it calls and replaces it where it is gone."""
        process: _Process | None = None
        while (job := self._jobs.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                process = process or _Process()
                good, found = process.call(call, self._timeout, self._closed)
            except (TimeoutError, WorkerDied) as error:
                if process is not None:
                    process.kill()
                process, good, found = None, False, error
            except Exception as error:  # what cannot be pickled
                good, found = False, error
            if good:
                future.set_result(found)
            else:
                future.set_exception(found)
        if process is not None:
            process.kill()


class _Process:
    """A spawned process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._answer(STARTING, None, "start")

    def call(self, call: Any, timeout: float | None, closed: threading.Event) -> tuple[bool, Any]:
        """(whether it returned, what it returned or raised)."""
        try:
            self._pipe.send(call)
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerDied(self._end()) from None
        answer: tuple[bool, Any] = self._answer(timeout, closed, "answer")
        return answer

    def _answer(self, timeout: float | None, closed: threading.Event | None, what: str) -> Any:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if closed is not None and closed.is_set():
                raise WorkerDied("the workers were shut down")
            if wait([self._pipe, self._process.sentinel], min(left, LIVING)):
                try:
                    return self._pipe.recv()
                except (EOFError, OSError):
                    raise WorkerDied(self._end()) from None
        raise TimeoutError(f"no {what} within {timeout:g} s")

    def _end(self) -> str:
        self._process.join(LIVING)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _work(pipe: "Connection[Any, Any]") -> None:
    """What a process runs until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to understand
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send(True)
    while True:
        try:
            fn, args, kwargs = pipe.recv()
        except EOFError:
            return
        except Exception as error:  # a function that cannot be imported here
            answer: tuple[bool, Any] = (False, error)
        else:
            try:
                answer = (True, fn(*args, **kwargs))
            except Exception as error:
                answer = (False, error)
        try:
            pipe.send(answer)
        except Exception as error:  # an answer that cannot be pickled
            pipe.send((False, LsoError(f"the answer cannot be sent: {error}")))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
