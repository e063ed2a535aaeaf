"""Likely reasons why a black-box search failed, from the files of the run alone: the rules of `lso doctor`."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lso.analysis.black_box_traces import design_size, first_failure, last_step
from lso.analysis.black_box_verdict import IN_DESIGN, MIN_COVERAGE, MIN_COVERAGE_VALUES, MIN_TYPICAL, WASTED_CALLS
from lso.analysis.latent_dimensions import name_dimensions
from lso.black_box.budget import call_category
from lso.optimizers import BlackBoxSpec, black_box_spec, control_labels, recommended_optimizers
from lso.results.result import Evaluation
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.collapse import AMPLE_NATS, COLLAPSED_SHARE, least
from lso.vae.utils.validation import pluralize

# Distance of the last proposals from the best code, relative to that of two prior draws, below which a search no longer
# moves. A trust region at its usual least size (2^-7 of a box of +-3) proposes at about 0.01 to 0.02.
STEP_FLOOR = 0.02
MAX_AT_BOUND = 0.2  # share of coordinates at a bound; of prior draws in a box of +-3 it is 0.3 %
LATE_SHARE = 0.9  # share of the calls after which a new best says that the search was still gaining
TRAIN_BETTER = "Train a model whose latents are used (lso train --method ne-vae-se)."


@dataclass(frozen=True, slots=True)
class Finding:
    """A likely reason of a failure (``problem``), or something worth knowing (``note``).

    Args:
        level: ``problem`` or ``note``.
        what: a sentence with the number.
        remedy: what to do.
    """

    level: Literal["note", "problem"]
    what: str
    remedy: str


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
        return self.active == 0 or self.information < least(self.latent_dim) or (few and self.information < AMPLE_NATS)


def diagnose(signs: Diagnostics) -> list[Finding]:
    """Apply all rules; the most basic reasons come first."""
    return [cause for rule in RULES for cause in rule(signs)]


def _scores(s: Diagnostics) -> Iterator[Finding]:
    failed, late = s.counts.get("failed", 0), s.counts.get("timed_out", 0)
    calls, message = s.counts.get("calls", 0), f": {s.failure}" if s.failure else ""
    level: Literal["note", "problem"] = "problem" if s.share("failed", "timed_out") > WASTED_CALLS[0] else "note"
    if failed:
        yield Finding(
            level, f"the score failed in {failed} of {pluralize(calls, 'call')}{message}", "Correct the score."
        )
    if late:
        what = f"{late} of {pluralize(calls, 'call')} timed out"
        yield Finding(level, what, "Raise the timeout, or make the score faster.")
    if s.share("invalid") > WASTED_CALLS[0]:
        what = f"{s.counts['invalid']} of {pluralize(calls, 'call')} decoded to invalid objects"
        yield Finding(
            "problem",
            what,
            "Look at what the model decodes (lso sample), and at which objects the score calls invalid.",
        )


def _duplicates(s: Diagnostics) -> Iterator[Finding]:
    if s.share("duplicate") <= WASTED_CALLS[0]:
        return
    what = f"{s.counts['duplicate']} of {pluralize(s.counts['calls'], 'call')} decoded to objects seen before"
    if s.collapsed:
        yield Finding("problem", f"{what}: the decoder ignores most of its latents", TRAIN_BETTER)
    elif s.step is not None and s.step < STEP_FLOOR:
        yield Finding("problem", f"{what}: the search no longer moves", "Search again from another --seed.")
    else:
        yield Finding(
            "problem", f"{what}: many codes decode to the same object", f"Widen the bounds a little. {TRAIN_BETTER}"
        )


def _latents(s: Diagnostics) -> Iterator[Finding]:
    total = s.latent_dim
    if s.collapsed:
        reacted = f"the decoder reacts to {s.active} of {pluralize(total or 0, 'latent dimension')}"
        parts = [reacted] * (s.active is not None)
        parts += [f"the codes carry {s.information:z.2f} nats" for _ in range(s.information is not None)]
        yield Finding("problem", f"collapsed: {', '.join(parts)}", TRAIN_BETTER)
    if 0 < len(s.dead) < (s.latent_dim or 0):  # where all are dead, no dimension is left to search
        what = (
            f"{len(s.dead)} of {total} latent dimensions are dead ({name_dimensions(s.dead)}): what is "
            "proposed there changes nothing"
        )
        yield Finding("note", what, 'Search the active ones only: --chart active, LatentSpace(..., chart="active").')


def _values(s: Diagnostics) -> Iterator[Finding]:
    if s.constant and s.counts.get("unique", 0) <= 1:
        return  # one object is too few to judge the score or a surrogate by
    if s.constant:
        yield Finding(
            "problem",
            "all values are equal: the score is flat, and there is nothing to search for",
            "Look at the score.",
        )
        return
    if s.spec.surrogate_free or s.flat is None:
        return
    if s.flat:
        found = "" if s.explained is None else f" ({100 * max(0.0, s.explained):z.0f} % of their variance)"
        remedy = "Raise the budget, search fewer dimensions (the active ones, or a smaller model), or try "
        remedy += f"{recommended_optimizers('flat surrogate')}."
        what = (
            f"the surrogate is flat: refitted without a third of the values, it predicts next to nothing of them{found}"
        )
        yield Finding("problem", what, remedy)
    elif s.coverage is not None and s.points >= MIN_COVERAGE_VALUES and s.coverage < MIN_COVERAGE:
        what = f"the surrogate is too sure of itself: {100 * s.coverage:z.0f} % of values within their 95 % intervals"
        yield Finding(
            "note", what, f"Try {recommended_optimizers('overconfident surrogate')}, or a larger initial design."
        )


def _typicality(s: Diagnostics) -> Iterator[Finding]:
    remedy = "Leave the guard on, and keep the bounds within +-3."
    if s.typical is not None and s.typical < MIN_TYPICAL:
        every = "all" if s.typical == 0 else f"{100 * (1 - s.typical):z.0f} % of the"
        yield Finding("problem", f"{every} proposals are atypical: the decoder was never trained there", remedy)
    if s.atypical_best:
        what = f"the best code is atypical in {100 * s.atypical_best:z.0f} % of the searches"
        yield Finding("problem", what, "Take the best typical one, which the report also shows. " + remedy)
    if s.at_bound is not None and s.at_bound > MAX_AT_BOUND:
        yield Finding("note", f"{100 * s.at_bound:z.0f} % of the coordinates lie at a bound", remedy)


def _motion(s: Diagnostics) -> Iterator[Finding]:
    if s.step is not None and s.step < STEP_FLOOR and not s.spec.control:
        what = f"the step size is at its floor: the last proposals lie within {100 * s.step:.2g} % of a prior draw's "
        what += "distance from the best code"
        yield Finding("note", what, "More calls will not help; search again from another --seed, or with restarts.")
    if s.unsearched is not None and s.unsearched > IN_DESIGN:
        what = (
            f"{100 * s.unsearched:z.0f} % of the searches spent their budget within the initial design: they drew at "
        )
        remedy = "Raise the budget, or make the initial design smaller where it can be set"
        remedy += "." if s.spec.surrogate_free else f" ({s.optimizer}:initial=20)."
        yield Finding("problem", what + "random and learnt nothing", remedy)
    if s.in_design is not None and s.in_design > IN_DESIGN and not s.spec.control:
        what = f"{100 * s.in_design:z.0f} % of the searches found nothing better than their initial design"
        yield Finding("problem", what, f"Compare with {control_labels()} at the same budget; raise the budget.")
    elif s.late is not None and s.late > 0.5:
        what = f"the best came in the last tenth of the calls in {100 * s.late:z.0f} % of the searches: still gaining"
        yield Finding("note", what, "Go on with a larger budget (--resume).")


RULES: tuple[Callable[[Diagnostics], Iterator[Finding]], ...] = (
    _scores,
    _duplicates,
    _latents,
    _values,
    _typicality,
    _motion,
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
