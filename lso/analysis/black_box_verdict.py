"""Checks that decide whether black-box searches can be believed; those of the model are in `lso.analysis.verdict`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lso.analysis.black_box_groups import Group
from lso.analysis.black_box_traces import SearchTrace
from lso.analysis.plausibility import share_true
from lso.analysis.surrogate_calibration import MIN_EXPLAINED, all_equal
from lso.analysis.verdict import ATYPICAL_BEST, MAX_REENCODING_RATIO, Check, Level, grade
from lso.optimizers import BLACK_BOX_OPTIMIZERS, control_labels
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.utils.validation import pluralize

# How often each rule speaks, measured on groups of searches whose optimum is known (benchmarks/verdict_study.py, the
# half of the cases that no threshold was set on; docs/log.md). Of 16 groups not to be believed, the check "frozen
# decoder" doubts 2, drawing 9, seeds 11, the others none; one or another doubts 14 (missed: 12 %, at most 38 % by the
# 95 % interval). Of 7 to be believed none is doubted (false alarms: at most 41 %); drawing and seeds give "care" to
# one each.
WASTED_CALLS = (0.5, 0.9)  # shares of calls without a new valid object: half of the work, nearly all of it
# Seeds differ by chance; the spread of their bests as a share of what the search gained over its initial designs. Where
# it is the whole gain, the draw of the design decides more than the search does.
SEEDS_APART = (0.25, 1.0)
IN_DESIGN = 0.5  # share of searches whose best object is one of their initial design
MIN_TYPICAL = 0.5  # share of proposals that are typical, below which the search left the prior
# Share of values within their 95 % intervals; a calibrated model has under 0.8 of 20 values there one in 400 times.
MIN_COVERAGE = 0.8
MIN_COVERAGE_VALUES = 20  # evaluations below which coverage is not judged
# Share of pairs (late proposal, draw of an initial design) that the proposal wins; by chance it is a half. Below the
# first the search moves towards worse values, above the second it has learnt. Fewer draws than that are not judged.
WINS_DOUBT, WINS_CARE, MIN_DRAWS = 0.25, 0.75, 8


def run_checks(group: Group) -> list[Check]:
    """Run every check of black-box searches but those of the decoder and the model (see `lso.analysis.verdict`)."""
    makers = (check_calls, check_progress, check_drawing, check_surrogate, check_seeds, check_typicality)
    return [make(group) for make in makers]


def check_calls(group: Group) -> Check:
    """Check that most calls scored an object that was valid and had not been scored before."""
    calls, unique = group.total("calls"), group.total("unique")
    rule = (
        f"care if over {100 * WASTED_CALLS[0]:.0f} % of the calls scored no new valid object, doubt if over "
        f"{100 * WASTED_CALLS[1]:.0f} % or if there was none; care if a search ended because of that"
    )
    kinds = ("duplicate", "invalid", "failed", "timed_out")
    lost = [f"{group.total(kind)} {kind.replace('_', ' ')}" for kind in kinds if group.total(kind)]
    found = f"{unique} of {calls} calls scored a new valid object"
    found += f" ({', '.join(lost)})" if lost else ""
    level: Level = "doubt" if not unique else grade(1 - unique / max(1, calls), WASTED_CALLS)
    fruitless = ("decoder_ignores_latent", "stands_still", "invalid", "failed")
    early = [trace for trace in group.traces if trace.status in fruitless]
    found += f"; {len(early)} of {len(group.traces)} searches ended because of that" if early else ""
    return Check(name="calls", level="care" if early and level == "fine" else level, found=found, rule=rule)


def check_progress(group: Group) -> Check:
    """Check that the searches found something better than their initial designs and than the data known before."""
    rule = (
        f"doubt if all values are equal; care if over {100 * IN_DESIGN:.0f} % of the searches found nothing better "
        f"than their initial design or than the data known before, or ended within the design; {control_labels()}, the "
        "control, is not judged by it"
    )
    value = group.joined("value")
    value = value[torch.isfinite(value)]
    if len(value) > 1 and bool((value == value[0]).all()):
        return Check(name="progress", level="doubt", found=f"all values are equal ({float(value[0]):z.4g})", rule=rule)
    stuck = sum(trace.in_design for trace in group.traces)
    worse = sum(trace.behind for trace in group.traces)
    total = len(group.traces)
    if group.traces[0].spec.control:
        found = f"{group.traces[0].spec.label} is a control: it learns nothing"
        return Check(name="progress", level="fine", found=found, rule=rule)
    drawn = sum(trace.unsearched for trace in group.traces)
    found = f"{total - stuck - drawn} of {total} searches improved on their initial design"
    found += f", {drawn} ended within it and only drew at random" if drawn else ""
    found += f", {worse} found nothing better than the data known before" if worse else ""
    level: Level = "care" if max(stuck + drawn, worse) > IN_DESIGN * total else "fine"
    return Check(name="progress", level=level, found=found, rule=rule)


def check_drawing(group: Group) -> Check:
    """Check that the searches did better than the same number of draws from the prior.

    The initial designs of all seeds are such draws, and stand in for a random search that was not run.
    """
    rule = (
        "the initial designs of all seeds are draws from the prior; doubt if the median search found nothing better "
        "than as many draws would (their median best; the best known draw, if there are fewer), or if late proposals "
        f"(the second half of those after the design) beat draws in under {100 * WINS_DOUBT:.0f} % of pairs; "
        f"care if in under {100 * WINS_CARE:.0f} %, or for {control_labels()}, which only draws; not judged with under "
        f"{MIN_DRAWS} draws, or where the best attainable value was found"
    )
    name, sign = "drawing", group.objective.sign
    if group.traces[0].spec.control:
        found = f"{group.traces[0].spec.label} draws and learns nothing: a control"
        return Check(name=name, level="care", found=found, rule=rule)
    if group.best_possible is not None and math.isclose(group.best, group.best_possible, rel_tol=1e-9, abs_tol=1e-12):
        return Check(name=name, level="fine", found="the best attainable value was found", rule=rule)
    drawn = torch.cat([sign * values[torch.isfinite(values)] for values in map(design_values, group.traces)])
    if len(drawn) < MIN_DRAWS:
        found = f"the initial designs have {pluralize(len(drawn), 'draw')}, too few to compare with"
        return Check(name=name, level="fine", found=found, rule=rule)
    ahead = [median_best_of_draws(drawn, trace.calls) - sign * trace.best for trace in group.traces]
    better = sum(gain > 0 for gain in ahead)
    late = torch.cat([sign * values[torch.isfinite(values)] for values in map(late_values, group.traces)])
    beaten = (late[:, None] < drawn).double() + 0.5 * (late[:, None] == drawn).double()
    learnt = float(beaten.mean()) if len(late) else float("nan")
    found = f"{better} of {len(ahead)} searches found better values than as many draws from the prior would have"
    found += f", and late proposals beat draws in {100 * learnt:z.0f} % of pairs" if len(late) else ""
    level: Level = "fine" if 2 * better >= len(ahead) and learnt >= WINS_CARE else "care"
    if len(late) and (2 * better < len(ahead) or learnt < WINS_DOUBT):
        level = "doubt"
    return Check(name=name, level=level, found=found, rule=rule)


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


def check_surrogate(group: Group) -> Check:
    """Check that a surrogate predicts values held out from it, and that its intervals are as wide as they should be."""
    free = [name for name, row in BLACK_BOX_OPTIMIZERS.items() if row.surrogate_free]
    rule = (
        "care if the surrogates of most searches, refitted without a third of the values, explain under "
        f"{100 * MIN_EXPLAINED:.0f} % of the variance of that third (R²), or if under {100 * MIN_COVERAGE:.0f} % of "
        f"{MIN_COVERAGE_VALUES} values or more "
        "lie within their leave-one-out 95 % intervals; not judged for optimizers without a surrogate "
        f"({', '.join(free)})"
    )
    without, pooled = group.traces[0].spec.surrogate_free, group.pooled
    if without or pooled is None:
        found = "the optimizer fits no surrogate" if without else "too few values to judge a surrogate by"
        return Check(name="surrogate", level="fine", found=found, rule=rule)
    if all_equal(pooled):
        found = "all values are equal: there is nothing to predict"
        return Check(name="surrogate", level="care", found=found, rule=rule)
    flat = sum(fit.flat for fit in group.calibrations)
    count, covered = len(group.calibrations), pooled.coverage_95
    loose = len(pooled.observed) >= MIN_COVERAGE_VALUES and covered < MIN_COVERAGE
    found = f"surrogates of {count - flat} of {count} searches, refitted without a third of the values, predict that "
    found += "third; with one value left out at a time, predictions and values have rank correlation "
    found += f"{pooled.rank_correlation:z.2f}, and {100 * covered:z.0f} % of the values lie within their 95 % intervals"
    level: Level = "care" if group.flat or loose else "fine"
    return Check(name="surrogate", level=level, found=found, rule=rule)


def check_seeds(group: Group) -> Check:
    """Check that different initial designs lead to equally good values."""
    rule = (
        f"care if the best values of the seeds differ by over {100 * SEEDS_APART[0]:.0f} % of the gain over the median "
        f"initial design, doubt if by over {100 * SEEDS_APART[1]:.0f} % "
        f"({control_labels()}, the control, gains little: care); care if there was one search"
    )
    if group.agreement is None:
        found = "there was one search, so it is unknown whether different initial designs agree"
        found = found if len(group.traces) == 1 else "the searches' best codes cannot be compared"
        return Check(name="seeds", level="care", found=found, rule=rule)
    spread, apart = float(group.agreement.spread[0]), float(group.agreement.relative_spread[0])
    found = f"the best values of {group.agreement.starts} seeds differ by {spread:.3g}"
    found += f" ({100 * apart:z.0f} % of the gain), at {pluralize(group.distinct_best, 'different object')}"
    level = grade(apart, SEEDS_APART)
    level = "care" if level == "doubt" and group.traces[0].spec.control else level
    return Check(name="seeds", level=level, found=found, rule=rule)


def check_typicality(group: Group) -> Check:
    """Check that the best codes lie where the decoder was trained."""
    rule = (
        f"a code is atypical if its norm is above the {100 * MAX_TYPICAL_PERCENTILE:.1f} % point of chi; care if over "
        f"{100 * ATYPICAL_BEST[0]:.0f} % of the best codes are, doubt if over {100 * ATYPICAL_BEST[1]:.0f} %; "
        f"care if under {100 * MIN_TYPICAL:.0f} % of the proposals are typical, or if the median re-encoding error of "
        f"the best is over {MAX_REENCODING_RATIO:.0f} times that of prior draws"
    )
    strange = torch.tensor([trace.atypical_best for trace in group.traces])
    usual = share_true(group.joined("typical"))
    found = (
        f"{int(strange.sum())} of {len(strange)} best codes are atypical, {100 * usual:z.0f} % of the proposals typical"
    )
    level = grade(share_true(strange), ATYPICAL_BEST)
    level = "care" if level == "fine" and usual < MIN_TYPICAL else level
    if group.best_reencoding is not None and group.prior_reencoding:
        ratio = group.best_reencoding / group.prior_reencoding
        found += f"; re-encoding error of the best {ratio:.3g} times that of prior draws"
        level = "care" if level == "fine" and ratio > MAX_REENCODING_RATIO else level
    return Check(name="typicality", level=level, found=found, rule=rule)
