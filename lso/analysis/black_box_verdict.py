"""Rules that decide whether black-box searches can be believed: a row of `BLACK_BOX_RULES` is one rule.

Those on decoder, model and target are shared with searches by gradient (`lso.analysis.verdict`).
"""

import math
import operator
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lso.analysis.black_box_groups import Group
from lso.analysis.black_box_traces import SearchTrace
from lso.analysis.plausibility import share_true
from lso.analysis.surrogate_calibration import MIN_EXPLAINED, all_equal
from lso.analysis.verdict import ATYPICAL_BEST, DECODER, FIT, MODEL, REENCODING_RATIO, ModelEvidence
from lso.black_box.budget import CALL_CATEGORIES
from lso.optimizers import BLACK_BOX_OPTIMIZERS, control_labels
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.verdict import CARE_IF, DOUBT_IF, Case, ErrorRates, Facts, Limit, Rule
from lso.vae.utils.validation import pluralize

WASTED_CALLS = Limit(care=0.5, doubt=0.9)  # shares of calls without a new valid object: half of the work, nearly all
IN_DESIGN = 0.5  # share of searches whose best object is one of their initial design
MIN_TYPICAL = 0.5  # share of proposals that are typical, below which the search left the prior
# Share of values within their 95 % intervals; a calibrated model has under 0.8 of 20 values there one in 400 times.
MIN_COVERAGE = 0.8
MIN_COVERAGE_VALUES = 20  # evaluations below which coverage is not judged
MIN_DRAWS = 8  # draws of the initial designs below which the search is not compared with them
# Seeds differ by chance; the spread of their bests as a share of what the search gained over its initial designs. Where
# it is the whole gain, the draw of the design decides more than the search does.
SEEDS_APART = Limit(care=0.25, doubt=1.0)
FRUITLESS = ("decoder_ignores_latent", "stands_still", "invalid", "failed")  # statuses of searches that ended early


def facts_of_calls(count: Callable[[str], int]) -> Facts:
    """How many calls scored a new valid object, and what became of the others, given their numbers by kind."""
    calls, unique = count("calls"), count("unique")
    wasted = [kind for kind in CALL_CATEGORIES if kind != "unique" and count(kind)]
    lost = ", ".join(f"{count(kind)} {kind.replace('_', ' ')}" for kind in wasted)
    return {"calls": calls, "unique": unique, "lost": lost, "wasted": 1 - unique / max(1, calls)}


def _measure_calls(group: Group) -> Facts:
    early = sum(trace.status in FRUITLESS for trace in group.traces)
    return {**facts_of_calls(group.total), "early": early, "searches": len(group.traces)}


def _measure_progress(group: Group) -> Facts:
    value = group.joined("value")
    value = value[torch.isfinite(value)]
    total, spec = len(group.traces), group.traces[0].spec
    stuck, drawn = sum(trace.in_design for trace in group.traces), sum(trace.unsearched for trace in group.traces)
    worse = sum(trace.behind for trace in group.traces)
    return {
        "equal": len(value) > 1 and bool((value == value[0]).all()),
        "value": float(value[0]) if len(value) else math.nan,
        "control": spec.control,
        "label": spec.label,
        "total": total,
        "improved": total - stuck - drawn,
        "drawn": drawn,
        "worse": worse,
        "no_better": max(stuck + drawn, worse) / total,
    }


DRAWING_CASES = {
    "control": Case(level="care", found="{label} draws and learns nothing: a control"),
    "attained": Case(level="fine", found="the best attainable value was found"),
    "few": Case(level="fine", found="the initial designs have {draws}, too few to compare with"),
}


def _measure_drawing(group: Group) -> Facts:
    """Compare the searches with as many draws from the prior.

    The initial designs of all seeds are such draws, and stand in for a random search that was not run.
    """
    spec, sign, best = group.traces[0].spec, group.objective.sign, group.best_possible
    drawn = torch.cat([sign * values[torch.isfinite(values)] for values in map(design_values, group.traces)])
    facts = {
        "control": spec.control,
        "label": spec.label,
        "attained": best is not None and math.isclose(group.best, best, rel_tol=1e-9, abs_tol=1e-12),
        "few": len(drawn) < MIN_DRAWS,
        "draws": pluralize(len(drawn), "draw"),
    }
    if any(facts[case] for case in DRAWING_CASES):
        return facts
    ahead = [median_best_of_draws(drawn, trace.calls) - sign * trace.best for trace in group.traces]
    better = sum(gain > 0 for gain in ahead)
    late = torch.cat([sign * values[torch.isfinite(values)] for values in map(late_values, group.traces)])
    beaten = (late[:, None] < drawn).double() + 0.5 * (late[:, None] == drawn).double()
    return facts | {
        "better": better,
        "searches": len(ahead),
        "late": len(late),
        "unproposed": not len(late),
        "behind": len(late) and 2 * better < len(ahead),
        "learnt": float(beaten.mean()) if len(late) else None,
    }


def design_values(trace: SearchTrace) -> Float[Tensor, " n"]:
    """Values of a search's initial design."""
    return trace.value[trace.fresh & (trace.unique <= trace.design)]


def late_values(trace: SearchTrace) -> Float[Tensor, " n"]:
    """Values of the second half of what a search proposed after its initial design."""
    after = trace.value[trace.unique > trace.design]
    return after[len(after) // 2 :]


def median_best_of_draws(drawn: Float[Tensor, " m"], count: int) -> float:
    """Median of the best loss among ``count`` draws, estimated from the losses of the draws that are known.

    Half of all samples of n draws have their least loss below the (1 - 0.5^(1/n)) quantile of the losses. With more
    draws asked for than are known, this is the least known loss.
    """
    rank = math.ceil(len(drawn) * (1 - 0.5 ** (1 / max(1, count))))
    return float(drawn.sort().values[rank - 1])


def _measure_surrogate(group: Group) -> Facts:
    without, pooled = group.traces[0].spec.surrogate_free, group.pooled
    if without or pooled is None:
        return {"without": without, "unknown": True}
    count, covered = len(group.calibrations), pooled.coverage_95
    return {
        "equal": all_equal(pooled),
        "useful": count - sum(fit.flat for fit in group.calibrations),
        "count": count,
        "correlation": pooled.rank_correlation,
        "covered": covered,
        "coverage": covered if len(pooled.observed) >= MIN_COVERAGE_VALUES else None,
        "flat": group.flat,
    }


def _measure_seeds(group: Group) -> Facts:
    if group.agreement is None:
        return {"alone": len(group.traces) == 1, "incomparable": True}
    apart = float(group.agreement.relative_spread[0])
    return {
        "starts": group.agreement.starts,
        "spread": float(group.agreement.spread[0]),
        "share": apart,
        # A control gains little: its seeds may differ by more than that.
        "apart": min(apart, SEEDS_APART.doubt) if group.traces[0].spec.control else apart,
        "objects": pluralize(group.distinct_best, "different object"),
    }


def _measure_typicality(group: Group) -> Facts:
    strange = torch.tensor([trace.atypical_best for trace in group.traces])
    known = group.best_reencoding is not None and bool(group.prior_reencoding)
    return {
        "number": int(strange.sum()),
        "total": len(strange),
        "atypical": share_true(strange),
        "typical": share_true(group.joined("typical")),
        "encoded": known,
        "ratio": (group.best_reencoding or 0.0) / (group.prior_reencoding or 1.0) if known else None,
    }


def _evidence(group: Group) -> ModelEvidence:
    return group.evidence


# One or another rule doubts 14 of 16 groups not to be believed (missed: 12 %, at most 38 % by the 95 % interval), none
# of 7 to be believed (false alarms: at most 41 %).
BLACK_BOX_RULES: Sequence[Rule[Group]] = (
    DECODER.on(_evidence, ErrorRates(unsound=16, doubted=2, sound=7)),
    MODEL.on(_evidence, ErrorRates(unsound=16, doubted=0, sound=7)),
    Rule(
        name="calls",
        measure=_measure_calls,
        limits={"wasted": WASTED_CALLS, "early": CARE_IF},
        found="{unique} of {calls} calls scored a new valid object[lost? ({lost})][early?; {early} of {searches} "
        "searches ended because of that]",
        rule="care if over {wasted.care:.0%} of the calls scored no new valid object, doubt if over "
        "{wasted.doubt:.0%} or if there was none; care if a search ended because of that",
        rates=ErrorRates(unsound=16, doubted=0, sound=7),
    ),
    Rule(
        name="progress",
        measure=_measure_progress,
        cases={
            "equal": Case(level="doubt", found="all values are equal ({value:z.4g})"),
            "control": Case(level="fine", found="{label} is a control: it learns nothing"),
        },
        limits={"no_better": Limit(care=IN_DESIGN)},
        found="{improved} of {total} searches improved on their initial design[drawn?, {drawn} ended within it and "
        "only drew at random][worse?, {worse} found nothing better than the data known before]",
        rule="doubt if all values are equal; care if over {no_better.care:.0%} of the searches found nothing better "
        "than their initial design or than the data known before, or ended within the design; {controls}, the "
        "control, is not judged by it",
        terms={"controls": control_labels()},
        rates=ErrorRates(unsound=16, doubted=0, sound=7),
    ),
    Rule(
        name="drawing",
        measure=_measure_drawing,
        cases=DRAWING_CASES,
        # Share of pairs (late proposal, draw of an initial design) that the proposal wins; by chance it is a half.
        # Below 1/4 the search moves towards worse values, above 3/4 it has learnt.
        limits={
            "behind": DOUBT_IF,
            "learnt": Limit(care=0.75, doubt=0.25, beyond=operator.lt),
            "unproposed": CARE_IF,
        },
        found="{better} of {searches} searches found better values than as many draws from the prior would "
        "have[late?, and late proposals beat draws in {learnt:z.0%} of pairs]",
        rule="the initial designs of all seeds are draws from the prior; doubt if the median search found nothing "
        "better than as many draws would (their median best; the best known draw, if there are fewer), or if late "
        "proposals (the second half of those after the design) beat draws in under {learnt.doubt:.0%} of pairs; care "
        "if in under {learnt.care:.0%}, or for {controls}, which only draws; not judged with under {min_draws} draws, "
        "or where the best attainable value was found",
        terms={"controls": control_labels(), "min_draws": MIN_DRAWS},
        rates=ErrorRates(unsound=16, doubted=9, sound=7, false_cares=1),
    ),
    Rule(
        name="surrogate",
        measure=_measure_surrogate,
        cases={
            "without": Case(level="fine", found="the optimizer fits no surrogate"),
            "unknown": Case(level="fine", found="too few values to judge a surrogate by"),
            "equal": Case(level="care", found="all values are equal: there is nothing to predict"),
        },
        limits={"flat": CARE_IF, "coverage": Limit(care=MIN_COVERAGE, beyond=operator.lt)},
        found="surrogates of {useful} of {count} searches, refitted without a third of the values, predict that "
        "third; with one value left out at a time, predictions and values have rank correlation {correlation:z.2f}, "
        "and {covered:z.0%} of the values lie within their 95 % intervals",
        rule="care if the surrogates of most searches, refitted without a third of the values, explain under "
        "{explained:.0%} of the variance of that third (R²), or if under {coverage.care:.0%} of {values} values or "
        "more lie within their leave-one-out 95 % intervals; not judged for optimizers without a surrogate ({free})",
        terms={
            "explained": MIN_EXPLAINED,
            "values": MIN_COVERAGE_VALUES,
            "free": ", ".join(name for name, row in BLACK_BOX_OPTIMIZERS.items() if row.surrogate_free),
        },
        rates=ErrorRates(unsound=16, doubted=0, sound=7),
    ),
    Rule(
        name="seeds",
        measure=_measure_seeds,
        cases={
            "alone": Case(
                level="care",
                found="there was one search, so it is unknown whether different initial designs agree",
            ),
            "incomparable": Case(level="care", found="the searches' best codes cannot be compared"),
        },
        limits={"apart": SEEDS_APART},
        found="the best values of {starts} seeds differ by {spread:.3g} ({share:z.0%} of the gain), at {objects}",
        rule="care if the best values of the seeds differ by over {apart.care:.0%} of the gain over the median "
        "initial design, doubt if by over {apart.doubt:.0%} ({controls}, the control, gains little: care); care if "
        "there was one search",
        terms={"controls": control_labels()},
        rates=ErrorRates(unsound=16, doubted=11, sound=7, false_cares=1),
    ),
    Rule(
        name="typicality",
        measure=_measure_typicality,
        limits={
            "atypical": ATYPICAL_BEST,
            "typical": Limit(care=MIN_TYPICAL, beyond=operator.lt),
            "ratio": REENCODING_RATIO,
        },
        found="{number} of {total} best codes are atypical, {typical:z.0%} of the proposals typical[encoded?; "
        "re-encoding error of the best {ratio:.3g} times that of prior draws]",
        rule="a code is atypical if its norm is above the {percentile:.1%} point of chi; care if over "
        "{atypical.care:.0%} of the best codes are, doubt if over {atypical.doubt:.0%}; care if under "
        "{typical.care:.0%} of the proposals are typical, or if the median re-encoding error of the best is over "
        "{ratio.care:.0f} times that of prior draws",
        terms={"percentile": MAX_TYPICAL_PERCENTILE},
        rates=ErrorRates(unsound=16, doubted=0, sound=7),
    ),
    FIT.on(_evidence),  # not studied: the searches of the study have no targets
)
