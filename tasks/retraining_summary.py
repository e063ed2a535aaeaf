"""The numbers of a report on weighted retraining: its rounds, its best objects, and whether to believe it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lso.belief import Verdict, conclude
from lso.decoder import Decoder
from lso.dimensions import decode
from lso.ledger import account
from lso.pictures import is_image
from lso.result import Evaluation
from lso.space import OUTSIDE
from lso.tasks.drift import same
from lso.tasks.goal import Goal
from lso.tasks.labelled import load
from lso.tasks.retraining_record import RetrainingResult, Round
from lso.tasks.rounds import FOUND, ROUNDS
from lso.tasks.search import frozen
from lso.vae.errors import UsageError
from lso.vae.latent_use import latent_use
from lso.vae.runs import Run
from lso.vae.verdict import LatentUse

TOP = 10  # objects shown
NONE = torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """One round: what its model is, and what its search found.

    Args:
        row: of the round; None where it was cut in its search.
        records: its calls.
        standing: share of its objects that the last model still decodes from the codes they were found at: of sequences
            exactly, of images nearer than to any other object found; None where there is none, or the round was cut.
    """

    row: Round | None
    records: Sequence[Evaluation]
    standing: float | None = None

    @property
    def counters(self) -> Counter[str]:
        """Calls, and what became of them."""
        return Counter({"calls": len(self.records)}) + Counter(account(record) for record in self.records)

    @property
    def fresh(self) -> list[Evaluation]:
        """Calls that the budget counts."""
        return [record for record in self.records if account(record) == "unique"]

    @property
    def values(self) -> Tensor:
        """``(n,)`` of them."""
        return torch.tensor([record.value for record in self.fresh], dtype=torch.float64)

    @property
    def median(self) -> float | None:
        """Their median value; None without any."""
        return float(self.values.quantile(0.5)) if self.fresh else None


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrainingSummary:
    """Everything that a report on weighted retraining says.

    Args:
        result: of it.
        stages: its rounds, one that was cut in its search at the end.
        training: the verdict of the training that gave the first model, empty where it had none.
        latent_dim: latent dimensions.
        exact: whether objects are compared exactly, as sequences are.
        use: what the latents of the last retrained model carry; None where no round is complete.
    """

    result: RetrainingResult
    stages: list[Stage]
    training: str
    latent_dim: int
    exact: bool = True
    use: LatentUse | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """Whether to believe it."""
        from lso.tasks.retraining_verdict import CHECKS

        return conclude([make(self) for make in CHECKS], self.training)

    @property
    def goal(self) -> Goal:
        """What was sought."""
        return self.result.goal

    @property
    def whole(self) -> list[Stage]:
        """Rounds that are complete."""
        return [stage for stage in self.stages if stage.row is not None]

    @property
    def rows(self) -> list[Round]:
        """What complete rounds say of themselves."""
        return list(self.result.rounds)

    @cached_property
    def counters(self) -> Counter[str]:
        """Over all rounds."""
        return sum((stage.counters for stage in self.stages), Counter())

    @cached_property
    def ranked(self) -> list[tuple[int, Evaluation]]:
        """All distinct objects with the number of their round, best first."""
        every = [(number, record) for number, stage in enumerate(self.stages) for record in stage.fresh]
        return sorted(every, key=lambda entry: self.sign * entry[1].value)

    @property
    def sign(self) -> int:
        """-1 where more is better."""
        return -1 if self.goal.maximize else 1

    def best_of(self, values: Tensor) -> float | None:
        """The best of some values.

        Args:
            values: perhaps NaN, perhaps none.
        Returns:
            It; None where there is none.
        """
        good = values[torch.isfinite(values)]
        return self.sign * float((self.sign * good).min()) if len(good) else None

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The best of the first round, and that of the other complete ones; None where there is none."""
        parts = [stage.values for stage in self.whole]
        return self.best_of(torch.cat([*parts[:1], NONE])), self.best_of(torch.cat([*parts[1:], NONE]))

    @property
    def gain(self) -> tuple[float, float] | None:
        """`ends` where the second is the better one."""
        first, later = self.ends
        if first is None or later is None or self.sign * later >= self.sign * first:
            return None
        return first, later

    @property
    def best_of_data(self) -> float | None:
        """The best value of the training data retrained upon."""
        return None if self.result.data is None else self.best_of(self.result.data.value)

    @property
    def best_typical(self) -> float | None:
        """The best value at a code that is typical of the prior."""
        return next((record.value for _, record in self.ranked if typical(record)), None)

    @cached_property
    def stale(self) -> tuple[int, float] | None:
        """Objects found before the last retraining, and the share of them that their codes still decode to."""
        known = [(len(stage.fresh), stage.standing) for stage in self.whole[:-1] if stage.standing is not None]
        total = sum(count for count, _ in known)
        return (total, sum(count * share for count, share in known) / total) if total else None


def typical(record: Evaluation) -> bool:
    """Whether a code is typical of the prior.

    Args:
        record: of a call.
    Returns:
        Whether its norm is.
    """
    return record.norm_percentile <= OUTSIDE


def share_typical(s: RetrainingSummary) -> float:
    """Share of the proposals whose codes are typical of the prior.

    Args:
        s: the numbers.
    Returns:
        In [0, 1].
    """
    every = s.result.records
    return sum(map(typical, every)) / max(1, len(every))


def retraining_summary(result: RetrainingResult) -> RetrainingSummary:
    """Compute everything that the report says.

    Args:
        result: of weighted retraining.
    Returns:
        The numbers.
    Raises:
        UsageError: if no call was made yet.
    """
    if not result.records:
        raise UsageError("no call was made yet, and there is nothing to report on", "Go on with it: resume=True.")
    decoder, count = frozen(result.run, "cpu")[0], len(result.rounds)
    standing = _standing(decoder, result)
    codes = result.run.codes() if count else None
    whole = [
        Stage(row=row, records=part, standing=share)
        for row, part, share in zip(result.rounds, result.parts, standing, strict=False)
    ]
    return RetrainingSummary(
        result=result,
        stages=whole + [Stage(row=None, records=part) for part in result.parts[count:]],
        training=Run(result.folder).verdict,
        latent_dim=decoder.latent_dim,
        exact=decoder.vocabulary is not None,
        use=None if codes is None else latent_use(codes),
    )


@torch.no_grad()
def _standing(decoder: Decoder, result: RetrainingResult) -> list[float | None]:
    """Of each complete round the share of its objects that a decoder still makes of their codes."""
    places = [result.folder / ROUNDS / f"{row.number:02d}" for row in result.rounds]
    codes = [_codes(part, decoder.latent_dim) for part in result.parts[: len(places)]]
    if not any(map(len, codes)):
        return [None] * len(codes)
    if decoder.vocabulary is not None:
        alike = [same(decoder.tokens(z), load(place / FOUND).seen()) for z, place in zip(codes, places, strict=True)]
    else:
        were = [decode(frozen(Run(place / "train"), "cpu")[0], z) for z, place in zip(codes, places, strict=True)]
        every = torch.cat([x.flatten(1) for x in were])
        now = decode(decoder, torch.cat(codes)).flatten(1)
        # By differences: of more than 25 rows torch expands the square, in which near pictures are all the same.
        nearest = torch.cdist(now, every, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        alike = list(torch.split(nearest == torch.arange(len(every)), [len(z) for z in codes]))
    return [one.double().mean().item() if len(one) else None for one in alike]


def _codes(records: Sequence[Evaluation], dim: int) -> Tensor:
    """Of distinct valid objects."""
    rows = [record.z for record in records if account(record) == "unique"]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, dim)


def decoded(summary: RetrainingSummary, count: int) -> list[Tensor] | None:
    """The best distinct objects as pictures, each decoded by the model of the round that found it.

    Args:
        summary: of weighted retraining.
        count: at most.
    Returns:
        ``(C, H, W)`` each, best first; None where they are no pictures, or nothing was valid.
    """
    top = summary.ranked[:count]
    found: dict[tuple[int, int | None], Tensor] = {}
    for i in sorted({i for i, _ in top}):
        decoder = frozen(Run(summary.result.folder / ROUNDS / f"{i:02d}" / "train"), "cpu")[0]
        mine = [record for of, record in top if of == i]
        x = decode(decoder, torch.tensor([record.z for record in mine], dtype=torch.float64))
        if not is_image(x.shape[1:]):
            return None
        found |= {(i, record.call): image for record, image in zip(mine, x, strict=True)}
    return [found[i, record.call] for i, record in top] or None
