"""The accounts of a black-box search: what was evaluated, what is known already, and when it ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lso.result import Evaluation
from lso.vae.values import counted

PATIENCE = 200  # calls in a row without a new valid object
CALLS = 10  # times the budget, the calls at most

NOTHING_NEW = {
    "decoder_ignores_latent": (
        "The decoder ignores its latent: of the last {n} codes proposed, {many} decoded to data already seen. "
        "Train a model whose latents are used (lso train --method ne-vae-se), or search with another."
    ),
    "invalid": (
        "Of the last {n} codes proposed, {many} decoded to data that the score calls invalid. "
        "Look at what the model makes (lso sample), and at the score."
    ),
    "failed": (
        "Of the last {n} calls of the score, {many} failed, timed out or were lost. The first of them: {reason}. "
        "Mend the score, or raise the timeout, and resume."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a search ends.

    Args:
        budget: unique valid decoded objects to be scored.
        max_calls: calls in all, with duplicates and invalid ones.
        patience: calls in a row without a new valid object.
    """

    budget: int
    max_calls: int
    patience: int = PATIENCE


@dataclass(slots=True, eq=False)
class Ledger:
    """Evaluations in the order in which they were finished.

    Args:
        records: them.
        known: what objects are worth, by key: the first evaluation of each.
        idle: kinds of the calls since the last new valid object.
    """

    records: list[Evaluation] = field(default_factory=list)
    known: dict[str, Evaluation] = field(default_factory=dict)
    unique: int = 0
    idle: list[Evaluation] = field(default_factory=list)

    def add(self, record: Evaluation, key: str) -> None:
        """Take an evaluation down.

        Args:
            record: a new one.
            key: of its object; a lost one is not known by it.
        """
        self.records.append(record)
        if record.outcome != "lost":
            self.known.setdefault(key, record)
        if record.duplicate_of is None and record.outcome == "evaluated":
            self.unique += 1
            self.idle.clear()
        else:
            self.idle.append(record)

    def counters(self) -> dict[str, int]:
        """Calls, and what became of them.

        Returns:
            ``calls = unique + duplicate + invalid + failed + timed_out``; duplicates of whatever kind are counted as
            such, lost calls as failed.
        """
        return count_calls(self.records)

    def end(self, limits: Limits) -> tuple[str, str] | None:
        """Whether the search is over.

        Args:
            limits: of the search.
        Returns:
            Status and sentence, or None.
        """
        if self.unique >= limits.budget:
            return "finished", f"The budget of {counted(limits.budget, 'unique valid object')} is spent."
        if len(self.idle) >= limits.patience:
            return self._nothing_new(self.idle[-limits.patience :])
        if len(self.records) >= limits.max_calls:
            kind, sentence = self._nothing_new(self.idle[-limits.patience :]) if self.idle else ("max_calls", "")
            text = f"All {limits.max_calls} calls were made, for {self.unique} of {limits.budget} unique valid objects."
            mostly = len(self.records) - self.unique > 0.5 * len(self.records)
            return (kind, f"{text} {sentence}") if mostly else ("max_calls", text)
        return None

    def _nothing_new(self, last: Sequence[Evaluation]) -> tuple[str, str]:
        kinds = Counter(_kind(record) for record in last)
        kind, many = kinds.most_common(1)[0]
        reason = next((record.reason for record in last if _kind(record) == kind and record.reason), "")
        return kind, NOTHING_NEW[kind].format(n=len(last), many=many, reason=reason)


def count_calls(records: Sequence[Evaluation]) -> dict[str, int]:
    """See `Ledger.counters`.

    Args:
        records: of a search.
    Returns:
        The counts.
    """
    fresh = Counter(record.outcome for record in records if record.duplicate_of is None)
    duplicate = sum(record.duplicate_of is not None for record in records)
    return {
        "calls": len(records),
        "unique": fresh["evaluated"],
        "duplicate": duplicate,
        "invalid": fresh["invalid"],
        "failed": fresh["failed"] + fresh["lost"],
        "timed_out": fresh["timed_out"],
    }


def _kind(record: Evaluation) -> str:
    if record.duplicate_of is not None:
        return "decoder_ignores_latent"
    return "invalid" if record.outcome == "invalid" else "failed"
