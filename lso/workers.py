"""Processes of our own for expensive scores, which a timeout kills."""

import pickle
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing import current_process
from typing import Any

from lso.outcome import Chunk
from lso.vae.errors import LsoError, UsageError
from lso.vae.values import require
from lso.worker import NotStarted as NotStarted
from lso.worker import Worker
from lso.worker import WorkerDied as WorkerDied


class Workers(Executor):
    """N spawned processes behind `concurrent.futures.Executor`.

    Unlike a `ProcessPoolExecutor` it kills a process whose call takes longer than ``timeout``, and a process that dies
    takes no call but its own with it; both are replaced. What a call started of its own (a docking program) is killed
    with it. They end with their parent, however that ends.

    Functions and arguments must be picklable, and importable where the processes start: a script that makes workers
    does so under ``if __name__ == "__main__":``. A call cannot use `multiprocessing` itself.

    Args:
        count: of processes.
        timeout: seconds that a call may take, from when its process begins with it, imports done; a `lso.outcome.Chunk`
            of several data so many times that. None is no limit.
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
            self._drop()
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()

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
