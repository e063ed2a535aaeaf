"""Scores training data for retraining, with the executor of the search; each value is written before the next."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lso.black_box.callbacks import awaited_calls, repeated_calls
from lso.black_box.executors import ScoreCall, ScoreExecutor, SerialExecutor
from lso.black_box.journal import JournalLines
from lso.objectives.failures import MAX_FAILURES, Failures, ScoreError
from lso.objectives.score_calls import ScoreOutcome
from lso.objectives.scores import as_objects
from lso.tasks.retraining.labelled_data import LabelledData, load_labelled, save_labelled
from lso.vae.callbacks import Callback, as_callback
from lso.vae.data.dataset import Data, take_batch, to_unit
from lso.vae.utils.reading import line_error
from lso.vae.vocabulary import Vocabulary

WORK = "scoring"  # in events
SCORING_BATCH = 256  # tensors scored together, and data made ready together
MAX_INITIAL_FAILURES = 50  # data from the first on that fail, in whatever way: the score is broken
SENT, STOPPED = "sent", "stopped"  # events of the record; a value's rows have none

StopCheck = Callable[[int, int], str | None]


class LabellingStopped(Exception):
    """The session ends before all data are scored; the text says why."""


def label_data(
    path: Path,
    x: Data,
    caller: Callable[[], ScoreExecutor],
    on: str,
    vocabulary: Vocabulary | None = None,
    *,
    at_once: int = SCORING_BATCH,
    tell: StopCheck | None = None,
    callback: Callback | None = None,
    max_failures: int = MAX_FAILURES,
) -> LabelledData:
    """Data with their values: from a file, or scored and written there.

    Each value is in a record beside the file before the next is asked for, and the file is written once all are known.
    A session that was killed is gone on with by the next one, which scores the rest.

    Args:
        path: of the file.
        x: the data.
        caller: makes what carries out the calls; not called where the file is there.
        on: what the score takes, see `lso.tasks.goals.Goal`.
        vocabulary: of sequences, which are scored as texts.
        at_once: calls under way together.
        tell: called with data scored and to score; gives a reason to stop now, else None.
        callback: told the calls that are made again and those that are waited for.
        max_failures: alike and in a row that are too many while there is no value yet.
    Returns:
        The data, NaN where the score gave no value.
    Raises:
        LabellingStopped: if there was a reason to stop.
        ScoreError: if the score is broken, or failed on all of them, or on the first `MAX_INITIAL_FAILURES`.
        RunError: if the record is damaged.
    """
    if path.is_file():
        return load_labelled(path)
    part = path.with_name(f"{path.name}.part")  # the first values, as earlier versions kept them
    with closing(JournalLines(path.with_suffix(".jsonl"))) as record:
        scoring = _Scoring(record, len(x), tell or (lambda done, total: None), as_callback(callback), max_failures)
        scoring.replay(load_labelled(part).value.tolist() if part.is_file() else [])
        made = caller()
        try:
            scoring.run(made, x, on, vocabulary, at_once)
        finally:
            made.close()
    values = torch.tensor([scoring.values[number] for number in range(len(x))], dtype=torch.float64)
    save_labelled(LabelledData(x=x, value=values), path)
    for left in (record.path, part):
        left.unlink(missing_ok=True)
    return load_labelled(path)


class _Scoring:
    """Data that are being scored.

    Args:
        record: where each value is written.
        total: of the data.
        tell: see `label_data`.
        callback: see `label_data`.
        max_failures: see `label_data`.
    """

    def __init__(
        self, record: JournalLines, total: int, tell: StopCheck, callback: Callback, max_failures: int
    ) -> None:
        self.record, self.total, self.tell, self.callback = record, total, tell, callback
        self.max_failures, self._failures = max_failures, Failures()
        self.values: dict[int, float] = {}
        self._answered = 0  # calls that the score did not fail in
        self._flying: set[int] = set()

    def replay(self, first: Sequence[float]) -> None:
        """Take in what was recorded; where the score had only failed, which may be mended, all is asked anew."""
        self.values, self._answered = dict(enumerate(first)), len(first)
        sent: set[int] = set()
        for line, row in enumerate(self.record.rows(), 1):
            try:
                event = row.get("event")
                if event == SENT:
                    sent |= set(map(int, row["data"]))
                elif event == STOPPED:
                    sent.clear()
                else:
                    number, value = int(row["datum"]), row["value"]
                    told = math.nan if value is None else float(value)
                    self._keep(number, ScoreOutcome(row["outcome"], told, row["reason"], fault=row["fault"]))
                    sent.discard(number)
            except (KeyError, TypeError, ValueError) as error:
                raise line_error(self.record.path, line, f"{type(error).__name__}: {error}") from None
        if not self._answered:
            self.values, self._failures = {}, Failures()
        elif sent:
            self.callback.on_log(repeated_calls(WORK, len(sent)))

    def run(self, caller: ScoreExecutor, x: Data, on: str, vocabulary: Vocabulary | None, at_once: int) -> None:
        """Score what is missing."""
        numbers = self._missing(at_once if isinstance(caller, SerialExecutor) and on == "tensors" else 1)
        waiting = zip(numbers, _scoring_inputs(x, numbers, on, vocabulary), strict=True)
        while True:
            self._send(caller, list(islice(waiting, at_once - len(self._flying))))
            if not self._flying:
                return
            self._collect(caller)
            if len(self.values) < self.total and (reason := self.tell(len(self.values), self.total)):
                self._finish_up(caller)
                done = f"{len(self.values):,} of {self.total:,} training data"
                raise LabellingStopped(f"{reason} after {done} were scored; resume to go on.")

    def _missing(self, together: int) -> list[int]:
        """Numbers to score; of data scored in one batch all, as in another one their last digits may be others."""
        chunks = (range(i, min(i + together, self.total)) for i in range(0, self.total, together))
        return [number for chunk in chunks if any(n not in self.values for n in chunk) for number in chunk]

    def _send(self, caller: ScoreExecutor, calls: Sequence[tuple[int, Any]]) -> None:
        if calls:
            self.record.write({"event": SENT, "data": [number for number, _ in calls if number not in self.values]})
        for number, item in calls:
            self._flying.add(number)
            caller.submit(ScoreCall(number, torch.zeros(0), item))

    def _collect(self, caller: ScoreExecutor) -> None:
        """Write down what is done."""
        for call, outcome in caller.collect():
            self._flying.discard(call.number)
            if call.number not in self.values:  # else scored again in the company of others
                row = {"datum": call.number, "value": outcome.value if math.isfinite(outcome.value) else None}
                told = {"outcome": outcome.status, "reason": outcome.reason, "fault": outcome.fault}
                self.record.write(row | told)
                self._keep(call.number, outcome)
                if error := self._failures.error(self.max_failures, "training object"):
                    raise error
                if not self._answered and len(self.values) >= min(self.total, MAX_INITIAL_FAILURES):
                    raise ScoreError(
                        f"the score failed on the first {len(self.values)} training data: {outcome.reason}",
                        "Retraining needs their values: fix the score, or search without --retrain-every.",
                    )

    def _keep(self, number: int, outcome: ScoreOutcome) -> None:
        self.values[number] = outcome.value
        self._failures.add(number, outcome.status, outcome.reason, outcome.fault)
        self._answered += outcome.status in ("evaluated", "invalid")

    def _finish_up(self, caller: ScoreExecutor) -> None:
        """Wait for the calls that are under way."""
        self._flying -= {call.number for call in caller.withdraw()}
        if self._flying:
            self.callback.on_log(awaited_calls(WORK, len(self._flying)))
        while self._flying:
            self._collect(caller)
        self.record.write({"event": STOPPED})


def _scoring_inputs(x: Data, numbers: Sequence[int], on: str, vocabulary: Vocabulary | None) -> Iterator[Any]:
    """The inputs of the score, datum by datum: texts, tensors or arrays."""
    for first in range(0, len(numbers), SCORING_BATCH):
        rows = take_batch(x, torch.tensor(numbers[first : first + SCORING_BATCH]))
        if vocabulary is not None:
            yield from map(vocabulary.text, rows.tolist())
        else:
            yield from to_unit(rows) if on == "tensors" else as_objects(to_unit(rows))
