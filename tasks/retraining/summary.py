"""The numbers of a report on weighted retraining, and its verdict: whether to trust the result, by stated rules."""

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lso.analysis.black_box_verdict import MIN_TYPICAL, WASTED_CALLS, facts_of_calls
from lso.analysis.latent_dimensions import decode_on_cpu
from lso.analysis.verdict import ATYPICAL_BEST
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
from lso.vae.metrics.collapse import INFORMATION, INFORMATION_IN_FEW, LatentUse
from lso.vae.metrics.latent_use import latent_use
from lso.vae.metrics.verdict import CARE_IF, DOUBT_IF, Case, Facts, Limit, Rule, Verdict, judge
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
        return judge(RETRAINING_RULES, self, self.training)

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


def format_distinct(one: float | None, other: float | None) -> tuple[str, str]:
    """Two numbers as text, with as many digits as are needed to distinguish them."""
    pairs = [(number(one, digits), number(other, digits)) for digits in range(4, 9)]
    return next((pair for pair in pairs if pair[0] != pair[1] or one == other), pairs[-1])


# --- the verdict ------------------------------------------------------------------------------------------------------

# Share of the anchors reproduced by the first retrained model, below which forgetting is not judged.
MIN_JUDGED_SHARE = 0.1


def _measure_model(s: RetrainingSummary) -> Facts:
    if s.use is None:
        return {"incomplete": True}
    return {
        "told": s.use.told(),
        "training": s.training,
        "collapsed": bool(s.training) or s.use.collapsed,
        "scanty": s.use.scanty,
    }


def _measure_calls(s: RetrainingSummary) -> Facts:
    facts = facts_of_calls(s.counters.__getitem__)
    return {**facts, "calls": pluralize(facts["calls"], "call")}


def _measure_retraining(s: RetrainingSummary) -> Facts:
    every = torch.cat([NO_VALUES, *(stage.values for stage in s.stages)])
    first, later = s.ends
    before, after = (s.whole[0].median, s.whole[-1].median) if s.whole else (None, None)
    better = before is not None and after is not None and s.sign * after < s.sign * before
    told, medians = format_distinct(first, later), format_distinct(before, after)
    return {
        "equal": len(every) > 1 and bool((every == every[0]).all()),
        "value": float(every[0]) if len(every) else math.nan,
        "alone": first is None or later is None,
        "first": told[0],
        "later": told[1],
        "others": "that after the second" if len(s.whole) == 2 else f"those after the other {len(s.whole) - 1}",
        "no_gain": s.gain is None,
        "before": medians[0],
        "after": medians[1],
        "no_better": not better,
    }


def _measure_data(s: RetrainingSummary) -> Facts:
    known, best = s.best_of_data, s.result.best
    if known is None or best is None:
        return {"unknown": True}
    told = format_distinct(known, best.value)
    return {
        "count": len(s.result.data or ()),
        "known": told[0],
        "best": told[1],
        "no_better": not s.sign * best.value < s.sign * known,
    }


def _measure_typicality(s: RetrainingSummary) -> Facts:
    best, usual = [not typical(record) for _, record in s.ranked[:SHOWN_OBJECTS]], share_typical(s)
    return {
        "number": sum(best),
        "codes": pluralize(len(best), "code"),
        "atypical": sum(best) / max(1, len(best)),
        "typical": usual,
        "usual": percent(usual),
    }


def _measure_control(s: RetrainingSummary) -> Facts:
    told = format_distinct(*(s.gain or (None, None)))
    gained = s.gain is not None and RETRAINING.grade(_measure_retraining(s)) == "fine"
    return {"unknown": True, "gained": gained, "first": told[0], "last": told[1]}


def _measure_anchors(s: RetrainingSummary) -> Facts:
    if not s.rows:
        return {"incomplete": True}
    first, last = s.rows[0].anchors.reproduced, s.rows[-1].anchors.reproduced
    judged = s.exact and first >= MIN_JUDGED_SHARE
    return {
        "first": percent(first),
        "last": percent(last),
        "judged": judged,
        "kept": last / first if judged else None,
    }


def _measure_codes(s: RetrainingSummary) -> Facts:
    if s.stale is None:
        return {"none": True}
    total, share = s.stale
    return {
        "objects": pluralize(total, "object"),
        "share": percent(share),
        "standing": share,
        "what": "what" if s.exact else "nearest to what",
    }


RETRAINING: Rule[RetrainingSummary] = Rule(
    name="retraining",
    measure=_measure_retraining,
    cases={
        "equal": Case(level="doubt", found="all values are equal ({value:.4g})"),
        "alone": Case(level="care", found="there is one round with values, and nothing to compare it with"),
    },
    limits={"no_gain": CARE_IF, "no_better": CARE_IF},
    found="the search after the first retraining came to {first}, {others} to {later}[no_gain?, which is no better]; "
    "the median object of the first round is worth {before}, that of the last {after}[no_better?, which is no better]",
    rule="doubt if all values are equal; care if no later round found anything better than the first, if the median "
    "object of the last round is no better than the first one's, or if there is one round alone",
    remedy="Retrain over the best alone (--retrain-k 1e-4) or for longer (--retrain-epochs), or search plainly.",
)
RETRAINING_RULES: Sequence[Rule[RetrainingSummary]] = (
    Rule(
        name="model",
        measure=_measure_model,
        cases={"incomplete": Case(level="care", found="no round is complete")},
        limits={"collapsed": DOUBT_IF, "scanty": CARE_IF},
        found="of the last model {told}[training?; the first training reported that its codes carry almost nothing "
        "(posterior collapse)]",
        rule="doubt if the codes of the last model carry under {carried.doubt:g} nat about validation data, or under "
        "{in_few.doubt:g} in under a fifth of the dimensions, or if the first training reported posterior collapse; "
        "care if they carry under {carried.care:g} nats",
        terms={"carried": INFORMATION, "in_few": INFORMATION_IN_FEW},
        remedy="Begin with a model whose latents are used (lso train --method ne-vae-se), or retrain less.",
    ),
    Rule(
        name="calls",
        measure=_measure_calls,
        limits={"wasted": WASTED_CALLS},
        found="{unique} of {calls} scored a new valid object[lost? ({lost})]",
        rule="care if over {wasted.care:.0%} of the calls scored no new valid object, doubt if over "
        "{wasted.doubt:.0%} or if there was none",
    ),
    RETRAINING,
    Rule(
        name="data",
        measure=_measure_data,
        cases={"unknown": Case(level="care", found="there are no values to compare")},
        limits={"no_better": CARE_IF},
        found="the best of {count:,} training data is worth {known}, the best object found {best}[no_better?, no "
        "better]",
        rule="care if nothing found is better than the best of the training data",
    ),
    Rule(
        name="typicality",
        measure=_measure_typicality,
        limits={"atypical": ATYPICAL_BEST, "typical": Limit(care=MIN_TYPICAL, beyond=operator.lt)},
        found="{number} of the best {codes} are atypical, {usual} of the proposals typical",
        rule="a code is atypical if its norm is above the {percentile:.1%} point of chi; care if over "
        "{atypical.care:.0%} of the best {shown} are, doubt if over {atypical.doubt:.0%}; care if under "
        "{typical.care:.0%} of the proposals are typical",
        terms={"percentile": MAX_TYPICAL_PERCENTILE, "shown": SHOWN_OBJECTS},
    ),
    Rule(
        name="control",
        measure=_measure_control,
        limits={"unknown": CARE_IF},
        found="[gained?the best went from {first} after the first retraining to {last} in the end, by one seed, and "
        "more calls alone find more as well][!gained?this is one search by one seed]: a plain search of the same "
        "budget beside it (lso report) tells what retraining is worth",
        rule="care: a plain search of the same budget is the control, and other seeds say how much is chance",
        remedy="Search plainly with the same --budget, --seed and --known, and set both side by side: lso report",
    ),
    Rule(
        name="anchors",
        measure=_measure_anchors,
        cases={"incomplete": Case(level="fine", found="no round is complete")},
        limits={"kept": Limit(care=0.5, beyond=operator.lt)},
        found="the first retrained model reproduces {first} of the training data that are followed, the last "
        "{last}[care?: it has forgotten them][!judged?, which is not judged]",
        rule="care if the last model reproduces under {kept.care:.0%} of the share of training data that the first "
        "retrained one did; not judged where that is under {least:.0%}, nor of images, which count only if every "
        "pixel agrees as 0 and 1",
        terms={"least": MIN_JUDGED_SHARE},
        remedy="Retrain less: a lower --retrain-epochs, a larger --retrain-k, or more --retrain-data.",
    ),
    Rule(
        name="codes",
        measure=_measure_codes,
        cases={"none": Case(level="fine", found="no object was found before the last retraining")},
        limits={"standing": Limit(care=0.5, beyond=operator.lt)},
        found="of {objects} found before the last retraining, {share} are still {what} the last model decodes from "
        "their codes[care?: codes of earlier rounds are stale, keep the objects, or each code with its round's model]",
        rule="care if the last model decodes under {standing.care:.0%} of the objects that earlier rounds found from "
        "the codes they were found at; an image counts where the decode is nearer to it than to any other found",
        remedy="Keep the objects; decode a code with rounds/NN/train of the round that found it.",
    ),
)
