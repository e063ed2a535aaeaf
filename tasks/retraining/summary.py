"""The numbers of a report on weighted retraining, and its verdict: whether to trust the result, by stated rules."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lso.analysis.black_box_verdict import MIN_TYPICAL, WASTED_CALLS
from lso.analysis.latent_dimensions import decode_on_cpu
from lso.analysis.verdict import ATYPICAL_BEST, Check, Level, Verdict, conclude, grade
from lso.black_box.budget import call_category
from lso.decoders.decoder import Decoder, is_image
from lso.reports.tables import number, percent
from lso.results.result import Evaluation
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.tasks.goals import Goal
from lso.tasks.retraining.drift import is_reproduced
from lso.tasks.retraining.labelled_data import load_labelled
from lso.tasks.retraining.records import RetrainingResult, Round
from lso.tasks.retraining.rounds import FOUND_FILE, ROUNDS_FOLDER
from lso.tasks.search.gradient import freeze_decoder
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import AMPLE_NATS, COLLAPSED_NATS, FULL_NATS, LatentUse
from lso.vae.metrics.latent_use import latent_use
from lso.vae.runs import Run
from lso.vae.utils.validation import pluralize

SHOWN_OBJECTS = 10  # objects shown
NO_VALUES = torch.zeros(0, dtype=torch.float64)


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
        return Counter({"calls": len(self.records)}) + Counter(call_category(record) for record in self.records)

    @property
    def fresh(self) -> list[Evaluation]:
        """Calls that the budget counts."""
        return [record for record in self.records if call_category(record) == "unique"]

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
    """The numbers of a report on weighted retraining.

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
        """The best of some values."""
        good = values[torch.isfinite(values)]
        return self.sign * float((self.sign * good).min()) if len(good) else None

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The best of the first round, and that of the other complete ones; None where there is none."""
        parts = [stage.values for stage in self.whole]
        return self.best_of(torch.cat([*parts[:1], NO_VALUES])), self.best_of(torch.cat([*parts[1:], NO_VALUES]))

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
    """Whether a code is typical of the prior."""
    return record.norm_percentile <= MAX_TYPICAL_PERCENTILE


def share_typical(s: RetrainingSummary) -> float:
    """Share of the proposals whose codes are typical of the prior."""
    every = s.result.records
    return sum(map(typical, every)) / max(1, len(every))


def retraining_summary(result: RetrainingResult) -> RetrainingSummary:
    """Compute everything that the report says."""
    if not result.records:
        raise UsageError("no call was made yet, and there is nothing to report on", "Go on with it: resume=True.")
    decoder, count = freeze_decoder(result.run, "cpu")[0], len(result.rounds)
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
    places = [result.folder / ROUNDS_FOLDER / f"{row.number:02d}" for row in result.rounds]
    codes = [_codes(part, decoder.latent_dim) for part in result.parts[: len(places)]]
    if not any(map(len, codes)):
        return [None] * len(codes)
    if decoder.vocabulary is not None:
        alike = [
            is_reproduced(decoder.tokens(z), load_labelled(place / FOUND_FILE).seen())
            for z, place in zip(codes, places, strict=True)
        ]
    else:
        were = [
            decode_on_cpu(freeze_decoder(Run(place / "train"), "cpu")[0], z)
            for z, place in zip(codes, places, strict=True)
        ]
        every = torch.cat([x.flatten(1) for x in were])
        now = decode_on_cpu(decoder, torch.cat(codes)).flatten(1)
        # By differences: of more than 25 rows torch expands the square, in which near pictures are all the same.
        nearest = torch.cdist(now, every, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        alike = list(torch.split(nearest == torch.arange(len(every)), [len(z) for z in codes]))
    return [one.double().mean().item() if len(one) else None for one in alike]


def _codes(records: Sequence[Evaluation], dim: int) -> Tensor:
    """``(n, d)`` codes of the distinct valid objects."""
    rows = [record.z for record in records if call_category(record) == "unique"]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, dim)


def decode_best(summary: RetrainingSummary, count: int) -> list[Tensor] | None:
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
        decoder = freeze_decoder(Run(summary.result.folder / ROUNDS_FOLDER / f"{i:02d}" / "train"), "cpu")[0]
        mine = [record for of, record in top if of == i]
        x = decode_on_cpu(decoder, torch.tensor([record.z for record in mine], dtype=torch.float64))
        if not is_image(x.shape[1:]):
            return None
        found |= {(i, record.call): image for record, image in zip(mine, x, strict=True)}
    return [found[i, record.call] for i, record in top] or None


STALE_SHARE = 0.5  # share of earlier codes that still decode to their objects, below which they are called stale
FORGOTTEN_SHARE = (
    0.5  # share of the anchors that the first retrained model reproduced, below which the data are forgotten
)
MIN_JUDGED_SHARE = (
    0.1  # share of the anchors reproduced by the first retrained model, below which forgetting is not judged
)


def check_latents_used(s: RetrainingSummary) -> Check:
    """The retrained model still uses enough of its latents."""
    rule = f"doubt if the codes of the last model carry under {COLLAPSED_NATS:g} nat about validation data, "
    rule += f"or under {AMPLE_NATS:g} "
    rule += "in under a fifth of the dimensions, or if the first training said that its latents are not in use; care "
    rule += f"if they carry under {FULL_NATS:g} nats"
    if s.use is None:
        return Check(name="model", level="care", found="no round is complete", rule=rule)
    found = f"of the last model {s.use.told()}"
    found += "; the first training said that its latents are not in use" if s.training else ""
    level: Level = "doubt" if s.training or s.use.collapsed else "care" if s.use.scanty else "fine"
    return Check(name="model", level=level, found=found, rule=rule)


def check_new_calls(s: RetrainingSummary) -> Check:
    """Most calls scored an object that was new and valid."""
    rule = f"care if over {100 * WASTED_CALLS[0]:.0f} % of the calls scored no new valid object, doubt if over "
    rule += f"{100 * WASTED_CALLS[1]:.0f} % or if there was none"
    calls, unique = s.counters["calls"], s.counters["unique"]
    kinds = ("duplicate", "invalid", "failed", "timed_out")
    lost = [f"{s.counters[kind]} {kind.replace('_', ' ')}" for kind in kinds if s.counters[kind]]
    found = f"{unique} of {pluralize(calls, 'call')} scored a new valid object"
    found += f" ({', '.join(lost)})" if lost else ""
    level: Level = "doubt" if not unique else grade(1 - unique / max(1, calls), WASTED_CALLS)
    return Check(name="calls", level=level, found=found, rule=rule)


def check_retraining(s: RetrainingSummary) -> Check:
    """Later rounds found better objects than the first one."""
    rule = "doubt if all values are equal; care if no later round found anything better than the first, if the median "
    rule += "object of the last round is no better than the first one's, or if there is one round alone"
    name, whole = "retraining", s.whole
    every = torch.cat([stage.values for stage in s.stages]) if s.stages else torch.zeros(0)
    if len(every) > 1 and bool((every == every[0]).all()):
        return Check(name=name, level="doubt", found=f"all values are equal ({float(every[0]):.4g})", rule=rule)
    first, later = s.ends
    if first is None or later is None:
        found = "there is one round with values, and nothing to compare it with"
        return Check(name=name, level="care", found=found, rule=rule)
    gained = s.gain is not None
    others = "that after the second" if len(whole) == 2 else f"those after the other {len(whole) - 1}"
    told = format_distinct(first, later)
    found = f"the search after the first retraining came to {told[0]}, {others} to {told[1]}"
    found += "" if gained else ", which is no better"
    before, after = whole[0].median, whole[-1].median
    better = before is not None and after is not None and s.sign * after < s.sign * before
    told = format_distinct(before, after)
    found += f"; the median object of the first round is worth {told[0]}, that of the last {told[1]}"
    found += "" if better else ", which is no better"
    return Check(name=name, level="fine" if gained and better else "care", found=found, rule=rule)


def check_data(s: RetrainingSummary) -> Check:
    """Something better than the training data was found."""
    rule = "care if nothing found is better than the best of the training data"
    known, best = s.best_of_data, s.result.best
    if known is None or best is None:
        return Check(name="data", level="care", found="there are no values to compare", rule=rule)
    better = s.sign * best.value < s.sign * known
    told = format_distinct(known, best.value)
    found = (
        f"the best of {len(s.result.data or ()):,} training data is worth {told[0]}, the best object found {told[1]}"
    )
    found += ", no better" * (not better)
    return Check(name="data", level="fine" if better else "care", found=found, rule=rule)


def check_codes_typical(s: RetrainingSummary) -> Check:
    """The best codes lie where decoders are trained."""
    rule = (
        f"a code is atypical if its norm is above the {100 * MAX_TYPICAL_PERCENTILE:.1f} % point of chi; care if over "
    )
    rule += (
        f"{100 * ATYPICAL_BEST[0]:.0f} % of the best {SHOWN_OBJECTS} are, doubt if over {100 * ATYPICAL_BEST[1]:.0f} "
        "%; care if under "
    )
    rule += f"{100 * MIN_TYPICAL:.0f} % of the proposals are typical"
    best = [not typical(record) for _, record in s.ranked[:SHOWN_OBJECTS]]
    usual = share_typical(s)
    found = f"{sum(best)} of the best {pluralize(len(best), 'code')} are atypical"
    found += f", {percent(usual)} of the proposals typical"
    level = grade(sum(best) / max(1, len(best)), ATYPICAL_BEST)
    level = "care" if level == "fine" and usual < MIN_TYPICAL else level
    return Check(name="typicality", level=level, found=found, rule=rule)


def check_control(s: RetrainingSummary) -> Check:
    """Whether the budget would have done as much without retraining."""
    rule = "care: a plain search of the same budget is the control, and other seeds say how much is chance"
    found = "this is one search by one seed"
    if (ends := s.gain) is not None and check_retraining(s).level == "fine":
        told = format_distinct(*ends)
        found = f"the best went from {told[0]} after the first retraining to {told[1]} in the end, by "
        found += "one seed, and more calls alone find more as well"
    found += ": a plain search of the same budget beside it (lso report) tells what retraining is worth"
    return Check(name="control", level="care", found=found, rule=rule)


def check_anchors(s: RetrainingSummary) -> Check:
    """The model still knows its training data."""
    rule = (
        f"care if the last model reproduces under {100 * FORGOTTEN_SHARE:.0f} % of the share of training data that the "
    )
    rule += f"first retrained one did; not judged where that is under {100 * MIN_JUDGED_SHARE:.0f} %, nor of images, "
    rule += "which count only if every pixel agrees as 0 and 1"
    if not s.rows:
        return Check(name="anchors", level="fine", found="no round is complete", rule=rule)
    first, last = s.rows[0].anchors.reproduced, s.rows[-1].anchors.reproduced
    judged = s.exact and first >= MIN_JUDGED_SHARE
    forgot = judged and last < FORGOTTEN_SHARE * first
    found = f"the first retrained model reproduces {percent(first)} of the training data that are followed, the last "
    found += percent(last) + (": it has forgotten them" if forgot else ", which is not judged" * (not judged))
    return Check(name="anchors", level="care" if forgot else "fine", found=found, rule=rule)


def check_codes(s: RetrainingSummary) -> Check:
    """The codes of earlier rounds still stand for their objects."""
    rule = (
        f"care if the last model decodes under {100 * STALE_SHARE:.0f} % of the objects that earlier rounds found from "
    )
    rule += "the codes they were found at; an image counts where the decode is nearer to it than to any other found"
    if s.stale is None:
        found = "no object was found before the last retraining"
        return Check(name="codes", level="fine", found=found, rule=rule)
    total, share = s.stale
    what = "what" if s.exact else "nearest to what"
    found = f"of {pluralize(total, 'object')} found before the last retraining, {percent(share)} are still {what} the "
    found += "last model decodes from their codes"
    found += ": codes of earlier rounds are stale, keep the objects, or each code with its round's model" * (
        share < STALE_SHARE
    )
    return Check(name="codes", level="care" if share < STALE_SHARE else "fine", found=found, rule=rule)


CHECKS = (
    check_latents_used,
    check_new_calls,
    check_retraining,
    check_data,
    check_codes_typical,
    check_control,
    check_anchors,
    check_codes,
)


def format_distinct(one: float | None, other: float | None) -> tuple[str, str]:
    """Two numbers as text, with as many digits as are needed to distinguish them."""
    pairs = [(number(one, digits), number(other, digits)) for digits in range(4, 9)]
    return next((pair for pair in pairs if pair[0] != pair[1] or one == other), pairs[-1])
