"""Processes of our own for expensive scores, which a timeout kills."""

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from multiprocessing import current_process, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from lso.objectives.score_calls import Chunk
from lso.vae.errors import LsoError, UsageError
from lso.vae.utils.validation import require

START_SECONDS = 120.0  # seconds that a process may take to start, and to import what a call needs
POLL_SECONDS = 0.1  # seconds between looks at whether the workers were shut down
BEGUN_MESSAGE = b"begun"  # no pickle begins like this


class WorkerDied(Exception):
    """The process that worked on a call died: of its own, or killed from outside."""


class WorkerNotStarted(LsoError):
    """A process could not be started, so that no call can be carried out."""


class Worker:
    """A spawned process and the pipe to it.

    Args:
        closed: set where the workers are shut down at once.
    Raises:
        NotStarted: if it does not start.
    """

    def __init__(self, closed: threading.Event) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run_worker, args=(theirs,), daemon=True)
        self._closed = closed
        _block_interrupts()
        try:
            self._process.start()
            theirs.close()
            self._receive(START_SECONDS)
        except (OSError, WorkerDied, TimeoutError) as error:
            self.kill()
            if closed.is_set():
                raise WorkerDied("the workers were shut down") from None
            raise WorkerNotStarted(
                f"a worker process did not start: {error}",
                'What it said is above. A script that uses workers does so under: if __name__ == "__main__":',
            ) from None

    def call(self, call: bytes, timeout: float | None) -> tuple[bool, Any]:
        """Have a function called.

        Args:
            call: the function and its arguments, pickled.
            timeout: seconds, from when it is called; what has to be imported for it comes before.
        Returns:
            Whether it returned, and what it returned or raised.
        Raises:
            WorkerDied: if the process died.
            TimeoutError: if it took too long.
        """
        try:
            self._pipe.send_bytes(call)
        except OSError:
            raise WorkerDied(self._describe_end()) from None
        answer = self._receive(START_SECONDS)
        if answer == BEGUN_MESSAGE:
            answer = self._receive(timeout)
        try:
            found: tuple[bool, Any] = pickle.loads(answer)
        except Exception as error:  # e.g. an exception that needs more than its message
            return False, LsoError(f"the answer of the process cannot be read: {error}")
        return found

    def _receive(self, limit: float | None) -> bytes:
        until = float("inf") if limit is None else time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            if self._closed.is_set():
                raise WorkerDied("the workers were shut down")
            wait([self._pipe, self._process.sentinel], min(left, POLL_SECONDS))
            # What it forked may keep pipe and sentinel open, so it is asked for; gone, it may have left its answer.
            alive = self._process.is_alive()
            try:
                if self._pipe.poll():
                    return self._pipe.recv_bytes()
            except (EOFError, OSError):
                raise WorkerDied(self._describe_end()) from None
            if not alive:
                raise WorkerDied(self._describe_end())
        raise TimeoutError(f"no answer within {limit:g} s")

    def _describe_end(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"its process was killed by signal {-code} ({signal.strsignal(-code)})"
        return f"its process ended with exit code {code}"

    def kill(self) -> None:
        """End it and what it started, whatever they do."""
        if self._process.pid is not None:
            with suppress(OSError):  # it leads a group of its own, unless it did not come so far
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _block_interrupts() -> None:
    """Ctrl-C is for the parent to understand: a process inherits what this thread blocks, from the first."""
    resource_tracker.ensure_running()  # would unblock it when it is started later
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _run_worker(pipe: "Connection[Any, Any]") -> None:
    """What a process runs until its parent is gone."""
    os.setpgrp()  # so that what it starts can be killed with it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent is gone
        pipe.send_bytes(BEGUN_MESSAGE)
        while True:
            pipe.send_bytes(_answer_call(pipe.recv_bytes(), pipe))


def _answer_call(call: bytes, pipe: "Connection[Any, Any]") -> bytes:
    try:
        fn, args, kwargs = pickle.loads(call)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return pickle.dumps((False, LsoError(f"the call cannot be read where it is to be carried out: {what}")))
    pipe.send_bytes(BEGUN_MESSAGE)
    try:
        answer = (True, fn(*args, **kwargs))
    except Exception as error:
        answer = (False, error)
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps((False, LsoError(f"the answer cannot be sent: {error}")))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(os.getpgrp(), signal.SIGKILL)


class Workers(Executor):
    """N spawned processes behind `concurrent.futures.Executor`.

    Unlike a `ProcessPoolExecutor` it kills a process whose call takes longer than ``timeout``, and a process that dies
    takes no call but its own with it; both are replaced. What a call started of its own (a docking program) is killed
    with it. They end with their parent, however that ends.

    Functions and arguments must be picklable, and importable where the processes start: a script that makes workers
    does so under ``if __name__ == "__main__":``. A call cannot use `multiprocessing` itself.

    Args:
        count: of processes.
        timeout: seconds that a call may take, from when its process begins with it, imports done; a
            `lso.objectives.score_calls.Chunk` of several data so many times that. None is no limit.
    Raises:
        UsageError: if a number is out of range, or a process that is being started makes workers.
    """

    def __init__(self, count: int, timeout: float | None = None) -> None:
        require(count >= 1, "1 worker or more", count, "One for each core is usual.")
        require(timeout is None or timeout > 0, "a timeout > 0 seconds", timeout, "None is no limit.")
        if getattr(current_process(), "_inheriting", False):  # a spawned process imports the script that started it
            raise UsageError(
                "this script makes workers when it is imported, which every worker does",
                'Put what it does under: if __name__ == "__main__":',
            )
        self._timeout = timeout
        self._jobs: queue.SimpleQueue[tuple[Future[Any], bytes, float | None] | None] = queue.SimpleQueue()
        self._lock, self._shut, self._closed = threading.Lock(), False, threading.Event()
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
            Its future; it raises `TimeoutError` where it took too long, `WorkerDied` where its process died, `LsoError`
            where something could not be sent, or what the function raised.
        Raises:
            LsoError: after `shutdown`.
        """
        future: Future[Any] = Future()
        limit = self._timeout and self._timeout * (len(fn) if isinstance(fn, Chunk) else 1)
        try:
            # Plain pickle: the one of multiprocessing would move tensors into memory shared with this process.
            call = pickle.dumps((fn, args, kwargs))
        except Exception as error:
            future.set_exception(LsoError(f"the call cannot be sent to a process: {error}", "Use module-level names."))
            return future
        with self._lock:
            if self._shut:
                raise LsoError("these workers were shut down", "Make new ones: lso.Workers(count).")
            self._jobs.put((future, call, limit))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; none is left afterwards.

        Args:
            wait: for the calls; else those under way are killed, the others cancelled.
            cancel_futures: those that have not begun.
        """
        with self._lock:
            self._shut = True
        if not wait:
            self._closed.set()
        if cancel_futures or not wait:
            self._cancel_queued()
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _cancel_queued(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job[0].cancel()

    def _serve(self) -> None:
        """One thread for each process: hands it calls and replaces it where it is gone."""
        worker: Worker | None = None
        while (job := self._jobs.get()) is not None:
            future, call, limit = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                worker = worker or Worker(self._closed)
                good, found = worker.call(call, limit)
            except Exception as error:
                if worker is not None:
                    worker.kill()
                worker, good, found = None, False, error
            if good:
                future.set_result(found)
            else:
                future.set_exception(found)
        self._jobs.put(None)  # for the next thread
        if worker is not None:
            worker.kill()
