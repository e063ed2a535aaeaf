"""Searches to be killed, and what kills them."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lso.black_box.ask_tell import BlackBox
from lso.black_box.journal import JournalLines
from lso.black_box.result import SearchResult
from lso.black_box.workers import Workers
from lso.objectives.latent_objective import LatentObjective
from tests.lso import scorers
from tests.lso.searches import bowl, climber, objects, run, tensors


def uneven(x: Tensor) -> Tensor:
    """Last digits depend on the size of the batch, as those of a network do."""
    return bowl(x) + 1e-9 * len(x)


WORLDS: dict[str, tuple[Callable[[], LatentObjective], dict[str, Any]]] = {
    "tensors": (lambda: tensors(uneven), {"budget": 24, "batch": 4}),
    "objects": (lambda: objects(scorers.half, digits=0), {"budget": 10, "batch": 4, "max_calls": 60}),
    "workers": (
        lambda: objects(scorers.half, digits=1),
        {"budget": 16, "batch": 4, "executor": lambda: Workers(2, 60)},
    ),
    "asynchronous": (lambda: objects(scorers.half, digits=1), {"budget": 16, "batch": 4, "asynchronous": True}),
}


class Killed(BaseException):
    """Stands for SIGKILL where a test has no process to spare."""


def search(folder: Path | None, world: str, optimizer: str, **more: Any) -> SearchResult:
    make, options = WORLDS[world]
    objective = make()
    box: str | BlackBox = climber(objective) if optimizer == "climb" else optimizer
    resume = folder is not None and folder.exists()
    return run(objective, optimizer=box, out=folder, resume=resume, **options | more)


def tear_at(count: int, fraction: float, die: Callable[[], None]) -> Callable[..., None]:
    """A `Lines.write` that writes ``count`` lines, then a part of one, then dies."""
    whole, seen = JournalLines.write, [0]

    def write(self: JournalLines, row: Any) -> None:
        if seen[0] == count:
            line = json.dumps(row).encode() + b"\n"
            self._file.write(line[: round(fraction * len(line))])
            self._file.flush()
            die()
        seen[0] += 1
        whole(self, row)

    return write


def main(folder: str, world: str, optimizer: str, count: int, part: float) -> None:
    """Goes on with a search, and kills this process in the middle of a line.

    Args:
        folder: of the search.
        world: see `WORLDS`.
        optimizer: name, or ``"climb"``.
        count: lines written before; 0 is none at all.
        part: of the line that is written.
    """
    torch.set_num_threads(1)
    write = tear_at(count, part, lambda: os.kill(os.getpid(), signal.SIGKILL))

    def unhurried(self: JournalLines, row: Any) -> None:
        time.sleep(0.005)  # a quick machine would be at the end before it could be killed from outside
        write(self, row)

    JournalLines.write = unhurried  # type: ignore[method-assign]
    search(Path(folder), world, optimizer)
