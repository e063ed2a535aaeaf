"""The state of a running black-box search: asking, decoding, scoring, recording and telling."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.black_box.ask_tell import BlackBox, parse_values
from lso.black_box.budget import Ledger, SearchLimits
from lso.black_box.callbacks import SearchCallback as SearchCallback
from lso.black_box.callbacks import awaited_calls, repeated_calls
from lso.black_box.executors import ScoreCall, ScoreExecutor, SerialExecutor
from lso.black_box.journal import ASK, KNOWN, SCORED, Journal
from lso.black_box.pending import PendingBatch, PendingEvaluation
from lso.black_box.replay import at_line, read_counting_rows
from lso.black_box.result import SearchResult
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.score_calls import ScoreOutcome
from lso.results.evaluation import content_hash, decode_codes
from lso.results.export import TAKEN_BACK_EVENT, from_json
from lso.results.result import Evaluation
from lso.vae.callbacks import Callback, Event

WORK = "black-box search"  # in events
BEST = ("best", "best_typical")  # values of events: the best of all objects and of typical ones
EARLIER_CALL = -1  # in place of the number of the call by which an earlier search scored an object
Known = tuple[Float[Tensor, "k latent"], Float[Tensor, " k"] | Sequence[float | None]]


class Search:
    """The state of a search between calls.

    Args:
        objective: a score of decoded codes.
        black_box: the optimizer.
        executor: executes the calls of the score.
        journal: records asks and evaluations on disk; None records nothing.
        limits: where the search ends.
        batch: codes asked for together; asynchronously, calls running at once.
        asynchronous: whether each call is told as soon as it has finished. Otherwise an ask is told once all of its
            calls have finished, in their order.
        callback: progress and stop requests.
    """

    def __init__(
        self,
        objective: LatentObjective,
        black_box: BlackBox,
        executor: ScoreExecutor,
        journal: Journal | None,
        limits: SearchLimits,
        batch: int,
        asynchronous: bool,
        callback: Callback,
    ) -> None:
        self.objective, self.black_box, self.executor, self.journal = objective, black_box, executor, journal
        self.limits, self.batch, self.asynchronous, self.callback = limits, batch, asynchronous, callback
        self.ledger = Ledger()
        self.ask_seconds: list[float] = []
        self._known: tuple[Tensor, Tensor] = torch.zeros(0, objective.dim), torch.zeros(0)
        self._calls = 0  # proposed so far
        self._incomplete: dict[int, PendingBatch] = {}
        self._running: dict[int, PendingEvaluation] = {}  # by number of the call
        self._duplicates: dict[str, list[PendingEvaluation]] = {}  # key of a running call -> duplicates of it
        self._stopping = False  # whether no further call may begin
        self._best: dict[str, float] = {}  # the best value of all objects and of typical ones
        self._begun, self._earlier_seconds = time.perf_counter(), 0.0  # start now; seconds of the processes before

    # --- beginning ----------------------------------------------------------------------------------------------------

    def begin(self, known: Known | None, scored: Sequence[Evaluation] = (), killed: bool = False) -> None:
        """Replay the journal, or for a new search record known codes and the evaluations of earlier searches.

        ``killed`` says that the process that wrote the journal was killed.
        """
        rows = [] if self.journal is None else read_counting_rows(self.journal, self.limits)
        for line, row in rows:
            assert self.journal is not None
            with at_line(self.journal, line):
                self._replay(row)
        self.ledger.retry()
        events = {row.get("event") for _, row in rows}
        if known is not None and not events:
            self._tell_known(known[0].detach().double().cpu(), parse_values(known[1], len(known[0])))
            if self.journal is not None:
                self.journal.write_known(*self._known)
        if scored and not events & {ASK, SCORED}:
            self._add_scored(scored)
            if self.journal is not None:
                self.journal.write_scored(scored)
        self.callback.on_start(self.event())
        for batch in list(self._incomplete.values()):
            self._submit_batch(batch)
        if killed and self._running:
            self.callback.on_log(repeated_calls(WORK, len(self._running)))

    def event(self, text: str = "", **values: Any) -> Event:
        """What the callback is told: the unique objects scored and to score, the best values, the calls by category."""
        numbers = {**self._best, **self.ledger.counters(), **values}
        done, total = self.ledger.unique, self.limits.budget
        return Event(work=WORK, done=done, total=total, values=numbers, text=text, source=self)

    def _replay(self, row: Mapping[str, Any]) -> None:
        event = row.get("event")
        if event == TAKEN_BACK_EVENT:
            return
        if event == KNOWN:
            self._tell_known(_parse_codes(row["z"], self.objective.dim), parse_values(row["value"], len(row["z"])))
        elif event == SCORED:
            self._add_scored([from_json(record) for record in row["records"]])
        elif event == ASK:
            if row["ask"] != self.black_box.asks:
                raise ValueError(f"ask {row['ask']}, expected ask {self.black_box.asks}")
            self._register(
                self.black_box.register_ask(_parse_codes(row["z"], self.objective.dim)), row["ask"], row["seconds"]
            )
        else:
            record = from_json(row)
            if len(record.z) != self.objective.dim:
                raise ValueError(f"its code has {len(record.z)} numbers, expected {self.objective.dim}")
            batch = self._incomplete[int(row["ask"])]
            call = int(row["call"])
            if not batch.first <= call < batch.first + len(batch.z) or call in batch.records:
                raise ValueError(f"call {call} does not belong to ask {batch.number}, or is recorded twice")
            self._earlier_seconds = max(self._earlier_seconds, record.elapsed)
            self._add_record(record, batch, self._key(record.decoded_hash, batch.code(call)))

    def _tell_known(self, z: Tensor, value: Sequence[float]) -> None:
        self.black_box.tell(z, value)
        self._known = (z, torch.tensor(value, dtype=torch.float64))

    def _add_scored(self, records: Sequence[Evaluation]) -> None:
        for record in records:
            key = self._key(record.decoded_hash, torch.tensor(record.z, dtype=torch.float64))
            self.ledger.known.setdefault(key, replace(record, call=EARLIER_CALL))

    def _register(self, z: Tensor, number: int, seconds: float) -> PendingBatch:
        batch = PendingBatch(number, self._calls, z)
        self._incomplete[number] = batch
        self._calls += len(z)
        self.ask_seconds.append(seconds)
        return batch

    # --- asking -------------------------------------------------------------------------------------------------------

    def run(self) -> tuple[str, str]:
        """Ask and tell until a limit or a stop request ends the search; return its status and sentence."""
        while True:
            if score_error := self.ledger.score_error(self.limits):
                raise score_error
            ended = self.ledger.end_status(self.limits)
            if ended and not self._incomplete:
                return ended
            if reason := self.callback.should_stop():
                self._finish_running()
                done = f"{self.ledger.unique} of {self.limits.budget} unique valid objects"
                return "stopped", f"Stopped early ({reason}) after {done}; resume to go on."
            slots = 0 if ended else self._free_slots()
            if slots:
                self._ask(slots)
            elif self._running:
                self._collect()

    def _finish_running(self) -> None:
        """Wait for the calls that have begun, and begin no others; these are made when the search is resumed."""
        self._stopping = True
        for call in self.executor.withdraw():
            if (withdrawn := self._running.pop(call.number, None)) is not None:
                del self._duplicates[withdrawn.key]
        if self._running:
            self.callback.on_log(awaited_calls(WORK, len(self._running)))
        while self._running:
            self._collect()

    def _free_slots(self) -> int:
        """The number of codes to ask for now."""
        running = sum(batch.missing for batch in self._incomplete.values())
        if running and not self.asynchronous:
            return 0
        left = min(self.limits.budget - self.ledger.unique, self.limits.max_calls - len(self.ledger.records))
        return max(0, min(self.batch, left) - running)

    def _ask(self, n: int) -> None:
        if self.journal is not None:
            self.journal.sync()
        number, begun = self.black_box.asks, time.perf_counter()
        z = self.black_box.ask(n)
        seconds = time.perf_counter() - begun
        if self.journal is not None:
            self.journal.write_ask(number, z, seconds)
        self._submit_batch(self._register(z, number, seconds))

    def _submit_batch(self, batch: PendingBatch) -> None:
        """Decode the codes of an ask, and submit those whose evaluations are not recorded yet."""
        # All codes are decoded, even recorded ones: in a batch of another size the decodes could differ slightly.
        calls = [
            PendingEvaluation(batch.first + i, batch, end, self._key(end.decoded_hash, batch.z[i]))
            for i, end in enumerate(decode_codes(self.objective, batch.z))
        ]
        rescore, batch.alone = self._rescores_recorded(calls), self._one_by_one(batch)
        for call in calls:
            if call.number not in batch.records:
                self._submit(call)
            elif rescore and batch.records[call.number].duplicate_of is None:
                self.executor.submit(self._score_call(call))  # `_collect` ignores the result

    def _score_call(self, call: PendingEvaluation) -> ScoreCall:
        return ScoreCall(call.number, call.z, call.end.item, call.batch.alone)

    def _one_by_one(self, batch: PendingBatch) -> bool:
        """Whether the score is given objects one by one, instead of all new objects of an ask together.

        This is so asynchronously, and for the rest of an ask of which some objects are recorded: in one process that
        happens only where the score had raised on all of them together.
        """
        if not isinstance(self.executor, SerialExecutor) or self.objective.on == "tensors":
            return False
        return self.asynchronous or any(record.duplicate_of is None for record in batch.records.values())

    def _rescores_recorded(self, calls: Sequence[PendingEvaluation]) -> bool:
        """Whether recorded data of an ask are scored again, to score the missing ones in the same batch as before."""
        in_batches = (
            isinstance(self.executor, SerialExecutor) and self.objective.on == "tensors" and not self.asynchronous
        )
        return in_batches and any(
            call.number not in call.batch.records and call.key not in self.ledger.known for call in calls
        )

    def _submit(self, call: PendingEvaluation) -> None:
        known = self.ledger.known.get(call.key)
        if known is not None:
            outcome = ScoreOutcome(known.outcome, self._without_prior(known), known.reason)
            self._finish(call, outcome, known.call)
        elif call.key in self._duplicates:
            self._duplicates[call.key].append(call)
        elif not self._stopping:
            self._duplicates[call.key] = []
            self._running[call.number] = call
            self.executor.submit(self._score_call(call))

    def _collect(self) -> None:
        for done, outcome in self.executor.collect():
            if (call := self._running.pop(done.number, None)) is None:
                continue  # recorded already, and scored again only to complete the batch of others
            duplicates = self._duplicates.pop(call.key)
            self._finish(call, outcome)
            for duplicate in duplicates:
                self._submit(duplicate)

    # --- recording ----------------------------------------------------------------------------------------------------

    def _finish(self, call: PendingEvaluation, outcome: ScoreOutcome, duplicate_of: int | None = None) -> None:
        value = self.objective.with_prior(torch.tensor(outcome.value, dtype=torch.float64), call.z)
        record = Evaluation(
            z=call.z.tolist(),
            decoded_hash=call.end.decoded_hash,
            value=float(value),
            valid=outcome.status == "evaluated",
            duplicate_of=duplicate_of,
            norm_percentile=float(self.objective.space.norm_percentile(call.z)),
            reencoding_error=call.end.reencoding_error,
            seconds=outcome.seconds,
            elapsed=self._elapsed(),
            decoded=call.end.text,
            call=call.number,
            ask=call.batch.number,
            outcome=outcome.status,
            reason=outcome.reason,
            fault=outcome.fault,
        )
        if self.journal is not None:
            self.journal.write_evaluation(record)
        self._add_record(record, call.batch, call.key)
        self.callback.on_evaluation(self.event(value=record.value, valid=record.valid))

    def _add_record(self, record: Evaluation, batch: PendingBatch, key: str) -> None:
        self.ledger.add(record, key)
        self._update_best(record)
        batch.records[int(record.call or 0)] = record
        complete = batch.missing == 0
        if self.asynchronous:
            self._tell(batch, [record])
        elif complete:
            self._tell(batch, [batch.records[call] for call in sorted(batch.records)])
        if complete:
            del self._incomplete[batch.number]

    def _update_best(self, record: Evaluation) -> None:
        if not record.valid:
            return
        sign, value = self.objective.sign, record.value
        better = {kind for kind in BEST if kind not in self._best or sign * value < sign * self._best[kind]}
        if BEST[1] in better and not self.objective.space.typical(self.objective.bounds.new_tensor(record.z)):
            better.remove(BEST[1])
        self._best.update(dict.fromkeys(better, value))

    def _tell(self, batch: PendingBatch, records: Sequence[Evaluation]) -> None:
        z = torch.stack([batch.code(int(record.call or 0)) for record in records])
        self.black_box.tell(z, [record.value for record in records], [record.outcome for record in records])

    def _key(self, decoded_hash: str, z: Tensor) -> str:
        """The key that identifies an object: its hash, or the code's where the value also depends on a context."""
        in_context = self.objective.targets is not None and self.objective.context != "none"
        return content_hash(z.numpy()) if in_context else decoded_hash

    def _without_prior(self, record: Evaluation) -> float:
        z = torch.tensor(record.z, dtype=torch.float64)
        zero = torch.zeros((), dtype=torch.float64)
        return record.value - float(self.objective.with_prior(zero, z))

    def _elapsed(self) -> float:
        return self._earlier_seconds + time.perf_counter() - self._begun

    def result(self, status: str, sentence: str, settings: Mapping[str, Any], folder: Path | None) -> SearchResult:
        """The result of the search as it is now."""
        records = sorted(self.ledger.records, key=lambda record: int(record.call or 0))
        return SearchResult(
            status=status,
            sentence=sentence,
            objective=self.objective,
            optimizer=self.black_box.name,
            settings=settings,
            records=tuple(records),
            known=self._known[0],
            known_value=self._known[1],
            ask_seconds=tuple(self.ask_seconds),
            counters={**self.ledger.counters(), "seconds": self._elapsed()},
            weights_hash=self.objective.decoder.hash,
            folder=folder,
        )


def _parse_codes(rows: Sequence[Sequence[float]], dim: int) -> Tensor:
    z = torch.tensor(rows, dtype=torch.float64)
    if z.numel() and (z.ndim != 2 or z.shape[1] != dim or not bool(z.isfinite().all())):
        raise ValueError(f"expected codes of {dim} finite numbers, got {tuple(z.shape)}")
    return z.reshape(-1, dim)
