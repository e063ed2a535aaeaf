"""`lso.Workers`: processes for expensive scores, which are killed at a timeout and replaced when they die."""

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

START_SECONDS = 120.0  # longest time for a process to start, and to import what a call needs
POLL_SECONDS = 0.1  # longest wait for an answer, after which a thread checks whether the workers were shut down
BEGUN_MESSAGE = b"begun"  # cannot be confused with an answer: no pickle begins like this


class WorkerDied(Exception):
    """The process that executed a call died, by itself or killed from outside."""


class WorkerNotStarted(LsoError):
    """A worker process could not be started, so that no call can be executed."""


class Worker:
    """A spawned process and the pipe to it; the event ``closed`` is set when the workers are shut down at once."""

    def __init__(self, closed: threading.Event) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, worker_end = context.Pipe()
        self._process = context.Process(target=_run_worker, args=(worker_end,), daemon=True)
        self._closed = closed
        _block_interrupts()
        try:
            self._process.start()
            worker_end.close()
            self._receive(START_SECONDS)
        except (OSError, WorkerDied, TimeoutError) as error:
            self.kill()
            if closed.is_set():
                raise WorkerDied("the workers were shut down") from None
            raise WorkerNotStarted(
                f"a worker process did not start: {error}",
                'Its own messages are above. A script must make its workers under: if __name__ == "__main__":',
            ) from None

    def call(self, call: bytes, timeout: float | None) -> tuple[bool, Any]:
        """Execute a pickled function with its arguments: whether it returned, and what it returned or raised.

        The timeout in seconds begins with the function, after the imports that it needs; TimeoutError says that it
        expired, WorkerDied that the process died.
        """
        try:
            self._pipe.send_bytes(call)
        except OSError:
            raise WorkerDied(self._describe_end()) from None
        answer = self._receive(START_SECONDS)
        if answer == BEGUN_MESSAGE:
            answer = self._receive(timeout)
        try:
            result: tuple[bool, Any] = pickle.loads(answer)
        except Exception as error:  # e.g. an exception whose constructor takes more than its message
            return False, LsoError(f"the answer of the worker process cannot be unpickled: {error}")
        return result

    def _receive(self, limit: float | None) -> bytes:
        deadline = float("inf") if limit is None else time.monotonic() + limit
        while (left := deadline - time.monotonic()) > 0:
            if self._closed.is_set():
                raise WorkerDied("the workers were shut down")
            wait([self._pipe, self._process.sentinel], min(left, POLL_SECONDS))
            # Checked by `is_alive`, since processes that it forked may keep pipe and sentinel open. A process that is
            # gone may have left its answer in the pipe, so the pipe is read first.
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
        """Kill the process and what it started."""
        if self._process.pid is not None:
            with suppress(OSError):  # it leads a process group of its own, unless it died before it made one
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _block_interrupts() -> None:
    """Block Ctrl-C in this thread: a process inherits that from its start, and the parent alone handles Ctrl-C."""
    resource_tracker.ensure_running()  # started later, it would unblock the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _run_worker(pipe: "Connection[Any, Any]") -> None:
    """Answer calls until the parent process is gone; the main function of a worker process."""
    os.setpgrp()  # a group of its own, so that what a call starts can be killed with the process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent is gone
        pipe.send_bytes(BEGUN_MESSAGE)
        while True:
            pipe.send_bytes(_answer_call(pipe.recv_bytes(), pipe))


def _answer_call(call: bytes, pipe: "Connection[Any, Any]") -> bytes:
    try:
        fn, args, kwargs = pickle.loads(call)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return pickle.dumps((False, LsoError(f"the worker process cannot unpickle the call: {reason}")))
    pipe.send_bytes(BEGUN_MESSAGE)
    try:
        answer = (True, fn(*args, **kwargs))
    except Exception as error:
        answer = (False, error)
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps((False, LsoError(f"the worker process cannot pickle the answer: {error}")))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(os.getpgrp(), signal.SIGKILL)


class Workers(Executor):
    """A `concurrent.futures.Executor` of spawned processes.

    Unlike a `ProcessPoolExecutor`, it kills a process whose call takes longer than ``timeout``, and a process that dies
    fails no other call than its own; both are replaced. Programs that a call started (such as a docking program) are
    killed with its process. The processes end with their parent, however that ends.

    Functions and arguments must be picklable and importable in the new processes: a script must make its workers under
    ``if __name__ == "__main__":``. A call cannot use `multiprocessing` itself.

    Args:
        count: number of processes.
        timeout: seconds that a call may take, counted from when its process begins with it, after imports; for a
            `lso.objectives.score_calls.Chunk` of several data that many times as long. None is no limit.
    Raises:
        UsageError: if a number is out of range, or if the script makes workers when a worker imports it.
    """

    def __init__(self, count: int, timeout: float | None = None) -> None:
        require(count >= 1, "1 worker or more", count, "One for each core is a common choice.")
        require(timeout is None or timeout > 0, "a timeout > 0 seconds", timeout, "None is no limit.")
        if getattr(current_process(), "_inheriting", False):  # a spawned process imports the script that started it
            raise UsageError(
                "this script makes workers when it is imported, and every worker imports it",
                'Move its code under: if __name__ == "__main__":',
            )
        self._timeout = timeout
        self._jobs: queue.SimpleQueue[tuple[Future[Any], bytes, float | None] | None] = queue.SimpleQueue()
        self._lock, self._shut, self._closed = threading.Lock(), False, threading.Event()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Schedule a call of a function.

        Args:
            fn: a picklable function.
            *args: its arguments, picklable.
            **kwargs: its keyword arguments, picklable.
        Returns:
            The future of the call. Its result raises `TimeoutError` where the call took too long, `WorkerDied` where
            its process died, `LsoError` where call or answer could not be pickled, or what the function raised.
        Raises:
            LsoError: after `shutdown`.
        """
        future: Future[Any] = Future()
        limit = self._timeout and self._timeout * (len(fn) if isinstance(fn, Chunk) else 1)
        try:
            # The pickler of multiprocessing would move tensors into memory shared with this process.
            call = pickle.dumps((fn, args, kwargs))
        except Exception as error:
            future.set_exception(
                LsoError(
                    f"the call cannot be pickled for a worker process: {error}",
                    "Define functions and classes at the top level of a module.",
                )
            )
            return future
        with self._lock:
            if self._shut:
                raise LsoError("these workers were shut down", "Make new ones: lso.Workers(count).")
            self._jobs.put((future, call, limit))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes.

        Args:
            wait: finish the calls first; otherwise running calls are killed and the others cancelled.
            cancel_futures: cancel the calls that have not begun.
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
        """Pass calls to a process, and replace it where it died; one thread runs this for each process."""
        worker: Worker | None = None
        while (job := self._jobs.get()) is not None:
            future, call, limit = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                worker = worker or Worker(self._closed)
                returned, result = worker.call(call, limit)
            except Exception as error:
                if worker is not None:
                    worker.kill()
                worker, returned, result = None, False, error
            if returned:
                future.set_result(result)
            else:
                future.set_exception(result)
        self._jobs.put(None)  # tells the next thread to end
        if worker is not None:
            worker.kill()
