"""Whether to believe weighted retraining: stated rules over its numbers, in the manner of `lso.belief`."""

import torch

from lso.belief import ATYPICAL, Check, Level, graded
from lso.black_box_verdict import TYPICAL, WASTED
from lso.space import OUTSIDE
from lso.tables import number, percent
from lso.tasks.retraining_summary import TOP, RetrainingSummary, share_typical, typical
from lso.vae.values import counted
from lso.vae.verdict import AMPLE, FULL, LITTLE

STALE = 0.5  # share of earlier codes that still decode to their objects, below which they are called stale
FORGOTTEN = 0.5  # share of the anchors that the first retrained model reproduced, below which the data are forgotten
JUDGED = 0.1  # share of the anchors reproduced by the first retrained model, below which forgetting is not judged


def check_model(s: RetrainingSummary) -> Check:
    """The retrained model still uses enough of its latents.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = f"doubt if the codes of the last model carry under {LITTLE:g} nat about validation data, or under {AMPLE:g} "
    rule += "in under a fifth of the dimensions, or if the first training said that its latents are not in use; care "
    rule += f"if they carry under {FULL:g} nats"
    if s.use is None:
        return Check(name="model", level="care", found="no round is complete", rule=rule)
    found = f"of the last model {s.use.told()}"
    found += "; the first training said that its latents are not in use" if s.training else ""
    level: Level = "doubt" if s.training or s.use.collapsed else "care" if s.use.scanty else "fine"
    return Check(name="model", level=level, found=found, rule=rule)


def check_calls(s: RetrainingSummary) -> Check:
    """Most calls scored an object that was new and valid.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = f"care if over {100 * WASTED[0]:.0f} % of the calls scored no new valid object, doubt if over "
    rule += f"{100 * WASTED[1]:.0f} % or if there was none"
    calls, unique = s.counters["calls"], s.counters["unique"]
    kinds = ("duplicate", "invalid", "failed", "timed_out")
    lost = [f"{s.counters[kind]} {kind.replace('_', ' ')}" for kind in kinds if s.counters[kind]]
    found = f"{unique} of {counted(calls, 'call')} scored a new valid object"
    found += f" ({', '.join(lost)})" if lost else ""
    level: Level = "doubt" if not unique else graded(1 - unique / max(1, calls), WASTED)
    return Check(name="calls", level=level, found=found, rule=rule)


def check_retraining(s: RetrainingSummary) -> Check:
    """Later rounds found better objects than the first one.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
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
    told = apart(first, later)
    found = f"the search after the first retraining came to {told[0]}, {others} to {told[1]}"
    found += "" if gained else ", which is no better"
    before, after = whole[0].median, whole[-1].median
    better = before is not None and after is not None and s.sign * after < s.sign * before
    told = apart(before, after)
    found += f"; the median object of the first round is worth {told[0]}, that of the last {told[1]}"
    found += "" if better else ", which is no better"
    return Check(name=name, level="fine" if gained and better else "care", found=found, rule=rule)


def check_data(s: RetrainingSummary) -> Check:
    """Something better than the training data was found.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = "care if nothing found is better than the best of the training data"
    known, best = s.best_of_data, s.result.best
    if known is None or best is None:
        return Check(name="data", level="care", found="there are no values to compare", rule=rule)
    better = s.sign * best.value < s.sign * known
    told = apart(known, best.value)
    found = (
        f"the best of {len(s.result.data or ()):,} training data is worth {told[0]}, the best object found {told[1]}"
    )
    found += ", no better" * (not better)
    return Check(name="data", level="fine" if better else "care", found=found, rule=rule)


def check_typicality(s: RetrainingSummary) -> Check:
    """The best codes lie where decoders are trained.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = f"a code is atypical if its norm is above the {100 * OUTSIDE:.1f} % point of chi; care if over "
    rule += f"{100 * ATYPICAL[0]:.0f} % of the best {TOP} are, doubt if over {100 * ATYPICAL[1]:.0f} %; care if under "
    rule += f"{100 * TYPICAL:.0f} % of the proposals are typical"
    best = [not typical(record) for _, record in s.ranked[:TOP]]
    usual = share_typical(s)
    found = (
        f"{sum(best)} of the best {counted(len(best), 'code')} are atypical, {percent(usual)} of the proposals typical"
    )
    level = graded(sum(best) / max(1, len(best)), ATYPICAL)
    level = "care" if level == "fine" and usual < TYPICAL else level
    return Check(name="typicality", level=level, found=found, rule=rule)


def check_control(s: RetrainingSummary) -> Check:
    """Whether the budget would have done as much without retraining.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = "care: a plain search of the same budget is the control, and other seeds say how much is chance"
    found = "this is one search by one seed"
    if (ends := s.gain) is not None and check_retraining(s).level == "fine":
        told = apart(*ends)
        found = f"the best went from {told[0]} after the first retraining to {told[1]} in the end, by "
        found += "one seed, and more calls alone find more as well"
    found += ": a plain search of the same budget beside it (lso report) tells what retraining is worth"
    return Check(name="control", level="care", found=found, rule=rule)


def check_anchors(s: RetrainingSummary) -> Check:
    """The model still knows its training data.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = f"care if the last model reproduces under {100 * FORGOTTEN:.0f} % of the share of training data that the "
    rule += f"first retrained one did; not judged where that is under {100 * JUDGED:.0f} %, nor of images, which count "
    rule += "only if every pixel agrees as 0 and 1"
    if not s.rows:
        return Check(name="anchors", level="fine", found="no round is complete", rule=rule)
    first, last = s.rows[0].anchors.reproduced, s.rows[-1].anchors.reproduced
    judged = s.exact and first >= JUDGED
    forgot = judged and last < FORGOTTEN * first
    found = f"the first retrained model reproduces {percent(first)} of the training data that are followed, the last "
    found += percent(last) + (": it has forgotten them" if forgot else ", which is not judged" * (not judged))
    return Check(name="anchors", level="care" if forgot else "fine", found=found, rule=rule)


def check_codes(s: RetrainingSummary) -> Check:
    """The codes of earlier rounds still stand for their objects.

    Args:
        s: the numbers.
    Returns:
        The check.
    """
    rule = f"care if the last model decodes under {100 * STALE:.0f} % of the objects that earlier rounds found from "
    rule += "the codes they were found at; an image counts where the decode is nearer to it than to any other found"
    if s.stale is None:
        found = "no object was found before the last retraining"
        return Check(name="codes", level="fine", found=found, rule=rule)
    total, share = s.stale
    what = "what" if s.exact else "nearest to what"
    found = f"of {counted(total, 'object')} found before the last retraining, {percent(share)} are still {what} the "
    found += "last model decodes from their codes"
    found += ": codes of earlier rounds are stale, keep the objects, or each code with its round's model" * (
        share < STALE
    )
    return Check(name="codes", level="care" if share < STALE else "fine", found=found, rule=rule)


CHECKS = (
    check_model,
    check_calls,
    check_retraining,
    check_data,
    check_typicality,
    check_control,
    check_anchors,
    check_codes,
)


def apart(one: float | None, other: float | None) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart.

    Args:
        one: a number.
        other: another, or the same.
    Returns:
        Their texts, of four to eight digits.
    """
    pairs = [(number(one, digits), number(other, digits)) for digits in range(4, 9)]
    return next((pair for pair in pairs if pair[0] != pair[1] or one == other), pairs[-1])
