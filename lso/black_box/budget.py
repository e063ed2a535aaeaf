"""The accounts of a black-box search: what was evaluated, what is known already, and when it ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lso.objectives.failures import MAX_FAILURES, Failures, ScoreError
from lso.optimizers import advised
from lso.results.result import Evaluation
from lso.vae.utils.validation import pluralize

PATIENCE = 200  # calls in a row without a new valid object
CALLS_PER_BUDGET = 10  # times the budget, the calls at most
# A search stands still, and its decoder is not to blame, where its last codes deviate from their mean by less than this
# in each dimension (the prior's draws by 1), and it has seen at least so many valid objects.
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
        f"anew ({advised('stands still')})."
    ),
    "invalid": (
        "Of the last {n} codes proposed, {many} decoded to data that the score calls invalid. "
        "Look at what the model makes (lso sample), and at the score."
    ),
    "failed": (
        "Of the last {n} calls of the score, {many} failed, timed out or were lost. The first of them: {reason}. "
        "Mend the score, or raise the timeout, and resume{more}."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """Where a search ends.

    Args:
        budget: unique valid decoded objects to be scored.
        max_calls: calls in all, with duplicates and invalid ones.
        patience: calls in a row without a new valid object.
        max_failures: of a score that has given no value yet, in a row and alike.
    """

    budget: int
    max_calls: int
    patience: int = PATIENCE
    max_failures: int = MAX_FAILURES


@dataclass(slots=True, eq=False)
class Ledger:
    """Evaluations in the order in which they were finished.

    Its accounts do not depend on that order, so that a search with synchronous batches ends where it would have ended,
    whichever call of a batch is finished first.

    Args:
        records: them.
        known: what objects are worth, by key: the first evaluation of each.
        unique: valid objects so far, which the budget counts.
        idle: calls proposed since the last new valid object.
        failures: of the score, in a row.
    """

    records: list[Evaluation] = field(default_factory=list)
    known: dict[str, Evaluation] = field(default_factory=dict)
    unique: int = 0
    idle: list[Evaluation] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)
    _count: Counter[str] = field(default_factory=Counter)
    _newest: int = -1  # call that gave the last new valid object

    def add(self, record: Evaluation, key: str) -> None:
        """Take an evaluation down.

        Args:
            record: a new one.
            key: of its object; a lost one is not known by it.
        """
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
        """Calls, and what became of them.

        Returns:
            ``calls = unique + duplicate + invalid + failed + timed_out``; duplicates of whatever kind are counted as
            such, lost calls as failed.
        """
        return {"calls": len(self.records), **{name: self._count[name] for name in CALL_CATEGORIES}}

    def retry(self) -> None:
        """Give calls that failed another chance: the search is resumed, and what made them fail may be mended."""
        if self.idle and self._stall_kind(self.idle) == "failed":
            self.idle = []

    def score_error(self, limits: SearchLimits) -> ScoreError | None:
        """Whether the score is broken, so that all further calls would be in vain.

        Args:
            limits: of the search.
        Returns:
            The error, to be raised by the caller; else None.
        """
        return self.failures.error(limits.max_failures)

    def retracted_calls(self, limits: SearchLimits) -> list[int]:
        """Calls that are to be made again where the search is gone on with.

        Where a broken score has ended the search, its last failures in a row say nothing of their objects: so many of
        them as the budget has room for, and their duplicates.
        """
        row = sorted(self.failures.calls)
        if len(row) < limits.max_failures or not (
            self.score_error(limits) or (self.end_status(limits) or "")[:1] == ("failed",)
        ):
            return []
        calls = set(row[: limits.budget - self.unique])
        return sorted(
            int(record.call or 0) for record in self.records if record.call in calls or record.duplicate_of in calls
        )

    def end_status(self, limits: SearchLimits) -> tuple[str, str] | None:
        """Whether the search is over."""
        if self.unique >= limits.budget:
            over = f": {self.unique} were scored" if self.unique > limits.budget else ""  # gone on with a smaller one
            return "finished", f"The budget of {pluralize(limits.budget, 'unique valid object')} is spent{over}."
        if len(self.idle) >= limits.patience:
            return self._stall_status(self.idle[-limits.patience :], spent=len(self.records) >= limits.max_calls)
        if len(self.records) < limits.max_calls:
            return None
        made = pluralize(limits.max_calls, "call")
        text = f"All {made} were made, for {self.unique} of {pluralize(limits.budget, 'unique valid object')}."
        vain = [record for record in self.records if call_category(record) != "unique"]
        if 2 * len(vain) <= len(self.records):
            return "max_calls", text
        kind, sentence = self._stall_status(self.records[-limits.patience :], self._stall_kind(vain), spent=True)
        return kind, f"{text} {sentence}"

    def _stall_kind(self, vain: Sequence[Evaluation]) -> str:
        return Counter(map(_stall_kind, vain)).most_common(1)[0][0]

    def _stall_status(
        self, last: Sequence[Evaluation], kind: str | None = None, *, spent: bool = False
    ) -> tuple[str, str]:
        kind = kind or self._stall_kind(last)
        name = "stands_still" if kind == "decoder_ignores_latent" and self._stands_still(last) else kind
        those = [record for record in last if call_category(record) != "unique" and _stall_kind(record) == kind]
        reason = next((record.reason for record in those if record.reason), "no reason was given")
        more = " with a larger max_calls" if spent else ""  # as it is, resuming would end at once
        return name, STALL_SENTENCES[name].format(n=len(last), many=len(those), reason=reason.rstrip("."), more=more)

    def _stands_still(self, last: Sequence[Evaluation]) -> bool:
        z = torch.tensor([record.z for record in last], dtype=torch.float64)
        return self.unique >= MIN_STALLED_OBJECTS and float((z - z.mean(0)).square().mean().sqrt()) < STALLED_DEVIATION


def call_category(record: Evaluation) -> str:
    """What a call is counted as."""
    if record.duplicate_of is not None:
        return "duplicate"
    return {"evaluated": "unique", "lost": "failed"}.get(record.outcome, record.outcome)


def _stall_kind(record: Evaluation) -> str:
    word = call_category(record)
    return {"duplicate": "decoder_ignores_latent", "invalid": "invalid"}.get(word, "failed")
