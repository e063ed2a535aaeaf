"""Whether to believe a search: stated rules over its numbers, and the one or two sentences that follow from them.

Each rule is a `Check` with a level. One ``doubt`` makes the verdict "do not believe"; else one ``care`` makes it
"believe with care".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lso.analysis.convergence import STILL, Convergence, finite_median
from lso.analysis.latent_dimensions import WEAK, Dimensions, names
from lso.analysis.plausibility import Plausibility, share_within
from lso.analysis.reproduction import DEVIATIONS, SHARE, Reproduction
from lso.analysis.start_sensitivity import BASIN, Sensitivity
from lso.decoders.decoder import DecoderFinding
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.collapse import AMPLE_NATS, COLLAPSED_NATS, COLLAPSED_SHARE, FULL_NATS, LatentUse

Level = Literal["fine", "care", "doubt"]
LEVELS: tuple[Level, ...] = ("fine", "care", "doubt")

# How often each rule speaks, measured on searches whose truth is known (benchmarks/verdict_study.py, the half of the
# cases that no threshold was set on; docs/log.md). Of 48 not to be believed, "doubt" is said by: frozen decoder of 8,
# model 11, convergence 13, starts 15, typicality 11, fit 37; by one or another of 47 (missed: 2 %, at most 11 % by the
# 95 % interval). Of 15 to be believed none is doubted by any (false alarms: at most 22 %); starts and fit say "care" of
# one each.
UNFINISHED = (0.1, 0.5)  # shares of elements still gaining or failed: care, doubt
SPREAD = 0.05  # share of a target's drop by which its starts may differ
DISAGREE = (0.25, 0.75)  # shares of targets whose starts disagree
ATYPICAL = (0.1, 0.5)  # shares of best results that are atypical
REENCODING = 4.0  # times the median of prior draws
# Findings that make of a decoder no fixed function of the code.
UNSTABLE = ("train-mode", "non-deterministic", "batch-dependent", "stateful")
# Least shares of the median target reproduced. On digits the medians are 0.5 for held-out ones, 0.2 for inverted ones,
# 0.1 for noise, and 0 with a collapsed model (docs/log.md).
FITTED = (0.3, 0.15)
MISSED = 0.5  # share of targets that are not reproduced from which on the search is one for what the model cannot make
NAMED = 8  # targets named in a sentence
DEAF = 0.1  # the decoder's own variety as a share of what the targets ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule and what it found.

    Args:
        name: of the rule.
        level: fine, care or doubt.
        found: in words, with the number.
        rule: in words, with the thresholds.
    """

    name: str
    level: Level
    found: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether to believe a result.

    Args:
        level: the worst of the checks.
        sentence: one or two plain sentences.
        checks: the rules it follows from.
        training: the training run's own verdict, empty where it had none.
    """

    level: Level
    sentence: str
    checks: list[Check]
    training: str = ""


def grade(value: float, limits: tuple[float, float]) -> Level:
    """Level of a share: care above the first limit, doubt above the second."""
    return LEVELS[(value > limits[0]) + (value > limits[1])]


def check_decoder(unchanged: bool, findings: Sequence[DecoderFinding] = ()) -> Check:
    """The decoder was one function of the code throughout: frozen, deterministic, each code on its own.

    Args:
        unchanged: whether the hash of weights and buffers is what it was.
        findings: of `Decoder.check`.
    Returns:
        The check.
    """
    found = ["the decoder's weights changed during the search"] * (not unchanged)
    found += [f"the decoder: {finding.message}" for finding in findings if finding.kind in UNSTABLE and finding.serious]
    rule = f"doubt if the hash over weights and buffers changed, or if the decoder is found {', '.join(UNSTABLE)}"
    text = "; ".join(found) or "the decoder's weights are what they were"
    return Check(name="frozen decoder", level="doubt" if found else "fine", found=text, rule=rule)


def check_model(
    dimensions: Dimensions, reaction: float | None, training: str = "", use: LatentUse | None = None
) -> Check:
    """What is decoded depends on the codes, and by enough.

    Args:
        dimensions: activity.
        reaction: distance of two decoded prior draws as a share of what the targets ask for (see `analysis.reaction`);
            None without targets.
        training: the training run's own verdict of a collapse; empty where there is none.
        use: what the codes of the training's validation split carry, where they are known.
    Returns:
        The check.
    """
    total, active = len(dimensions.sensitivity), int(dimensions.active.sum())
    deaf = reaction is not None and reaction < DEAF
    collapsed = not active or bool(training) or (use is not None and use.collapsed)
    # Dead dimensions take nothing from what the others do: a decoder of 8 with 152 dead ones is searched as well.
    few = active < COLLAPSED_SHARE * total and use is None and reaction is None
    carried = "" if use is None else f", the codes carry {use.information:z.2f} nats (encoder: AU {use.active_units})"
    found = f"the decode reacts to {active} of {total} latent dimensions{carried}"
    found += "; the training said that its latents are not in use" if training else ""
    if deaf and reaction is not None:
        found += f", and what it decodes varies by only {100 * reaction:z.1f} % of what the targets ask for"
    rule = (
        f"doubt if the decoder ignores its codes, if codes carry under {COLLAPSED_NATS:g} nat about the data (half of "
        f"it of one latent), or under {AMPLE_NATS:g} in under a fifth of the dimensions, or if two decoded prior draws "
        f"differ by under {100 * DEAF:.0f} % of what the targets do, or if the training said that the latents are not "
        f"in use; care if codes carry under {FULL_NATS:g} nats (half of it of one latent), or if neither codes of data "
        "nor targets are known and under a fifth of the dimensions are active, which the decode reacts to (squared "
        f"effect on it >= {100 * WEAK:.0f} % of the largest; a training counts nats: those that the decoder uses)"
    )
    scanty = use is not None and use.scanty
    level: Level = "doubt" if deaf or collapsed else "care" if few or scanty else "fine"
    return Check(name="model", level=level, found=found, rule=rule)


def check_convergence(convergence: Convergence) -> Check:
    """Elements came to rest."""
    count, moving, failed = convergence.failed.numel(), int(convergence.moving.sum()), int(convergence.failed.sum())
    found = f"{count - moving - failed} of {count} searches had come to rest"
    found += f", {moving} still gaining" if moving else ""
    found += f", {failed} failed (not finite)" if failed else ""
    limit = convergence.stopped.get("max_steps", 0)
    found += f" ({limit} stopped at the step limit)" if limit else ""
    rule = (
        f"a search is still gaining if over {100 * STILL:.0f} % of its gain, and of its target's median one, came in "
        "the last tenth of its steps; care if over "
        f"{100 * UNFINISHED[0]:.0f} % of searches were still gaining or failed, doubt if over "
        f"{100 * UNFINISHED[1]:.0f} %; "
        "doubt if the median target gained nothing"
    )
    level = grade((moving + failed) / max(1, count), UNFINISHED)
    if count and float(finite_median(convergence.drop)) <= 0 and not bool((convergence.gap == 0).all()):
        return Check(name="convergence", level="doubt", found=found + "; the median target gained nothing", rule=rule)
    return Check(name="convergence", level=level, found=found, rule=rule)


def check_starts(sensitivity: Sensitivity) -> Check:
    """Different starts come to the same value, and to the same picture."""
    rule = (
        f"starts disagree where their final values differ by over {100 * SPREAD:.0f} % of the gain; care if for over "
        f"{100 * DISAGREE[0]:.0f} % of targets, doubt if for over {100 * DISAGREE[1]:.0f} %; care if over half of the "
        f"targets have "
        f"several basins (single linkage of decoded results at {100 * BASIN:.0f} % of the distance between two decoded "
        f"prior draws)"
    )
    if sensitivity.starts < 2:
        return Check(
            name="starts", level="care", found="there was one start a target, so agreement is unknown", rule=rule
        )
    apart = ~(sensitivity.relative_spread <= SPREAD)
    several = sensitivity.basins > 1
    total = len(several)
    found = f"starts end at different values on {int(apart.sum())} of {total} targets"
    found += f" and at different results on {int(several.sum())}"
    level: Level = grade(share_within(apart), DISAGREE)
    if level == "fine" and share_within(several) > 0.5:
        level = "care"
    return Check(name="starts", level=level, found=found, rule=rule)


def check_plausibility(best: Plausibility, prior: Plausibility) -> Check:
    """The best codes lie where the decoder was trained."""
    rule = (
        "a code is atypical if the norm over active dimensions is above the "
        f"{100 * MAX_TYPICAL_PERCENTILE:.1f} % point of chi, or if it is farther "
        f"from the codes of the data than each of them; care if over {100 * ATYPICAL[0]:.0f} % of best codes are, "
        f"doubt if over "
        f"{100 * ATYPICAL[1]:.0f} %; care if the median re-encoding error is over {REENCODING:.0f} times that of prior "
        f"draws"
    )
    number, total = int(best.atypical.sum()), best.atypical.numel()
    norm, usual = (float(finite_median(x.norm_active)) for x in (best, prior))
    norms = f"median norm {norm:.3g} over active dimensions, prior draws {usual:.3g}"
    found = f"{number} of {total} best codes are atypical ({norms})"
    level = grade(share_within(best.atypical), ATYPICAL)
    if best.reencoding_active is not None and prior.reencoding_active is not None:
        ratio = float(finite_median(best.reencoding_active) / finite_median(prior.reencoding_active).clamp_min(1e-12))
        found += f"; their re-encoding error is {ratio:.3g} times that of prior draws"
        level = "care" if level == "fine" and ratio > REENCODING else level
    return Check(name="typicality", level=level, found=found, rule=rule)


def check_fit(
    found: Reproduction,
    names: Sequence[str] = (),
    fitted: str = "what sets the median target apart from the mean decode",
    measure: str = "1 - squared error / squared error of the mean decode of prior draws",
) -> Check:
    """The targets were reproduced, each of them.

    Args:
        found: how well each target was.
        names: of the targets; without them they are numbered.
        fitted: what the share is a share of.
        measure: how it is computed.
    Returns:
        The check; it names the targets that are not reproduced.
    """
    middling, missed = float(finite_median(found.share)), share_within(found.missed)
    told = f"the best results reproduce {100 * max(middling, 0.0):z.0f} % of {fitted}"
    shape = "" if found.shape is None else ", the same against its own mean colour"
    cost = ""
    if found.bound is not None:
        cost = f", or if it costs over {found.bound:.3g} nats given its best code (mean and {DEVIATIONS:g} standard "
        cost += "deviations of data that the decoder draws itself)"
    rule = (
        f"a target is not reproduced if under {100 * SHARE:.0f} % of it is ({measure}){shape}{cost}; care if any "
        f"is not or the median is under {100 * FITTED[0]:.0f} %, doubt if {100 * MISSED:.0f} % of targets or more are "
        f"not or the median is under {100 * FITTED[1]:.0f} % or not known"
    )
    level: Level = "fine" if middling >= FITTED[0] else "care" if middling >= FITTED[1] else "doubt"
    if missed:
        level = max(level, "care" if missed < MISSED else "doubt", key=LEVELS.index)
        told = f"{_missed(found, names)}; {told}"
    return Check(name="fit", level=level, found=told, rule=rule)


def _missed(found: Reproduction, names: Sequence[str]) -> str:
    """Which targets are not reproduced, in words, and whether they would be turned round."""
    total = len(found.share)
    listed = found.named(names or [f"target {i}" for i in range(total)])
    count, rest = len(listed), total - len(listed)
    which = ", ".join(listed[:NAMED]) + (f" and {count - NAMED} more" if count > NAMED else "")
    if rest:
        told = f"{count} of {total} targets {'is' if count == 1 else 'are'} not reproduced ({which})"
        told += f", so do not believe what was found for {'it' if count == 1 else 'these'}"
        told += f"; {'the other is' if rest == 1 else f'the other {rest} are'} reproduced"
    else:
        told = f"{'the target is not' if total == 1 else f'none of {total} targets is'} reproduced ({which})"
    turned = 0 if found.turned is None else int(found.turned.sum())
    if not turned:
        return told
    subject = f"{turned} of them" if turned < count else "they" if count > 1 else "it"
    return (
        f"{told}; turned round (1 - x) {subject} would be, so that the polarity seems to be the opposite of the "
        f"model's data: --invert turns targets round (--no-invert where the model was trained with it)"
    )


OPENING: dict[Level, str] = {
    "doubt": "Do not believe this result",
    "care": "Believe this result with care",
    "fine": "This result can be believed",
}


def conclude(checks: Sequence[Check], training: str = "") -> Verdict:
    """The verdict that follows from the checks."""
    levels: list[Level] = [check.level for check in checks]
    level: Level = max(levels, key=LEVELS.index, default="fine")
    if level == "fine":
        found = [check.found for check in checks[1:]]  # that the decoder was frozen goes without saying
        sentence = f"{OPENING[level]}: {'; '.join(found)}." if found else f"{OPENING[level]}."
    else:
        by_weight = sorted(checks, key=lambda check: -LEVELS.index(check.level))  # stable
        worst, *others = [check.found for check in by_weight if check.level != "fine"]
        sentence = f"{OPENING[level]}: {worst}." + (f" Also, {'; '.join(others)}." if others else "")
    return Verdict(level=level, sentence=sentence, checks=list(checks), training=training)


def inactive_sentence(dimensions: Dimensions) -> str:
    """Dead and weak dimensions by name."""
    if not bool(torch.any(~dimensions.active)):
        return "No dimension is dead or weak."
    parts = [f"dead: {names(dimensions.dead)}"] if dimensions.dead else []
    parts += [f"weak: {names(dimensions.weak)}"] if dimensions.weak else []
    count, total = int((~dimensions.active).sum()), len(dimensions.sensitivity)
    return f"{count} of {total} dimensions do not count ({'; '.join(parts)})."
