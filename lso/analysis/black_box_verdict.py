"""Whether to believe black-box searches: stated rules over the numbers of a group, as `lso.analysis.verdict`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lso.analysis.black_box_groups import Group
from lso.analysis.black_box_traces import SearchTrace
from lso.analysis.plausibility import share_within
from lso.analysis.surrogate_calibration import FLAT, equal
from lso.analysis.verdict import ATYPICAL, REENCODING, Check, Level, grade
from lso.optimizers import BLACK_BOX_OPTIMIZERS, controls
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.utils.validation import pluralize

# How often each rule speaks, measured on groups of searches whose optimum is known (benchmarks/verdict_study.py, the
# half of the cases that no threshold was set on; docs/log.md). Of 16 not to be believed, "doubt" is said by: frozen
# decoder of 2, drawing 9, seeds 11, the others of none; by one or another of 14 (missed: 12 %, at most 38 % by the 95 %
# interval). Of 7 to be believed none is doubted by any (false alarms: at most 41 %); drawing and seeds say "care" of
# one each.
WASTED = (0.5, 0.9)  # shares of calls without a new valid object: half of the work, nearly all of it
# Seeds differ by chance; the spread of their bests as a share of what the search gained over its initial designs. Where
# it is the whole gain, the draw of the design decides more than the search does.
SEEDS_APART = (0.25, 1.0)
IN_DESIGN = 0.5  # share of searches that end with the best of their initial design
TYPICAL = 0.5  # share of proposals that are typical, below which the search left the prior
COVERED = (
    0.8  # least share of values within the 95 % intervals; of 20 a calibrated model has under 0.8 one in 400 times
)
FEW = 20  # evaluations below which coverage is not judged
# Share of pairs in which a late proposal beats a draw of an initial design, half by chance: a search that goes for the
# worse, one that has learnt. With fewer draws than that there is nothing to compare with.
WORSE, LEARNT, DRAWS = 0.25, 0.75, 8


def checks(group: Group) -> list[Check]:
    """All rules but those on the decoder, which are `lso.analysis.verdict`'s."""
    makers = (check_calls, check_progress, check_drawing, check_surrogate, check_seeds, check_typicality)
    return [make(group) for make in makers]


def check_calls(group: Group) -> Check:
    """Most calls scored an object that was new and valid."""
    calls, unique = group.total("calls"), group.total("unique")
    rule = (
        f"care if over {100 * WASTED[0]:.0f} % of the calls scored no new valid object, doubt if over "
        f"{100 * WASTED[1]:.0f} % or if there was none; care if a search ended for that reason"
    )
    kinds = ("duplicate", "invalid", "failed", "timed_out")
    lost = [f"{group.total(kind)} {kind.replace('_', ' ')}" for kind in kinds if group.total(kind)]
    found = f"{unique} of {calls} calls scored a new valid object"
    found += f" ({', '.join(lost)})" if lost else ""
    level: Level = "doubt" if not unique else grade(1 - unique / max(1, calls), WASTED)
    vain = ("decoder_ignores_latent", "stands_still", "invalid", "failed")
    early = [one for one in group.courses if one.status in vain]
    found += f"; {len(early)} of {len(group.courses)} searches ended for that reason" if early else ""
    return Check(name="calls", level="care" if early and level == "fine" else level, found=found, rule=rule)


def check_progress(group: Group) -> Check:
    """The search found something better than the draws it began with, and than what it was told."""
    rule = (
        f"doubt if all values are equal; care if over {100 * IN_DESIGN:.0f} % of the searches found nothing better "
        f"than their initial design or than what they were told, or ended within the design; {controls()}, the "
        "control, is not judged by it"
    )
    value = group.joined("value")
    value = value[torch.isfinite(value)]
    if len(value) > 1 and bool((value == value[0]).all()):
        return Check(name="progress", level="doubt", found=f"all values are equal ({float(value[0]):z.4g})", rule=rule)
    stuck = sum(one.in_design for one in group.courses)
    worse = sum(one.behind for one in group.courses)
    total = len(group.courses)
    if group.courses[0].spec.control:
        found = f"{group.courses[0].spec.label} is a control: it learns nothing"
        return Check(name="progress", level="fine", found=found, rule=rule)
    drawn = sum(one.unsearched for one in group.courses)
    found = f"{total - stuck - drawn} of {total} searches improved on their initial design"
    found += f", {drawn} ended within it and only drew" if drawn else ""
    found += f", {worse} found nothing better than what they were told" if worse else ""
    level: Level = "care" if max(stuck + drawn, worse) > IN_DESIGN * total else "fine"
    return Check(name="progress", level=level, found=found, rule=rule)


def check_drawing(group: Group) -> Check:
    """The search found more than as many draws from the prior would have.

    The initial designs of all seeds are such draws, and stand for the control that was not run.
    """
    rule = (
        "the initial designs of all seeds are draws; doubt if the median search found nothing better than the best "
        "that as many draws have in the median (of more draws than there are: the best of them), or if late proposals "
        f"(the second half of those after the design) beat draws in under {100 * WORSE:.0f} % of pairs; care if in "
        f"under {100 * LEARNT:.0f} %, or for {controls()}, which is drawing itself; not judged with under {DRAWS} "
        "draws, or where the best attainable value was found"
    )
    name, sign = "drawing", group.objective.sign
    if group.courses[0].spec.control:
        found = f"{group.courses[0].spec.label} draws and learns nothing: a control"
        return Check(name=name, level="care", found=found, rule=rule)
    if group.best_possible is not None and math.isclose(group.best, group.best_possible, rel_tol=1e-9, abs_tol=1e-12):
        return Check(name=name, level="fine", found="the best attainable value was found", rule=rule)
    drawn = torch.cat([sign * values[torch.isfinite(values)] for values in map(designed, group.courses)])
    if len(drawn) < DRAWS:
        found = f"there are {pluralize(len(drawn), 'draw')} of initial designs, too few to compare with"
        return Check(name=name, level="fine", found=found, rule=rule)
    ahead = [lucky(drawn, one.calls) - sign * one.best for one in group.courses]
    better = sum(gain > 0 for gain in ahead)
    late = torch.cat([sign * values[torch.isfinite(values)] for values in map(latest, group.courses)])
    beaten = (late[:, None] < drawn).double() + 0.5 * (late[:, None] == drawn).double()
    learnt = float(beaten.mean()) if len(late) else float("nan")
    found = f"{better} of {len(ahead)} searches found more than as many draws from the prior would have"
    found += f", and late proposals beat draws in {100 * learnt:z.0f} % of pairs" if len(late) else ""
    level: Level = "fine" if 2 * better >= len(ahead) and learnt >= LEARNT else "care"
    if len(late) and (2 * better < len(ahead) or learnt < WORSE):
        level = "doubt"
    return Check(name=name, level=level, found=found, rule=rule)


def designed(one: SearchTrace) -> Float[Tensor, " n"]:
    """Values of a search's initial design."""
    return one.value[one.fresh & (one.unique <= one.design)]


def latest(one: SearchTrace) -> Float[Tensor, " n"]:
    """Values of the second half of what a search proposed after its initial design."""
    after = one.value[one.unique > one.design]
    return after[len(after) // 2 :]


def lucky(drawn: Float[Tensor, " m"], count: int) -> float:
    """The best that so many draws have in the median, by the draws that are known.

    Args:
        drawn: losses.
        count: of draws.
    Returns:
        Their quantile; the least of them for more draws than there are.
    """
    rank = math.ceil(len(drawn) * (1 - 0.5 ** (1 / max(1, count))))
    return float(drawn.sort().values[rank - 1])


def check_surrogate(group: Group) -> Check:
    """The surrogate foretells values that it has not seen, and knows how well."""
    free = [name for name, row in BLACK_BOX_OPTIMIZERS.items() if row.surrogate_free]
    rule = (
        "over what was evaluated; care if the surrogates of most searches, refitted without a third, explain under "
        f"{100 * FLAT:.0f} % of the variance of that third, or if under {100 * COVERED:.0f} % of {FEW} values or more "
        "lie within their leave-one-out 95 % intervals; not judged for optimizers without a surrogate "
        f"({', '.join(free)})"
    )
    without, pooled = group.courses[0].spec.surrogate_free, group.pooled
    if without or pooled is None:
        found = "the optimizer fits no surrogate" if without else "too few values to judge a surrogate by"
        return Check(name="surrogate", level="fine", found=found, rule=rule)
    if equal(pooled):
        found = "all values are equal: there is nothing to foretell"
        return Check(name="surrogate", level="care", found=found, rule=rule)
    flat = sum(one.flat for one in group.calibrations)
    count, covered = len(group.calibrations), pooled.coverage_95
    loose = len(pooled.observed) >= FEW and covered < COVERED
    found = (
        f"surrogates of {count - flat} of {count} searches, refitted without a third, foretell that third; with all "
    )
    found += (
        f"but one value known the rank correlation is {pooled.rank_correlation:z.2f}, and {100 * covered:z.0f} % lie "
    )
    found += "within the 95 % intervals"
    level: Level = "care" if group.flat or loose else "fine"
    return Check(name="surrogate", level=level, found=found, rule=rule)


def check_seeds(group: Group) -> Check:
    """Different initial designs lead to equally good values."""
    rule = (
        f"care if the best values of the seeds differ by over {100 * SEEDS_APART[0]:.0f} % of the gain over the median "
        f"initial design, doubt if by over {100 * SEEDS_APART[1]:.0f} % "
        f"({controls()}, the control, gains little: care); care if there was one search"
    )
    if group.agreement is None:
        one = len(group.courses) == 1
        found = "there was one search, so that agreement of initial designs is unknown"
        found = found if one else "the searches' best codes cannot be compared"
        return Check(name="seeds", level="care", found=found, rule=rule)
    spread, apart = float(group.agreement.spread[0]), float(group.agreement.relative_spread[0])
    found = f"the best values of {group.agreement.starts} seeds differ by {spread:.3g}"
    found += f" ({100 * apart:z.0f} % of the gain), at {pluralize(group.distinct_best, 'different object')}"
    level = grade(apart, SEEDS_APART)
    level = "care" if level == "doubt" and group.courses[0].spec.control else level
    return Check(name="seeds", level=level, found=found, rule=rule)


def check_typicality(group: Group) -> Check:
    """The best codes lie where the decoder was trained."""
    rule = (
        f"a code is atypical if its norm is above the {100 * MAX_TYPICAL_PERCENTILE:.1f} % point of chi; care if over "
        f"{100 * ATYPICAL[0]:.0f} % of the best codes are, doubt if over {100 * ATYPICAL[1]:.0f} %; care if under "
        f"{100 * TYPICAL:.0f} % of the proposals are typical, or if the median re-encoding error of the best is over "
        f"{REENCODING:.0f} times that of prior draws"
    )
    strange = torch.tensor([one.atypical_best for one in group.courses])
    usual = share_within(group.joined("typical"))
    found = (
        f"{int(strange.sum())} of {len(strange)} best codes are atypical, {100 * usual:z.0f} % of the proposals typical"
    )
    level = grade(share_within(strange), ATYPICAL)
    level = "care" if level == "fine" and usual < TYPICAL else level
    if group.best_reencoding is not None and group.prior_reencoding:
        ratio = group.best_reencoding / group.prior_reencoding
        found += f"; re-encoding error of the best {ratio:.3g} times that of prior draws"
        level = "care" if level == "fine" and ratio > REENCODING else level
    return Check(name="typicality", level=level, found=found, rule=rule)
