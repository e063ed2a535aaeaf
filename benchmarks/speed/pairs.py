"""Ratios of two ways to do the same work, timed in interleaved pairs, so that a busy machine slows both alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of pairs, in the order in which they ran; the plain ones scaled to the whole work.

    Args:
        plain: of the straightforward way.
        ours: of ours.
    """

    plain: tuple[float, ...]
    ours: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `dataclasses.asdict` gives plain numbers, strings and tuples.

    Args:
        work: what is done.
        plain: the straightforward way.
        ours: our way.
        ratios: plain / ours of each pair.
        median: of the ratios.
        spread: least and greatest ratio.
        plain_seconds: median.
        ours_seconds: median.
        scaled: which slice of the plain way was timed and how it was scaled; empty where all of it was.
        equal: how the results were checked equal, and the largest difference.
        target: ratio aimed at, or None.
        note: anything else.
        at_most: whether the target is a most, not a least.
    """

    work: str
    plain: str
    ours: str
    ratios: tuple[float, ...]
    median: float
    spread: tuple[float, float]
    plain_seconds: float
    ours_seconds: float
    scaled: str
    equal: str
    target: float | None
    note: str
    at_most: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A line of the table without times.

    Args:
        work: what would be done.
        why: it is not done on this machine.
    """

    work: str
    why: str


def pairs(
    plain: Callable[[], object],
    ours: Callable[[], object],
    count: int = 5,
    sync: Callable[[], object] = lambda: None,
    scale: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Run both once to warm up, then in pairs, of which every other one begins with ours.

    Args:
        plain: the straightforward way, or a slice of it.
        ours: our way.
        count: pairs.
        sync: waits for the device (`sync_of`).
        scale: the whole work over the slice that `plain` does.
        clock: tells seconds.
    Returns:
        Their times.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(-1, count):
        for is_plain in (True, False) if turn % 2 else (False, True):
            seconds = timed(plain if is_plain else ours, sync, clock)
            if turn >= 0:
                found[is_plain].append(seconds)
    return Times(plain=tuple(scale * s for s in found[True]), ours=tuple(found[False]))


def timed(
    call: Callable[[], object],
    sync: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of a call.

    Args:
        call: what to time.
        sync: see `pairs`.
        clock: see `pairs`.
    Returns:
        Seconds.
    """
    sync()
    begun = clock()
    call()
    sync()
    return clock() - begun


def sync_of(device: torch.device) -> Callable[[], object]:
    """What waits for a device.

    Args:
        device: where the work is done.
    Returns:
        A function; on the CPU it does nothing.
    """
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def row(
    work: str,
    plain: str,
    ours: str,
    times: Times,
    *,
    equal: str,
    scaled: str = "",
    target: float | None = None,
    note: str = "",
    at_most: bool = False,
) -> Row:
    """A line of the table from its times; see `Row` for the arguments.

    Args:
        work: what is done.
        plain: the straightforward way.
        ours: our way.
        times: from `pairs`.
        equal: how the results were checked equal.
        scaled: what was scaled.
        target: ratio aimed at.
        note: anything else.
        at_most: whether the target is a most.
    Returns:
        The line.
    """
    ratios = tuple(a / b for a, b in zip(times.plain, times.ours, strict=True))
    return Row(
        work=work,
        plain=plain,
        ours=ours,
        ratios=ratios,
        median=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        plain_seconds=statistics.median(times.plain),
        ours_seconds=statistics.median(times.ours),
        scaled=scaled,
        equal=equal,
        target=target,
        note=note,
        at_most=at_most,
    )
