"""The budget of a black-box search: counts of evaluations, values known by object, and when the search ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lso.objectives.failures import MAX_FAILURES, Failures, ScoreError
from lso.optimizers import recommended_optimizers
from lso.results.result import Evaluation
from lso.vae.utils.validation import pluralize

PATIENCE = 200  # consecutive calls without a new valid object, after which a search ends
CALLS_PER_BUDGET = 10  # the default limit of calls, duplicates and invalid ones included, is this times the budget
# Where codes decode to data already seen, the cause is a search that stands still, not a decoder that ignores its
# latent, if the last codes deviate from their mean by less than this in each dimension (prior draws deviate by 1) and
# at least this many valid objects were found before.
STALLED_DEVIATION, MIN_STALLED_OBJECTS = 0.4, 20
CALL_CATEGORIES = ("unique", "duplicate", "invalid", "failed", "timed_out")

STALL_SENTENCES = {
    "decoder_ignores_latent": (
        "The decoder ignores its latent: of the last {n} codes proposed, {many} decoded to data already seen. "
        "Train a model whose latents are used (lso train --method ne-vae-se), or search with another."
    ),
    "stands_still": (
        "The search stands still: the last {n} codes proposed lie close together, and {many} of them decoded to data "
        "already seen. Search from another --seed, or with an optimizer that starts "
        f"anew ({recommended_optimizers('stands still')})."
    ),
    "invalid": (
        "Of the last {n} codes proposed, {many} decoded to data that the score calls invalid. "
        "Look at what the model makes (lso sample), and check the score."
    ),
    "failed": (
        "Of the last {n} calls of the score, {many} failed, timed out or were lost. The first of them: {reason}. "
        "Fix the score, or raise the timeout, and resume{more}."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """The limits at which a search ends."""

    budget: int  # unique valid decoded objects to be scored
    max_calls: int  # calls in all, duplicates and invalid ones included
    patience: int = PATIENCE  # consecutive calls without a new valid object
    max_failures: int = MAX_FAILURES  # consecutive equal failures of a score that has given no value yet


@dataclass(slots=True, eq=False)
class Ledger:
    """The evaluations of a search, with their counts.

    The counts do not depend on the order in which the calls of a batch finish, so that a search with synchronous
    batches ends at the same call whichever is first.
    """

    records: list[Evaluation] = field(default_factory=list)  # in the order in which the calls finished
    known: dict[str, Evaluation] = field(default_factory=dict)  # key of an object -> its first evaluation
    unique: int = 0  # valid objects so far, which the budget counts
    idle: list[Evaluation] = field(default_factory=list)  # calls proposed since the last new valid object
    failures: Failures = field(default_factory=Failures)  # consecutive failures of the score
    _count: Counter[str] = field(default_factory=Counter)  # calls by category
    _newest: int = -1  # number of the call that gave the last new valid object

    def add(self, record: Evaluation, key: str) -> None:
        """Add a new evaluation; ``key`` identifies its object, whose value is known from now on unless it was lost."""
        call = int(record.call or 0)
        self.records.append(record)
        self._count[call_category(record)] += 1
        if record.outcome != "lost":
            self.known.setdefault(key, record)
        if record.duplicate_of is None:
            self.failures.add(call, record.outcome, record.reason, record.fault)
        if call_category(record) == "unique":
            self.unique += 1
            if call > self._newest:
                self._newest = call
                self.idle = [other for other in self.idle if int(other.call or 0) > call]
        elif call > self._newest:
            self.idle.append(record)

    def counters(self) -> dict[str, int]:
        """The number of calls by category: ``calls = unique + duplicate + invalid + failed + timed_out``.

        Duplicates of any outcome count as duplicates, lost calls as failed.
        """
        return {"calls": len(self.records), **{name: self._count[name] for name in CALL_CATEGORIES}}

    def retry(self) -> None:
        """Forget idle calls that failed: the search is resumed, and the cause of the failures may have been removed."""
        if self.idle and self._stall_kind(self.idle) == "failed":
            self.idle = []

    def score_error(self, limits: SearchLimits) -> ScoreError | None:
        """The error for the caller to raise where the score is broken, so that further calls are useless; else None."""
        return self.failures.error(limits.max_failures)

    def retracted_calls(self, limits: SearchLimits) -> list[int]:
        """The numbers of calls that are made again when the search is resumed; empty unless a broken score ended it.

        The last consecutive failures of a broken score say nothing about their objects. They are repeated, with their
        duplicates, as far as the budget has room for them.
        """
        failed = sorted(self.failures.calls)
        if len(failed) < limits.max_failures or not (
            self.score_error(limits) or (self.end_status(limits) or "")[:1] == ("failed",)
        ):
            return []
        calls = set(failed[: limits.budget - self.unique])
        return sorted(
            int(record.call or 0) for record in self.records if record.call in calls or record.duplicate_of in calls
        )

    def end_status(self, limits: SearchLimits) -> tuple[str, str] | None:
        """Status and sentence of the search where it is over, else None."""
        if self.unique >= limits.budget:
            # More than the budget where a search was resumed with a smaller budget.
            over = f": {self.unique} were scored" if self.unique > limits.budget else ""
            return "finished", f"The budget of {pluralize(limits.budget, 'unique valid object')} is spent{over}."
        if len(self.idle) >= limits.patience:
            return self._stall_status(self.idle[-limits.patience :], spent=len(self.records) >= limits.max_calls)
        if len(self.records) < limits.max_calls:
            return None
        calls = pluralize(limits.max_calls, "call")
        text = f"All {calls} were made, for {self.unique} of {pluralize(limits.budget, 'unique valid object')}."
        fruitless = [record for record in self.records if call_category(record) != "unique"]
        if 2 * len(fruitless) <= len(self.records):
            return "max_calls", text
        kind, sentence = self._stall_status(self.records[-limits.patience :], self._stall_kind(fruitless), spent=True)
        return kind, f"{text} {sentence}"

    def _stall_kind(self, fruitless: Sequence[Evaluation]) -> str:
        return Counter(map(_stall_kind, fruitless)).most_common(1)[0][0]

    def _stall_status(
        self, last: Sequence[Evaluation], kind: str | None = None, *, spent: bool = False
    ) -> tuple[str, str]:
        kind = kind or self._stall_kind(last)
        name = "stands_still" if kind == "decoder_ignores_latent" and self._stands_still(last) else kind
        stalled = [record for record in last if call_category(record) != "unique" and _stall_kind(record) == kind]
        reason = next((record.reason for record in stalled if record.reason), "no reason was given")
        more = " with a larger max_calls" if spent else ""  # with the same one, the resumed search would end at once
        return name, STALL_SENTENCES[name].format(n=len(last), many=len(stalled), reason=reason.rstrip("."), more=more)

    def _stands_still(self, last: Sequence[Evaluation]) -> bool:
        z = torch.tensor([record.z for record in last], dtype=torch.float64)
        return self.unique >= MIN_STALLED_OBJECTS and float((z - z.mean(0)).square().mean().sqrt()) < STALLED_DEVIATION


def call_category(record: Evaluation) -> str:
    """The category of `CALL_CATEGORIES` that a call is counted in."""
    if record.duplicate_of is not None:
        return "duplicate"
    return {"evaluated": "unique", "lost": "failed"}.get(record.outcome, record.outcome)


def _stall_kind(record: Evaluation) -> str:
    category = call_category(record)
    return {"duplicate": "decoder_ignores_latent", "invalid": "invalid"}.get(category, "failed")
