"""Checks that decide whether the result of a search can be believed, and the verdict that follows from them.

Each rule is a `Check` with a level. One ``doubt`` makes the verdict "do not believe"; else one ``care`` makes it
"believe with care".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lso.analysis.convergence import MOVING_SHARE, Convergence, finite_median
from lso.analysis.latent_dimensions import WEAK_BELOW, Dimensions, name_dimensions
from lso.analysis.plausibility import Plausibility, share_true
from lso.analysis.reproduction import BOUND_DEVIATIONS, MIN_SHARE, Reproduction
from lso.analysis.start_sensitivity import BASIN_LINK, Sensitivity
from lso.decoders.decoder import DecoderFinding
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.collapse import AMPLE_NATS, COLLAPSED_NATS, COLLAPSED_SHARE, FULL_NATS, LatentUse

Level = Literal["fine", "care", "doubt"]
LEVELS: tuple[Level, ...] = ("fine", "care", "doubt")

# How often each rule speaks, measured on searches whose truth is known (benchmarks/verdict_study.py, the half of the
# cases that no threshold was set on; docs/log.md). Of 48 searches not to be believed, the check "frozen
# decoder" doubts 8, model 11, convergence 13, starts 15, typicality 11, fit 37; one or another doubts 47 (missed: 2 %,
# at most 11 % by the 95 % interval). Of 15 to be believed none is doubted (false alarms: at most 22 %); starts and
# fit give "care" to one each.
UNFINISHED_SEARCHES = (0.1, 0.5)  # shares of elements still gaining or failed: care, doubt
MAX_SPREAD = 0.05  # by how much the final values of a target's starts may differ, as a share of its gain
DISAGREEING_TARGETS = (0.25, 0.75)  # shares of targets whose starts disagree: care, doubt
ATYPICAL_BEST = (0.1, 0.5)  # shares of best results that are atypical: care, doubt
MAX_REENCODING_RATIO = 4.0  # re-encoding error, as a multiple of the median of prior draws
# Kinds of findings after which a decoder is no fixed function of the code.
UNSTABLE = ("train-mode", "non-deterministic", "batch-dependent", "stateful")
# Shares of the median target reproduced: fine from the first on, doubt below the second. On digits the medians are 0.5
# for held-out ones, 0.2 for inverted ones, 0.1 for noise, and 0 with a collapsed model (docs/log.md).
MEDIAN_REPRODUCED = (0.3, 0.15)
MISSED_SHARE = 0.5  # share of targets not reproduced from which on the search is doubted
MAX_NAMED = 8  # targets that a sentence names
# Variation of decoded prior draws relative to that of the targets, below which the model cannot follow the targets.
UNRESPONSIVE_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule, applied to one search.

    Args:
        name: such as "convergence".
        level: "fine", "care" or "doubt".
        found: what was measured, in words with the number.
        rule: the rule in words, with its thresholds.
    """

    name: str
    level: Level
    found: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a result can be believed.

    Args:
        level: the worst level of the checks.
        sentence: one or two plain sentences.
        checks: what the verdict follows from.
        training: the verdict of the training run on its latents; empty where it found no fault.
    """

    level: Level
    sentence: str
    checks: list[Check]
    training: str = ""


def grade(value: float, limits: tuple[float, float]) -> Level:
    """Level of a share: care above the first limit, doubt above the second."""
    return LEVELS[(value > limits[0]) + (value > limits[1])]


def check_decoder_stability(unchanged: bool, findings: Sequence[DecoderFinding] = ()) -> Check:
    """Check that the decoder was one fixed function of the code throughout the search.

    Args:
        unchanged: whether the hash of weights and buffers is the same as before the search.
        findings: what `Decoder.check` and decoding the found codes again brought up.
    """
    found = ["the decoder's weights changed during the search"] * (not unchanged)
    found += [f"the decoder: {finding.message}" for finding in findings if finding.kind in UNSTABLE and finding.serious]
    rule = f"doubt if the hash of weights and buffers changed, or if the decoder was found to be {', '.join(UNSTABLE)}"
    text = "; ".join(found) or "the decoder's weights did not change during the search"
    return Check(name="frozen decoder", level="doubt" if found else "fine", found=text, rule=rule)


def check_model(
    dimensions: Dimensions, reaction: float | None, training: str = "", use: LatentUse | None = None
) -> Check:
    """Check that the decoder depends on its codes, and strongly enough for the targets.

    Args:
        dimensions: how strongly the decoder reacts to each latent dimension.
        reaction: variation of decoded prior draws relative to the targets (see `DecodedMetric.reaction`); None where
            it is not known.
        training: the training run's verdict that its latents are not in use; empty where they are.
        use: what the codes of the training's validation split carry, where they are known.
    """
    total, active = len(dimensions.sensitivity), int(dimensions.active.sum())
    deaf = reaction is not None and reaction < UNRESPONSIVE_SHARE
    collapsed = not active or bool(training) or (use is not None and use.collapsed)
    # Dead dimensions take nothing from what the others do: a decoder of 8 with 152 dead ones is searched as well.
    few = active < COLLAPSED_SHARE * total and use is None and reaction is None
    found = f"the decoder reacts to {active} of {total} latent dimensions"
    if use is not None:
        found += f", the codes carry {use.information:z.2f} nats about the data "
        found += f"(active units of the encoder: {use.active_units})"
    found += "; the training reported that its latents are not in use" if training else ""
    if deaf and reaction is not None:
        found += f"; decoded prior draws vary only {100 * reaction:z.1f} % as much as the targets do"
    rule = (
        f"doubt if the decoder ignores its codes; if codes carry under {COLLAPSED_NATS:g} nat about the data (half of "
        f"that with one latent dimension), or under {AMPLE_NATS:g} nats in under a fifth of the dimensions; "
        f"if decoded prior draws vary under {100 * UNRESPONSIVE_SHARE:.0f} % as much as the targets do; or if the "
        f"training reported that the latents are not in use. Care if codes carry under {FULL_NATS:g} nats (half of "
        "that with one latent dimension), or if neither codes of data nor targets are known and under a fifth of the "
        f"dimensions are active. Active: the decoder reacts to it, with at least {100 * WEAK_BELOW:.0f} % of the "
        "largest squared effect; a training report counts otherwise, by the nats that the decoder uses"
    )
    scanty = use is not None and use.scanty
    level: Level = "doubt" if deaf or collapsed else "care" if few or scanty else "fine"
    return Check(name="model", level=level, found=found, rule=rule)


def check_convergence(convergence: Convergence) -> Check:
    """Check that the elements of the search no longer gained when they stopped."""
    count, moving, failed = convergence.failed.numel(), int(convergence.moving.sum()), int(convergence.failed.sum())
    found = f"{count - moving - failed} of {count} searches had levelled off"
    found += f", {moving} {'was' if moving == 1 else 'were'} still gaining" if moving else ""
    found += f", {failed} failed (not finite)" if failed else ""
    limit = convergence.stopped.get("max_steps", 0)
    found += f" ({limit} stopped at the step limit)" if limit else ""
    rule = (
        f"a search is still gaining if its last tenth of steps brought over {100 * MOVING_SHARE:.0f} % of its own gain "
        f"and of the median gain on its target; care if over {100 * UNFINISHED_SEARCHES[0]:.0f} % of searches were "
        f"still gaining or failed, doubt if over {100 * UNFINISHED_SEARCHES[1]:.0f} %; doubt if the median target "
        "gained nothing"
    )
    level = grade((moving + failed) / max(1, count), UNFINISHED_SEARCHES)
    if count and float(finite_median(convergence.drop)) <= 0 and not bool((convergence.gap == 0).all()):
        return Check(name="convergence", level="doubt", found=found + "; the median target gained nothing", rule=rule)
    return Check(name="convergence", level=level, found=found, rule=rule)


def check_starts(sensitivity: Sensitivity) -> Check:
    """Check that different starts end at the same value and at the same decoded datum."""
    rule = (
        f"starts disagree on a target if their final values differ by over {100 * MAX_SPREAD:.0f} % of the gain; care "
        f"if they do on over {100 * DISAGREEING_TARGETS[0]:.0f} % of targets, doubt if on over "
        f"{100 * DISAGREEING_TARGETS[1]:.0f} %; care if over half of the targets have several basins (single linkage "
        f"of decoded results at {100 * BASIN_LINK:.0f} % of the distance between two decoded prior draws)"
    )
    if sensitivity.starts < 2:
        found = "there was one start per target, so it is unknown whether starts agree"
        return Check(name="starts", level="care", found=found, rule=rule)
    apart = ~(sensitivity.relative_spread <= MAX_SPREAD)
    several = sensitivity.basins > 1
    total = len(several)
    found = f"starts end at different values on {int(apart.sum())} of {total} targets"
    found += f" and at different results on {int(several.sum())}"
    level: Level = grade(share_true(apart), DISAGREEING_TARGETS)
    if level == "fine" and share_true(several) > 0.5:
        level = "care"
    return Check(name="starts", level=level, found=found, rule=rule)


def check_plausibility(best: Plausibility, prior: Plausibility) -> Check:
    """Check that the best codes lie where the decoder was trained."""
    rule = (
        f"a code is atypical if its norm over active dimensions is above the {100 * MAX_TYPICAL_PERCENTILE:.1f} % "
        "quantile of the chi distribution (the norms of prior draws), or if it is farther from the codes of the data "
        f"than each of those is; care if over {100 * ATYPICAL_BEST[0]:.0f} % of best codes are, doubt if over "
        f"{100 * ATYPICAL_BEST[1]:.0f} %; care if the median re-encoding error is over {MAX_REENCODING_RATIO:.0f} "
        "times that of prior draws"
    )
    number, total = int(best.atypical.sum()), best.atypical.numel()
    norm, usual = (float(finite_median(x.norm_active)) for x in (best, prior))
    norms = f"median norm over active dimensions {norm:.3g}, that of prior draws {usual:.3g}"
    found = f"{number} of {total} best codes are atypical ({norms})"
    level = grade(share_true(best.atypical), ATYPICAL_BEST)
    if best.reencoding_active is not None and prior.reencoding_active is not None:
        ratio = float(finite_median(best.reencoding_active) / finite_median(prior.reencoding_active).clamp_min(1e-12))
        found += f"; their re-encoding error is {ratio:.3g} times that of prior draws"
        level = "care" if level == "fine" and ratio > MAX_REENCODING_RATIO else level
    return Check(name="typicality", level=level, found=found, rule=rule)


def check_fit(
    found: Reproduction,
    names: Sequence[str] = (),
    fitted: str = "what distinguishes the median target from the mean of decoded prior draws",
    measure: str = "1 - squared error / squared error of the mean of decoded prior draws",
) -> Check:
    """Check that each target was reproduced; the targets that were not are named.

    Args:
        found: how well each target was reproduced.
        names: of the targets; without them they are numbered.
        fitted: what the share reproduced is a share of, in words.
        measure: the formula of the share, in words.
    """
    middling, missed = float(finite_median(found.share)), share_true(found.missed)
    text = f"the best results reproduce {100 * max(middling, 0.0):z.0f} % of {fitted}"
    shape = "" if found.shape is None else " or of what distinguishes it from its own mean colour"
    cost = ""
    if found.bound is not None:
        cost = f", or if -log p(target | its best code) is over {found.bound:.3g} nats (the mean plus "
        cost += f"{BOUND_DEVIATIONS:g} standard deviations over data drawn from the decoder itself)"
    rule = (
        f"a target is not reproduced if the best result has under {100 * MIN_SHARE:.0f} % of it ({measure}){shape}"
        f"{cost}; care if a target is not reproduced or the median share is under {100 * MEDIAN_REPRODUCED[0]:.0f} %, "
        f"doubt if {100 * MISSED_SHARE:.0f} % of targets or more are not reproduced or the median share is under "
        f"{100 * MEDIAN_REPRODUCED[1]:.0f} % or not known"
    )
    level: Level = (
        "fine" if middling >= MEDIAN_REPRODUCED[0] else "care" if middling >= MEDIAN_REPRODUCED[1] else "doubt"
    )
    if missed:
        level = max(level, "care" if missed < MISSED_SHARE else "doubt", key=LEVELS.index)
        text = f"{_describe_missed(found, names)}; {text}"
    return Check(name="fit", level=level, found=text, rule=rule)


def _describe_missed(found: Reproduction, names: Sequence[str]) -> str:
    """Name the targets that are not reproduced, and say whether they would be if they were inverted."""
    total = len(found.share)
    listed = found.named(names or [f"target {i}" for i in range(total)])
    count, rest = len(listed), total - len(listed)
    which = ", ".join(listed[:MAX_NAMED]) + (f" and {count - MAX_NAMED} more" if count > MAX_NAMED else "")
    if rest:
        text = f"{count} of {total} targets {'is' if count == 1 else 'are'} not reproduced ({which})"
        text += f", so do not believe what was found for {'it' if count == 1 else 'these'}"
        text += f"; {'the other is' if rest == 1 else f'the other {rest} are'} reproduced"
    else:
        text = f"{'the target is not' if total == 1 else f'none of {total} targets is'} reproduced ({which})"
    turned = 0 if found.turned is None else int(found.turned.sum())
    if not turned:
        return text
    subject = f"{turned} of them" if turned < count else "they" if count > 1 else "it"
    return (
        f"{text}; inverted (1 - x), {subject} would be: the polarity seems to be the opposite of the model's data; "
        f"--invert inverts the targets (--no-invert where the model was trained with it)"
    )


OPENING: dict[Level, str] = {
    "doubt": "Do not believe this result",
    "care": "Believe this result with care",
    "fine": "This result can be believed",
}


def conclude(checks: Sequence[Check], training: str = "") -> Verdict:
    """Combine checks into a verdict: its level is the worst of them, its sentence names those that are not fine."""
    levels: list[Level] = [check.level for check in checks]
    level: Level = max(levels, key=LEVELS.index, default="fine")
    if level == "fine":
        found = [
            check.found for check in checks[1:]
        ]  # the first is that the decoder was frozen, which goes without saying
        sentence = f"{OPENING[level]}: {'; '.join(found)}." if found else f"{OPENING[level]}."
    else:
        by_weight = sorted(checks, key=lambda check: -LEVELS.index(check.level))  # stable
        worst, *others = [check.found for check in by_weight if check.level != "fine"]
        sentence = f"{OPENING[level]}: {worst}." + (f" Also, {'; '.join(others)}." if others else "")
    return Verdict(level=level, sentence=sentence, checks=list(checks), training=training)


def describe_inactive(dimensions: Dimensions) -> str:
    """Name the dead and weak dimensions in one sentence."""
    if not bool(torch.any(~dimensions.active)):
        return "No dimension is dead or weak."
    parts = [f"dead: {name_dimensions(dimensions.dead)}"] if dimensions.dead else []
    parts += [f"weak: {name_dimensions(dimensions.weak)}"] if dimensions.weak else []
    count, total = int((~dimensions.active).sum()), len(dimensions.sensitivity)
    return f"{count} of {total} dimensions do not count ({'; '.join(parts)})."
