"""Scoring training data: one call a datum, by whatever carries out the calls of a search, and kept on disk."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lso.calling import Call, Caller
from lso.failures import MAX_FAILURES, Failures
from lso.outcome import Outcome
from lso.scores import as_objects
from lso.tasks.labelled import Labelled, load, save
from lso.vae.data import Data, take, to_unit
from lso.vae.errors import UsageError
from lso.vae.vocabulary import Vocabulary

AT_ONCE = 256  # calls handed over together where no executor has them queue
KEEP_SECONDS = 30.0  # between two writes of what is scored so far
GIVEN_UP = 50  # data from the first on that fail, in whatever way: the score is broken

Tell = Callable[[int, int], str | None]


class Cut(Exception):
    """The session ends before all data are scored; its text says why."""


def labelled(
    path: Path,
    x: Data,
    caller: Callable[[], Caller],
    on: str,
    vocabulary: Vocabulary | None = None,
    *,
    at_once: int = AT_ONCE,
    tell: Tell | None = None,
    max_failures: int = MAX_FAILURES,
) -> Labelled:
    """Data with their values: from a file, or scored and written there.

    What was scored when a session was cut is kept, and the next one scores the rest.

    Args:
        path: of the file.
        x: the data.
        caller: makes what carries out the calls; not called where the file is there.
        on: what the score takes, see `lso.tasks.goal.Goal`.
        vocabulary: of sequences, which are scored as texts.
        at_once: calls under way together.
        tell: called with data scored and to score; gives a reason to stop now, else None.
        max_failures: alike and in a row that are too many while there is no value yet.
    Returns:
        The data, NaN where the score gave no value.
    Raises:
        Cut: if there was a reason to stop.
        ScoreError: if the score is broken.
        UsageError: if the score failed on all of them, or on the first `GIVEN_UP`.
    """
    if path.is_file():
        return load(path)
    part = path.with_name(f"{path.name}.part")
    values = load(part).value.tolist() if part.is_file() else []
    failed, failures, kept, made = 0, Failures(), time.monotonic(), caller()
    try:
        for outcome in _outcomes(made, _items(x, len(values), on, vocabulary), at_once):
            values.append(outcome.value)
            failed += outcome.word not in ("evaluated", "invalid")
            failures.add(len(values), outcome.word, outcome.reason, outcome.fault)
            if error := failures.error(max_failures, "training object"):
                raise error
            if failed == len(values) >= min(len(x), GIVEN_UP):
                raise UsageError(
                    f"the score failed on the first {failed} training data: {outcome.reason}",
                    "Retraining needs their values: mend the score, or search without --retrain-every.",
                )
            reason = None if tell is None or len(values) == len(x) else tell(len(values), len(x))
            if reason or time.monotonic() - kept > KEEP_SECONDS:
                save(_first(x, values), part)
                kept = time.monotonic()
            if reason:
                raise Cut(f"{reason} after {len(values):,} of {len(x):,} training data were scored; resume to go on.")
    finally:
        made.close()
    save(_first(x, values), path)
    part.unlink(missing_ok=True)
    return load(path)


def _first(x: Data, values: list[float]) -> Labelled:
    return Labelled(x=x[slice(0, len(values))], value=torch.tensor(values, dtype=torch.float64))


def _items(x: Data, start: int, on: str, vocabulary: Vocabulary | None) -> Iterator[Any]:
    """What the score is given, datum by datum."""
    for first in range(start, len(x), AT_ONCE):
        rows = take(x, slice(first, min(first + AT_ONCE, len(x))))
        if vocabulary is not None:
            yield from map(vocabulary.text, rows.tolist())
        else:
            yield from to_unit(rows) if on == "tensors" else as_objects(to_unit(rows))


def _outcomes(caller: Caller, items: Iterator[Any], at_once: int) -> Iterator[Outcome]:
    """What became of each datum, in the order of the data."""
    calls = (Call(number, torch.zeros(0), item) for number, item in enumerate(items))
    done: dict[int, Outcome] = {}
    flying = first = 0
    while True:
        for call in islice(calls, at_once - flying):
            caller.submit(call)
            flying += 1
        if not flying:
            return
        for call, outcome in caller.done():
            done[call.number] = outcome
            flying -= 1
        while first in done:
            yield done.pop(first)
            first += 1
