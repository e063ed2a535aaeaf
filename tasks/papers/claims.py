"""The claims of NE-VAE (2021), section 5.4, about its toy search, tested on ours by paired bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from torch import Tensor

from lso.analysis.statistics import Interval, paired_bootstrap
from lso.reports.tables import pluralize
from lso.tasks.papers.image_targets import TargetOutcome

Judgement = Literal["holds", "does not hold", "undecided", "not reached"]
NAMES = {"se": "NE-VAE se", "vae": "VAE", "aggressive": "aggressive", "beta": "beta-VAE (0.9)"}
MIN_TARGETS = 6  # targets to decide by: five differences lie on one side by chance in 1 of 16 cases, six in 1 of 32
# Order of the published iteration counts, fewest first.
PUBLISHED_ORDER = ("se", "beta", "vae", "aggressive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim of the paper, and whether our searches support it."""

    claim: str
    # "holds" if the interval lies on the claim's side of 0, "does not hold" if on the other side, "undecided" if it
    # contains 0 or there are fewer than `MIN_TARGETS` targets; "not reached" if fewer than two targets met the
    # thresholds of the claim from both starts.
    judgement: Judgement
    evidence: str  # mean difference and interval in words; without an interval if nothing was judged
    intervals: tuple[Interval, ...]


def judge_claims(outcomes: Sequence[TargetOutcome]) -> list[Claim]:
    """Test every claim whose models are among the outcomes, which are of one learning rate; in the paper's order.

    If several models have the same role, the first annealed one stands for it, as the paper's models are annealed, and
    the claims name its run.
    """
    known: dict[str, TargetOutcome] = {}
    for outcome in sorted(outcomes, key=lambda one: not one.annealed):
        if outcome.role:
            known.setdefault(outcome.role, outcome)
    names = {role: name_of(one) + _run_suffix(one, outcomes) for role, one in known.items()}
    return [*_gap_claims(known, names), *_distance_claims(known, names), *_iteration_claims(known, names)]


def name_of(outcome: TargetOutcome) -> str:
    """The paper's name for a model of this role; it says so if the model was not annealed, as the paper's were."""
    return NAMES[outcome.role] + ("" if outcome.annealed else " (not annealed)")


def _run_suffix(outcome: TargetOutcome, outcomes: Sequence[TargetOutcome]) -> str:
    """The name of the run in brackets, if several models have its role."""
    return f" [{outcome.name}]" if sum(one.role == outcome.role for one in outcomes) > 1 else ""


Known = Mapping[str, TargetOutcome]  # role -> the model that stands for it
Names = Mapping[str, str]  # role -> its name in a claim


def _gap_claims(known: Known, names: Names) -> list[Claim]:
    claims = []
    for role in ("vae", "aggressive", "beta"):
        if "se" not in known or role not in known:
            continue
        se, other = known["se"], known[role]
        for k, threshold in enumerate(se.thresholds):
            if 0.005 <= threshold <= 0.01:
                text = f"the loss gap between starts is smaller for {names['se']} than for {names[role]}"
                met = se.met(k) & other.met(k)
                claims.append(_claim(f"{text} at {threshold:g}", [(other.gap[k] - se.gap[k], 1)], met, _end(se, other)))
    return claims


def _distance_claims(known: Known, names: Names) -> list[Claim]:
    claims = []
    for role, way in (("se", -1), ("vae", 1), ("aggressive", 1)):
        if role in known and len(known[role].thresholds) > 1:
            one, word = known[role], "shrinks" if way < 0 else "grows"
            text = f"{names[role]}: the code distance between starts {word} from the first threshold to the last"
            for of, distance in _distances_by_kind(one).items():
                claims.append(_claim(f"{text}, {of}", [(distance[-1] - distance[0], way)], one.met(-1), _end(one)))
    if "beta" in known and len(known["beta"].thresholds) > 2:
        for of, distance in _distances_by_kind(known["beta"]).items():
            claims.append(_rise_and_fall_claim(known["beta"], names["beta"], distance, of))
    if "beta" in known and "se" in known:
        claims += _final_distance_claims(
            known["beta"], known["se"], f"{names['beta']}: the code distance at the last threshold", names
        )
    return claims


def _final_distance_claims(beta: TargetOutcome, se: TargetOutcome, text: str, names: Names) -> list[Claim]:
    """Claims that compare two models: per active or dead dimension, as the models differ in the number of those."""
    pairs = {
        "all dimensions": (_whole(beta)[-1], 1, _whole(se)[-1], 1),
        "per active dimension": (beta.distance_active[-1], beta.active_units, se.distance_active[-1], se.active_units),
        "per dead dimension": (beta.distance_dead[-1], _dead(beta), se.distance_dead[-1], _dead(se)),
    }
    met = beta.met(-1) & se.met(-1)
    return [
        _claim(f"{text} stays above that of {names['se']}, {of}", [(one / a - other / b, 1)], met, _end(beta, se))
        for of, (one, a, other, b) in pairs.items()
        if a and b
    ]


def _dead(outcome: TargetOutcome) -> int:
    return outcome.latent_dim - outcome.active_units


def _whole(outcome: TargetOutcome) -> Tensor:
    """The distance over all dimensions; that over active or dead ones is NaN if the model has none of them."""
    if not _dead(outcome):
        return outcome.distance_active
    return outcome.distance_active + outcome.distance_dead if outcome.active_units else outcome.distance_dead


def _rise_and_fall_claim(outcome: TargetOutcome, name: str, distance: Tensor, of: str) -> Claim:
    """The claim that a distance first rises and then falls over the thresholds."""
    met, at, peak = outcome.met(-1), "", 1
    if int(met.sum()) >= 2:
        peak = 1 + int(distance[1:-1, met].mean(1).argmax())
        at = f" (largest mean at {outcome.thresholds[peak]:g})"
    parts = [(distance[peak] - distance[0], 1), (distance[peak] - distance[-1], 1)]
    text = f"{name}: the code distance rises and falls again{at}, {of}"
    # The data choose the threshold of the largest mean, so the intervals are widened for that choice.
    return _claim(text, parts, met, _end(outcome), choices=len(distance) - 2)


def _distances_by_kind(outcome: TargetOutcome) -> dict[str, Tensor]:
    """Code distances over all dimensions, and over the active and the dead ones if the model has both kinds."""
    if not _dead(outcome):
        return {"all dimensions, none of them dead": outcome.distance_active}
    if not outcome.active_units:
        return {"all dimensions, none of them active": outcome.distance_dead}
    return {
        "all dimensions": _whole(outcome),
        "active dimensions alone": outcome.distance_active,
        "dead dimensions alone": outcome.distance_dead,
    }


def _end(*outcomes: TargetOutcome) -> str:
    """What ended searches that did not meet a threshold."""
    return "the cap" if all(outcome.searched for outcome in outcomes) else "the search was cut off"


def _iteration_claims(known: Known, names: Names) -> list[Claim]:
    present = [role for role in PUBLISHED_ORDER if role in known]
    claims = []
    for fewer, more in pairwise(present):
        a, b = known[fewer], known[more]
        text = f"{names[fewer]} takes fewer steps than {names[more]} to threshold {a.thresholds[-1]:g}, from the prior"
        late, count = int((~a.reached[-1, :, 0]).sum() + (~b.reached[-1, :, 0]).sum()), 2 * len(a.gap[-1])
        if late == count or (late and not (a.searched and b.searched)):  # at a cut steps are no bound
            evidence = f"{count - late} of {count} searches met it before {_end(a, b)}"
            claims.append(Claim(claim=text, judgement="not reached", evidence=evidence, intervals=()))
            continue
        claim = _claim(text, [((b.steps[-1, :, 0] - a.steps[-1, :, 0]).double(), 1)])
        noted = f"; searches counted at the cap: {late}" if late else ""
        claims.append(replace(claim, evidence=claim.evidence + noted))
    return claims


def _claim(
    text: str, parts: Sequence[tuple[Tensor, int]], met: Tensor | None = None, end: str = "the cap", choices: int = 1
) -> Claim:
    """Judge a claim that each of some mean differences has a given sign.

    Args:
        text: the claim in words.
        parts: ``(T,)`` differences, and the sign that the claim gives to their mean. All must hold; if one has the
            other sign, the claim does not hold.
        met: ``(T,)`` targets that met the thresholds of the claim; the others are left out. None: all count.
        end: what ended searches that did not meet a threshold.
        choices: number of places from which the data chose the one that is tested; intervals are widened for it
            (Bonferroni).
    Returns:
        The claim.
    """
    count = len(parts[0][0])
    used = count if met is None else int(met.sum())
    if met is not None and used < 2:
        evidence = f"{used} of {pluralize(count, 'target')} met it before {end}"
        return Claim(claim=text, judgement="not reached", evidence=evidence, intervals=())
    over = f", over {used} of {pluralize(count, 'target')}" if used < count else ""
    differences = [difference if met is None else difference[met] for difference, _ in parts]
    if used < MIN_TARGETS:
        means = " and ".join(f"{float(difference.mean()):z.3g}" for difference in differences)
        evidence = f"{means}, too few to judge{over}"
        return Claim(claim=text, judgement="undecided", evidence=evidence, intervals=())
    level = 1 - 0.05 / choices
    intervals = tuple(paired_bootstrap(difference, level=level) for difference in differences)
    sides = [interval.sign * way for interval, (_, way) in zip(intervals, parts, strict=True)]
    judgement: Judgement = "undecided"
    if all(side > 0 for side in sides):
        judgement = "holds"
    elif any(side < 0 for side in sides):
        judgement = "does not hold"
    evidence = " and ".join(f"{i.mean:z.3g} ({i.low:z.3g} to {i.high:z.3g})" for i in intervals)
    return Claim(claim=text, judgement=judgement, evidence=evidence + over, intervals=intervals)
