"""Rules that decide whether a search by gradient can be believed; those of its decoder and model serve other searches.

A row of `SEARCH_RULES` is one rule (see `lso.vae.metrics.verdict`).
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lso.analysis.convergence import MOVING_SHARE, Convergence, finite_median
from lso.analysis.latent_dimensions import WEAK_BELOW, Dimensions, name_dimensions
from lso.analysis.plausibility import Plausibility, share_true
from lso.analysis.reconstruction import ARRAYS, DecodedMetric
from lso.analysis.reproduction import BOUND_DEVIATIONS, MIN_SHARE, Reproduction
from lso.analysis.start_sensitivity import BASIN_LINK, Sensitivity
from lso.decoders.decoder import DecoderFinding
from lso.space import MAX_TYPICAL_PERCENTILE
from lso.vae.metrics.collapse import COLLAPSED_SHARE, INFORMATION, INFORMATION_IN_FEW, LatentUse
from lso.vae.metrics.verdict import CARE_IF, DOUBT_IF, Case, ErrorRates, Facts, Limit, Rule

MAX_SPREAD = 0.05  # by how much the final values of a target's starts may differ, as a share of its gain
# Shares of best results that are atypical.
ATYPICAL_BEST = Limit(care=0.1, doubt=0.5)
# Re-encoding error, as a multiple of the median of prior draws.
REENCODING_RATIO = Limit(care=4.0)
# Kinds of findings after which a decoder is no fixed function of the code.
UNSTABLE = ("train-mode", "non-deterministic", "batch-dependent", "stateful")
MISSED_SHARE = 0.5  # share of targets not reproduced from which on the search is doubted
MAX_NAMED = 8  # targets that a sentence names
# Variation of decoded prior draws relative to that of the targets, below which the model cannot follow the targets.
UNRESPONSIVE_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelEvidence:
    """What the rules on decoder, model and reproduced targets judge, of a search of any kind.

    Args:
        unchanged: whether the hash of weights and buffers is the same as before the search.
        findings: what `Decoder.check` and decoding the found codes again brought up.
        dimensions: how strongly the decoder reacts to each latent dimension.
        reaction: variation of decoded prior draws relative to the targets (see `DecodedMetric.reaction`); None where
            it is not known.
        training: the training run's verdict of posterior collapse; empty where it found none.
        use: what the codes of the training's validation split carry, where they are known.
        reproduction: how well each target was reproduced; None without targets.
        target_names: of the targets; without them they are numbered.
        metric: by which targets are compared.
    """

    unchanged: bool = True
    findings: Sequence[DecoderFinding] = ()
    dimensions: Dimensions
    reaction: float | None = None
    training: str = ""
    use: LatentUse | None = None
    reproduction: Reproduction | None = None
    target_names: Sequence[str] = ()
    metric: DecodedMetric = ARRAYS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchEvidence:
    """What the rules on a search by gradient judge: numbers of a `lso.analysis.summary.SearchSummary`."""

    model: ModelEvidence
    convergence: Convergence
    sensitivity: Sensitivity
    best: Plausibility  # of the best end of each target
    prior: Plausibility  # of prior draws


def _measure_decoder(e: ModelEvidence) -> Facts:
    problems = ["the decoder's weights changed during the search"] * (not e.unchanged)
    problems += [f"the decoder: {one.message}" for one in e.findings if one.kind in UNSTABLE and one.serious]
    return {"problems": "; ".join(problems)}


def _measure_model(e: ModelEvidence) -> Facts:
    total, active = len(e.dimensions.sensitivity), int(e.dimensions.active.sum())
    return {
        "total": total,
        "active": active,
        "use": e.use,
        "training": e.training,
        "reaction": e.reaction,
        "deaf": e.reaction is not None and e.reaction < UNRESPONSIVE_SHARE,
        "collapsed": not active or bool(e.training) or (e.use is not None and e.use.collapsed),
        # Dead dimensions take nothing from what the others do: a decoder of 8 with 152 dead ones is searched as well.
        "few": active < COLLAPSED_SHARE * total and e.use is None and e.reaction is None,
        "scanty": e.use is not None and e.use.scanty,
    }


def _measure_convergence(s: SearchEvidence) -> Facts:
    found = s.convergence
    count, moving, failed = found.failed.numel(), int(found.moving.sum()), int(found.failed.sum())
    return {
        "count": count,
        "levelled": count - moving - failed,
        "moving": moving,
        "were": "was" if moving == 1 else "were",
        "failed": failed,
        "at_limit": found.stopped.get("max_steps", 0),
        "unfinished": (moving + failed) / max(1, count),
        "nothing": count and float(finite_median(found.drop)) <= 0 and not bool((found.gap == 0).all()),
    }


def _measure_starts(s: SearchEvidence) -> Facts:
    found = s.sensitivity
    apart, several = ~(found.relative_spread <= MAX_SPREAD), found.basins > 1
    return {
        "alone": found.starts < 2,
        "total": len(several),
        "apart": int(apart.sum()),
        "several": int(several.sum()),
        "disagreeing": share_true(apart),
        "in_basins": share_true(several),
    }


def _measure_typicality(s: SearchEvidence) -> Facts:
    best, prior = s.best, s.prior
    norm, usual = (float(finite_median(x.norm_active)) for x in (best, prior))
    ratio = None
    if best.reencoding_active is not None and prior.reencoding_active is not None:
        ratio = float(finite_median(best.reencoding_active) / finite_median(prior.reencoding_active).clamp_min(1e-12))
    return {
        "number": int(best.atypical.sum()),
        "total": best.atypical.numel(),
        "norm": norm,
        "usual": usual,
        "atypical": share_true(best.atypical),
        "encoded": ratio is not None,
        "ratio": ratio,
    }


def _measure_reproduction(e: ModelEvidence) -> Facts | None:
    found = e.reproduction
    if found is None:
        return None
    median, missed, total = float(finite_median(found.share)), share_true(found.missed), len(found.share)
    names = found.named(e.target_names or [f"target {i}" for i in range(total)])
    count, rest = len(names), total - len(names)
    inverted = 0 if found.inverted is None or not count else int(found.inverted.sum())
    which = f"{count} of {total} targets {'is' if count == 1 else 'are'} not" if rest else f"none of {total} targets is"
    return {
        "median": median if median == median else -math.inf,  # a median that is not known is none
        "reproduced": max(median, 0.0),
        "fitted": e.metric.fitted,
        "measure": e.metric.rule,
        "shape": found.shape is not None,
        "bounded": found.bound is not None,
        "bound": found.bound,
        "missed": missed,
        "many": missed >= MISSED_SHARE,
        "which": "the target is not" if total == 1 else which,
        "named": ", ".join(names[:MAX_NAMED]) + (f" and {count - MAX_NAMED} more" if count > MAX_NAMED else ""),
        "others": count and rest,
        "these": "it" if count == 1 else "these",
        "the_rest": "the other is" if rest == 1 else f"the other {rest} are",
        "inverted": inverted,
        "subject": f"{inverted} of them" if inverted < count else "they" if count > 1 else "it",
    }


DECODER: Rule[ModelEvidence] = Rule(
    name="frozen decoder",
    measure=_measure_decoder,
    cases={"problems": Case(level="doubt", found="{problems}")},
    found="the decoder's weights did not change during the search",
    rule=f"doubt if the hash of weights and buffers changed, or if the decoder was found to be {', '.join(UNSTABLE)}",
    obvious=True,
)
MODEL: Rule[ModelEvidence] = Rule(
    name="model",
    measure=_measure_model,
    limits={"deaf": DOUBT_IF, "collapsed": DOUBT_IF, "few": CARE_IF, "scanty": CARE_IF},
    found="the decoder reacts to {active} of {total} latent dimensions[use?, the codes carry {use.information:z.2f} "
    "nats about the data (active units of the encoder: {use.active_units})][training?; the training reported that its "
    "codes carry almost nothing (posterior collapse)][deaf?; decoded prior draws vary only {reaction:z.1%} as much as "
    "the targets do]",
    rule="doubt if the decoder ignores its codes; if codes carry under {carried.doubt:g} nat about the data (half of "
    "that with one latent dimension), or under {in_few.doubt:g} nats in under a fifth of the dimensions; if decoded "
    "prior draws vary under {unresponsive:.0%} as much as the targets do; or if the training reported posterior "
    "collapse. Care if codes carry under {carried.care:g} nats (half of that with one latent dimension), or if "
    "neither codes of data nor targets are known and under a fifth of the dimensions are active. Active: the decoder "
    "reacts to it, with at least {weak:.0%} of the largest squared effect; a training report counts otherwise, by the "
    "nats that the decoder uses",
    terms={
        "carried": INFORMATION,
        "in_few": INFORMATION_IN_FEW,
        "unresponsive": UNRESPONSIVE_SHARE,
        "weak": WEAK_BELOW,
    },
)
FIT: Rule[ModelEvidence] = Rule(
    name="fit",
    measure=_measure_reproduction,
    # On digits the medians are 0.5 for held-out ones, 0.2 for inverted ones, 0.1 for noise, and 0 with a collapsed
    # model (docs/log.md).
    limits={"median": Limit(care=0.3, doubt=0.15, beyond=operator.lt), "missed": CARE_IF, "many": DOUBT_IF},
    found="[missed?{which} reproduced ({named})][others?, so do not believe what was found for {these}; {the_rest} "
    "reproduced][inverted?; inverted (1 - x), {subject} would be: the polarity seems to be the opposite of the model's "
    "data; --invert inverts the targets (--no-invert where the model was trained with it)][missed?; ]the best results "
    "reproduce {reproduced:z.0%} of {fitted}",
    rule="a target is not reproduced if the best result has under {share:.0%} of it ({measure})[shape? or of what "
    "distinguishes it from its own mean colour][bounded?, or if -log p(target | its best code) is over {bound:.3g} "
    "nats (the mean plus {deviations:g} standard deviations over data drawn from the decoder itself)]; care if a "
    "target is not reproduced or the median share is under {median.care:.0%}, doubt if {missed_share:.0%} of targets "
    "or more are not reproduced or the median share is under {median.doubt:.0%} or not known",
    terms={"share": MIN_SHARE, "deviations": BOUND_DEVIATIONS, "missed_share": MISSED_SHARE},
)


def _model(search: SearchEvidence) -> ModelEvidence:
    return search.model


# One or another rule doubts 47 of 48 searches not to be believed (missed: 2 %, at most 11 % by the 95 % interval), none
# of 15 to be believed (false alarms: at most 22 %).
SEARCH_RULES: Sequence[Rule[SearchEvidence]] = (
    DECODER.on(_model, ErrorRates(unsound=48, doubted=8, sound=15)),
    MODEL.on(_model, ErrorRates(unsound=48, doubted=11, sound=15)),
    Rule(
        name="convergence",
        measure=_measure_convergence,
        limits={"unfinished": Limit(care=0.1, doubt=0.5), "nothing": DOUBT_IF},
        found="{levelled} of {count} searches had levelled off[moving?, {moving} {were} still gaining][failed?, "
        "{failed} failed (not finite)][at_limit? ({at_limit} stopped at the step limit)][nothing?; the median target "
        "gained nothing]",
        rule="a search is still gaining if its last tenth of steps brought over {moving_share:.0%} of its own gain "
        "and of the median gain on its target; care if over {unfinished.care:.0%} of searches were still gaining or "
        "failed, doubt if over {unfinished.doubt:.0%}; doubt if the median target gained nothing",
        terms={"moving_share": MOVING_SHARE},
        rates=ErrorRates(unsound=48, doubted=13, sound=15),
    ),
    Rule(
        name="starts",
        measure=_measure_starts,
        cases={
            "alone": Case(level="care", found="there was one start per target, so it is unknown whether starts agree")
        },
        limits={"disagreeing": Limit(care=0.25, doubt=0.75), "in_basins": Limit(care=0.5)},
        found="starts end at different values on {apart} of {total} targets and at different results on {several}",
        rule="starts disagree on a target if their final values differ by over {spread:.0%} of the gain; care if they "
        "do on over {disagreeing.care:.0%} of targets, doubt if on over {disagreeing.doubt:.0%}; care if over half of "
        "the targets have several basins (single linkage of decoded results at {link:.0%} of the distance between two "
        "decoded prior draws)",
        terms={"spread": MAX_SPREAD, "link": BASIN_LINK},
        rates=ErrorRates(unsound=48, doubted=15, sound=15, false_cares=1),
    ),
    Rule(
        name="typicality",
        measure=_measure_typicality,
        limits={"atypical": ATYPICAL_BEST, "ratio": REENCODING_RATIO},
        found="{number} of {total} best codes are atypical (median norm over active dimensions {norm:.3g}, that of "
        "prior draws {usual:.3g})[encoded?; their re-encoding error is {ratio:.3g} times that of prior draws]",
        rule="a code is atypical if its norm over active dimensions is above the {percentile:.1%} quantile of the chi "
        "distribution (the norms of prior draws), or if it is farther from the codes of the data than each of those "
        "is; care if over {atypical.care:.0%} of best codes are, doubt if over {atypical.doubt:.0%}; care if the "
        "median re-encoding error is over {ratio.care:.0f} times that of prior draws",
        terms={"percentile": MAX_TYPICAL_PERCENTILE},
        rates=ErrorRates(unsound=48, doubted=11, sound=15),
    ),
    FIT.on(_model, ErrorRates(unsound=48, doubted=37, sound=15, false_cares=1)),
)


def describe_inactive(dimensions: Dimensions) -> str:
    """Name the dead and weak dimensions in one sentence."""
    if not bool(torch.any(~dimensions.active)):
        return "No dimension is dead or weak."
    parts = [f"dead: {name_dimensions(dimensions.dead)}"] if dimensions.dead else []
    parts += [f"weak: {name_dimensions(dimensions.weak)}"] if dimensions.weak else []
    count, total = int((~dimensions.active).sum()), len(dimensions.sensitivity)
    return f"{count} of {total} dimensions do not count ({'; '.join(parts)})."
