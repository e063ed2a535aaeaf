"""Executors that have ``submit`` and little else, as clusters' have."""

from collections.abc import Callable
from typing import Any


class Job:
    """As submitit's: started by the look at it, its errors raised or returned."""

    def __init__(self, call: Callable[[], Any], looks: int) -> None:
        self.call, self.looks, self.cancelled = call, looks, False

    def done(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def exception(self) -> BaseException | None:
        return None

    def result(self) -> Any:
        return self.call()

    def cancel(self, check: bool = True) -> None:
        self.cancelled = True
        raise RuntimeError("scancel: no such job")


class UncompletedJobError(RuntimeError):
    pass


class Cluster:
    """Has ``submit`` and nothing else; each third job vanishes."""

    def __init__(self, lose: int = 0, looks: int = 2) -> None:
        self.jobs: list[Job] = []
        self.lose, self.looks = lose, looks

    def submit(self, fn: Callable[..., Any], *args: Any) -> Job:
        job = Job(lambda: fn(*args), self.looks)
        if self.lose and len(self.jobs) % self.lose == 1:

            def gone() -> BaseException | None:
                raise UncompletedJobError("Job 17 (task 0) has no output: node failure")

            job.exception = gone  # type: ignore[method-assign]
        self.jobs.append(job)
        return job
