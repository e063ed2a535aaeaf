"""Likely reasons why a black-box search failed, from the files of the run alone: the rules of `lso doctor`."""

import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from lso.analysis.black_box_traces import design_size, first_failure, last_step
from lso.analysis.black_box_verdict import IN_DESIGN, MIN_COVERAGE, MIN_COVERAGE_VALUES, MIN_TYPICAL, WASTED_CALLS
from lso.analysis.latent_dimensions import name_dimensions
from lso.black_box.budget import call_category
from lso.optimizers import BlackBoxSpec, black_box_spec, control_labels, recommended_optimizers
from lso.results.result import Evaluation
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.collapse import COLLAPSED_SHARE, LATENTS, carried_facts
from lso.vae.metrics.verdict import CARE_IF, DOUBT_IF, Check, Facts, Limit, Rule, apply_rules
from lso.vae.utils.validation import pluralize

# Distance of the last proposals from the best code, relative to that of two prior draws, below which a search no longer
# moves. A trust region at its usual least size (2^-7 of a box of +-3) proposes at about 0.01 to 0.02.
STEP_FLOOR = 0.02
LATE_SHARE = 0.9  # share of the calls after which a new best says that the search was still gaining
TRAIN_BETTER = "Train a model whose latents are used (lso train --method ne-vae-se)."
STAY_INSIDE = "Leave the guard on, and keep the bounds within +-3."


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """The measurements that the rules look at; None where the files do not have them.

    Args:
        optimizer: name of the optimizer.
        counts: numbers of calls, unique, duplicate, invalid, failed, timed_out, over all seeds.
        failure: message of the first call that failed.
        constant: whether all values are equal.
        typical: share of proposals that are typical.
        atypical_best: share of searches whose best code is atypical.
        at_bound: share of coordinates at a bound.
        step: see `lso.analysis.black_box_traces.last_step`.
        in_design: share of searches that found nothing better than their initial design.
        unsearched: share of searches that spent their budget within the initial design.
        late: share of searches whose best came in the last tenth of the calls.
        latent_dim: number of latent dimensions.
        active: number of dimensions that the decoder reacts to.
        information: nats that codes carry about the data.
        dead: dimensions without any effect on the decoder.
        flat: whether the surrogate predicts no better than the mean.
        explained: share of the variance of held-out values that the surrogate explains.
        coverage: share of left-out values within their 95 % intervals.
        points: number of left-out values.
        reencoding: re-encoding error of the best codes, as a multiple of that of prior draws.
    """

    optimizer: str
    counts: Mapping[str, int]
    failure: str = ""
    constant: bool = False
    typical: float | None = None
    atypical_best: float | None = None
    at_bound: float | None = None
    step: float | None = None
    in_design: float | None = None
    unsearched: float | None = None
    late: float | None = None
    latent_dim: int | None = None
    active: int | None = None
    information: float | None = None
    dead: Sequence[int] = ()
    flat: bool | None = None
    explained: float | None = None
    coverage: float | None = None
    points: int = 0
    reencoding: float | None = None

    @property
    def spec(self) -> BlackBoxSpec:
        """The row of its optimizer."""
        return black_box_spec(self.optimizer)

    def share(self, *kinds: str) -> float:
        """Share of the calls that came to one of these."""
        return sum(self.counts.get(kind, 0) for kind in kinds) / max(1, self.counts.get("calls", 0))

    @property
    def collapsed(self) -> bool:
        """Whether the decoder ignores its codes, or codes carry next to nothing, or little in few active dimensions.

        As in the verdict, dead dimensions beside others that carry much are no collapse; where it is not known what
        codes carry, few active dimensions count as one.
        """
        if self.latent_dim is None:
            return False
        few = self.active is not None and self.active < COLLAPSED_SHARE * self.latent_dim
        if self.information is None:
            return few
        carried = carried_facts(self.information, self.latent_dim, few)
        return self.active == 0 or LATENTS.grade(carried) == "doubt"


def diagnose(signs: Diagnostics) -> list[Check]:
    """Apply all rules: "doubt" is a likely reason of a failure, "care" worth knowing; the most basic come first."""
    return [check for check in apply_rules(DIAGNOSES, _facts_of(signs)) if check.level != "fine"]


def _facts_of(s: Diagnostics) -> Facts:
    """Every fact that a rule may judge or tell; None, which no rule minds, where the files do not have it."""
    learning, broken = not s.spec.control, s.share("failed", "timed_out")
    counts = {kind: s.counts.get(kind, 0) for kind in ("failed", "timed_out", "invalid", "duplicate")}
    fitted = not s.constant and not s.spec.surrogate_free and s.flat is not None
    still = s.step is not None and s.step < STEP_FLOOR
    stuck = s.in_design is not None and s.in_design > IN_DESIGN and learning
    return {
        **{field.name: getattr(s, field.name) for field in fields(s)},
        **counts,
        "calls": pluralize(s.counts.get("calls", 0), "call"),
        "failed_share": broken if counts["failed"] else None,
        "timed_out_share": broken if counts["timed_out"] else None,
        "invalid_share": s.share("invalid"),
        "duplicate_share": s.share("duplicate"),
        "collapsed": s.collapsed,
        "still": still and not s.collapsed,
        "otherwise": not s.collapsed and not still,
        "dimensions": pluralize(s.latent_dim or 0, "latent dimension"),
        "counted": s.active is not None,
        "informed": s.information is not None,
        "both": s.active is not None and s.information is not None,
        # Where all are dead, no dimension is left to search.
        "dead": len(s.dead) if len(s.dead) < (s.latent_dim or 0) else 0,
        "names": name_dimensions(s.dead),
        # One object is too few to judge the score or a surrogate by.
        "equal": s.constant and s.counts.get("unique", 0) > 1,
        "flat": fitted and s.flat,
        "known": s.explained is not None,
        "explained": max(0.0, s.explained or 0.0),
        "coverage": s.coverage if fitted and not s.flat and s.points >= MIN_COVERAGE_VALUES else None,
        "atypical": 1 - (s.typical or 0.0),
        "at_floor": still and learning,
        "percent": 100 * (s.step or 0.0),
        "settable": not s.spec.surrogate_free,
        "in_design": s.in_design if learning else None,
        "late": None if stuck else s.late,
    }


MANY_LOST = Limit(doubt=WASTED_CALLS.care)  # share of calls that came to nothing
# The most basic reasons first.
DIAGNOSES: Sequence[Rule[Facts]] = (
    Rule(
        name="failed calls",
        limits={"failed": CARE_IF, "failed_share": MANY_LOST},
        found="the score failed in {failed} of {calls}[failure?: {failure}]",
        remedy="Correct the score.",
    ),
    Rule(
        name="timeouts",
        limits={"timed_out": CARE_IF, "timed_out_share": MANY_LOST},
        found="{timed_out} of {calls} timed out",
        remedy="Raise the timeout, or make the score faster.",
    ),
    Rule(
        name="invalid objects",
        limits={"invalid_share": MANY_LOST},
        found="{invalid} of {calls} decoded to invalid objects",
        remedy="Look at what the model decodes (lso sample), and at which objects the score calls invalid.",
    ),
    Rule(
        name="duplicates",
        limits={"duplicate_share": MANY_LOST},
        found="{duplicate} of {calls} decoded to objects seen before: [collapsed?the decoder ignores most of its "
        "latents][still?the search no longer moves][otherwise?many codes decode to the same object]",
        remedy="[collapsed?{train_better}][still?Search again from another --seed.][otherwise?Widen the bounds a "
        "little. {train_better}]",
        terms={"train_better": TRAIN_BETTER},
    ),
    Rule(
        name="collapse",
        limits={"collapsed": DOUBT_IF},
        found="collapsed: [counted?the decoder reacts to {active} of {dimensions}][both?, ][informed?the codes carry "
        "{information:z.2f} nats]",
        remedy=TRAIN_BETTER,
    ),
    Rule(
        name="dead dimensions",
        limits={"dead": CARE_IF},
        found="{dead} of {latent_dim} latent dimensions are dead ({names}): what is proposed there changes nothing",
        remedy='Search the active ones only: --chart active, LatentSpace(..., chart="active").',
    ),
    Rule(
        name="equal values",
        limits={"equal": DOUBT_IF},
        found="all values are equal: the score is flat, and there is nothing to search for",
        remedy="Look at the score.",
    ),
    Rule(
        name="flat surrogate",
        limits={"flat": DOUBT_IF},
        found="the surrogate is flat: refitted without a third of the values, it predicts next to nothing of "
        "them[known? ({explained:z.0%} of their variance)]",
        remedy="Raise the budget, search fewer dimensions (the active ones, or a smaller model), or try {others}.",
        terms={"others": recommended_optimizers("flat surrogate")},
    ),
    Rule(
        name="overconfident surrogate",
        limits={"coverage": Limit(care=MIN_COVERAGE, beyond=operator.lt)},
        found="the surrogate is too sure of itself: {coverage:z.0%} of values within their 95 % intervals",
        remedy="Try {others}, or a larger initial design.",
        terms={"others": recommended_optimizers("overconfident surrogate")},
    ),
    Rule(
        name="atypical proposals",
        limits={"typical": Limit(doubt=MIN_TYPICAL, beyond=operator.lt)},
        found="[typical?{atypical:z.0%} of the][!typical?all] proposals are atypical: the decoder was never trained "
        "there",
        remedy=STAY_INSIDE,
    ),
    Rule(
        name="atypical best",
        limits={"atypical_best": DOUBT_IF},
        found="the best code is atypical in {atypical_best:z.0%} of the searches",
        remedy=f"Take the best typical one, which the report also shows. {STAY_INSIDE}",
    ),
    Rule(
        name="bounds",
        # Of prior draws in a box of +-3 it is 0.3 %.
        limits={"at_bound": Limit(care=0.2)},
        found="{at_bound:z.0%} of the coordinates lie at a bound",
        remedy=STAY_INSIDE,
    ),
    Rule(
        name="step size",
        limits={"at_floor": CARE_IF},
        found="the step size is at its floor: the last proposals lie within {percent:.2g} % of a prior draw's "
        "distance from the best code",
        remedy="More calls will not help; search again from another --seed, or with restarts.",
    ),
    Rule(
        name="initial design only",
        limits={"unsearched": Limit(doubt=IN_DESIGN)},
        found="{unsearched:z.0%} of the searches spent their budget within the initial design: they drew at random "
        "and learnt nothing",
        remedy="Raise the budget, or make the initial design smaller where it can be set[settable? "
        "({optimizer}:initial=20)].",
    ),
    Rule(
        name="no gain over the design",
        limits={"in_design": Limit(doubt=IN_DESIGN)},
        found="{in_design:z.0%} of the searches found nothing better than their initial design",
        remedy="Compare with {controls} at the same budget; raise the budget.",
        terms={"controls": control_labels()},
    ),
    Rule(
        name="still gaining",
        limits={"late": Limit(care=0.5)},
        found="the best came in the last tenth of the calls in {late:z.0%} of the searches: still gaining",
        remedy="Go on with a larger budget (--resume).",
    ),
)


def diagnostics_from_report(report: Mapping[str, Any]) -> Diagnostics:
    """Read the measurements of the main group from report.json."""
    group = report["groups"][0]
    searches, dims, surrogate = group["searches"], group["dimensions"], group["surrogate"] or {}
    counts: Counter[str] = Counter()
    for one in searches:
        counts.update({key: value for key, value in one["counters"].items() if isinstance(value, int)})
    values = [value for one in searches for value in one["value"] if value is not None]
    again = group["reencoding"]
    known = again["best"] is not None and again["prior_draws"]
    return Diagnostics(
        optimizer=searches[0]["optimizer"],
        counts=counts,
        failure=next((one["failure"] for one in searches if one["failure"]), ""),
        constant=_constant(values),
        typical=_mean(one["typical_share"] for one in searches),
        atypical_best=_mean(float(one["atypical_best"]) for one in searches),
        at_bound=_mean(one["at_bound"] for one in searches),
        step=_mean(one["step"] for one in searches),
        in_design=_mean(float(one["in_design"]) for one in searches),
        unsearched=_mean(float(one.get("unsearched", False) and one["status"] == "finished") for one in searches),
        late=_mean(_late(one["best_call"], len(one["value"])) for one in searches),
        latent_dim=report["search"]["latent_dim"],
        active=dims["active"],
        information=dims.get("mutual_information"),
        dead=dims["dead"],
        flat=surrogate.get("flat"),
        explained=surrogate.get("explained"),
        coverage=surrogate.get("coverage_95"),
        points=surrogate.get("points", 0),
        reencoding=again["best"] / again["prior_draws"] if known else None,
    )


def diagnostics_from_records(records: Sequence[Evaluation], settings: Mapping[str, Any], known: int = 0) -> Diagnostics:
    """Derive the measurements from the record of calls, for a run without a report.

    The record says nothing of the decoder and of a surrogate.

    Args:
        records: of evaluations.jsonl.
        settings: of run.json's ``search``.
        known: number of data known before the search.
    """
    rows = sorted(records, key=lambda record: int(record.call or 0))
    sign = -1.0 if settings.get("maximize") else 1.0
    loss = [sign * record.value for record in rows]
    good = [i for i, value in enumerate(loss) if math.isfinite(value)]
    best = min(good, key=lambda i: loss[i], default=None)
    fresh = [call_category(record) == "unique" for record in rows]
    design = design_size(str(settings.get("optimizer", "")), settings, len(rows[0].z) if rows else 0, known)
    first = [loss[i] for i in [i for i in good if fresh[i]][:design]]
    z = torch.tensor([record.z for record in rows], dtype=torch.float64)
    step = last_step(z, torch.tensor(loss, dtype=torch.float64)) if rows else math.nan
    return Diagnostics(
        optimizer=str(settings.get("optimizer", "")),
        counts={"calls": len(rows), **Counter(call_category(record) for record in rows)},
        failure=first_failure(rows),
        constant=_constant([loss[i] for i in good]),
        typical=_mean(float(record.norm_percentile <= MAX_TYPICAL_PERCENTILE) for record in rows),
        atypical_best=None if best is None else float(rows[best].norm_percentile > MAX_TYPICAL_PERCENTILE),
        step=step if math.isfinite(step) else None,
        in_design=None if best is None else float(sum(fresh) > design and loss[best] == min(first, default=math.nan)),
        late=None if best is None else float(_late(best, len(rows))),
        latent_dim=len(rows[0].z) if rows else None,
    )


def _constant(values: Sequence[float]) -> bool:
    return len(values) > 1 and min(values) == max(values)


def _late(best: int, calls: int) -> bool:
    return calls >= MIN_COVERAGE_VALUES and best >= LATE_SHARE * calls


def _mean(values: Any) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
