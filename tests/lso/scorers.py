"""Scores on strings for worker processes, which import this module and nothing heavier.

The strings are codes in words, as `tests.lso.searches.spoken` makes them: ``"0.13 -1.20"``.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def first(words: Sequence[str]) -> list[float]:
    """The first coordinate."""
    return [float(word.split()[0]) for word in words]


def half(words: Sequence[str]) -> list[float | None]:
    """The first coordinate where it is positive, else invalid."""
    return [value if value > 0 else None for value in first(words)]


def raising(words: Sequence[str]) -> list[float]:
    raise KeyError(f"no assay for {len(words)} words")


def dying(words: Sequence[str]) -> list[float]:
    """Takes its process along where the first coordinate is negative."""
    if first(words)[0] < 0:
        os._exit(7)
    return first(words)


def hanging(words: Sequence[str]) -> list[float]:
    """Never answers where the first coordinate is negative."""
    if first(words)[0] < 0:
        time.sleep(600)
    return first(words)


def slow(words: Sequence[str]) -> list[float]:
    """Takes 0.7 seconds for each."""
    time.sleep(0.7 * len(words))
    return first(words)


def dying_any(words: Sequence[str]) -> list[float]:
    """`dying`, of any of them."""
    return [dying([word])[0] for word in words]


def hanging_any(words: Sequence[str]) -> list[float]:
    """`hanging`, at any of them."""
    return [hanging([word])[0] for word in words]


def forking(words: Sequence[str]) -> list[float]:
    """Splits in two processes that both come out of it, the other one first."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return first(words)


def leaving(words: Sequence[str]) -> list[float]:
    sys.exit("score left")


def plus(a: float, b: float) -> float:
    return a + b


def process_id() -> int:
    return os.getpid()


def unpicklable() -> Any:
    return lambda: None


class Awkward(Exception):
    """Pickled, but not read back: it needs two arguments."""

    def __init__(self, a: str, b: str) -> None:
        super().__init__(a)


def awkward() -> None:
    raise Awkward("a", "b")


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def with_child(path: str) -> None:
    """Starts a program, writes both process numbers down, waits for it."""
    child = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(f"{os.getpid()} {child.pid}\n")
    child.wait()


def die_with_a_child_on_the_pipe() -> None:
    """Leaves a process behind that holds the pipe of this one open."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(3)
