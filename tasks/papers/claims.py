"""What NE-VAE (2021), section 5.4, says of its toy search, judged on ours with paired bootstrap intervals."""

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
FEWEST = 6  # targets to decide by: five differences lie on one side by chance in 1 of 16 cases, six in 1 of 32
# Order of the published iteration counts, fewest first.
PUBLISHED_ORDER = ("se", "beta", "vae", "aggressive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim and what came of it.

    Args:
        claim: in words.
        judgement: holds where the interval lies on the claim's side of 0, does not hold where it lies on the other,
            undecided else and of fewer than `FEWEST` targets; not reached where fewer than two targets met the
            thresholds that it speaks of, from both starts.
        evidence: mean difference and interval, in words; no interval where nothing is judged.
        intervals: the intervals.
    """

    claim: str
    judgement: Judgement
    evidence: str
    intervals: tuple[Interval, ...]


def judge(outcomes: Sequence[TargetOutcome]) -> list[Claim]:
    """Judge every claim whose models are there.

    Args:
        outcomes: of one learning rate; of several with one role the first annealed one stands for it, as the paper's
            are annealed, and the claims name it.
    Returns:
        Claims in the order of the paper.
    """
    known: dict[str, TargetOutcome] = {}
    for outcome in sorted(outcomes, key=lambda one: not one.annealed):
        if outcome.role:
            known.setdefault(outcome.role, outcome)
    names = {role: name_of(one) + _run(one, outcomes) for role, one in known.items()}
    return [*_gaps(known, names), *_distances(known, names), *_iterations(known, names)]


def name_of(outcome: TargetOutcome) -> str:
    """What the paper calls a model of this role.

    Args:
        outcome: with a role.
    Returns:
        The name; one that was not annealed, as the paper's were, says so.
    """
    return NAMES[outcome.role] + ("" if outcome.annealed else " (not annealed)")


def _run(outcome: TargetOutcome, outcomes: Sequence[TargetOutcome]) -> str:
    return f" [{outcome.name}]" if sum(one.role == outcome.role for one in outcomes) > 1 else ""


Known = Mapping[str, TargetOutcome]
Names = Mapping[str, str]


def _gaps(known: Known, names: Names) -> list[Claim]:
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


def _distances(known: Known, names: Names) -> list[Claim]:
    claims = []
    for role, way in (("se", -1), ("vae", 1), ("aggressive", 1)):
        if role in known and len(known[role].thresholds) > 1:
            one, word = known[role], "shrinks" if way < 0 else "grows"
            text = f"{names[role]}: the code distance between starts {word} from the first threshold to the last"
            for of, distance in _apart(one).items():
                claims.append(_claim(f"{text}, {of}", [(distance[-1] - distance[0], way)], one.met(-1), _end(one)))
    if "beta" in known and len(known["beta"].thresholds) > 2:
        for of, distance in _apart(known["beta"]).items():
            claims.append(_rise_and_fall(known["beta"], names["beta"], distance, of))
    if "beta" in known and "se" in known:
        claims += _ends(known["beta"], known["se"], f"{names['beta']}: the code distance at the last threshold", names)
    return claims


def _ends(beta: TargetOutcome, se: TargetOutcome, text: str, names: Names) -> list[Claim]:
    """Of active or dead dimensions per dimension, as the two models do not have the same number of them."""
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
    """The distance over all dimensions, where those of one kind are not NaN for want of any."""
    if not _dead(outcome):
        return outcome.distance_active
    return outcome.distance_active + outcome.distance_dead if outcome.active_units else outcome.distance_dead


def _rise_and_fall(outcome: TargetOutcome, name: str, distance: Tensor, of: str) -> Claim:
    """The threshold of the largest mean is chosen by the data, so the intervals are widened for the choice."""
    met, at, peak = outcome.met(-1), "", 1
    if int(met.sum()) >= 2:
        peak = 1 + int(distance[1:-1, met].mean(1).argmax())
        at = f" (largest mean at {outcome.thresholds[peak]:g})"
    parts = [(distance[peak] - distance[0], 1), (distance[peak] - distance[-1], 1)]
    text = f"{name}: the code distance rises and falls again{at}, {of}"
    return _claim(text, parts, met, _end(outcome), choices=len(distance) - 2)


def _apart(outcome: TargetOutcome) -> dict[str, Tensor]:
    """Over all dimensions, and over the active and the dead ones where there are both."""
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
    """What came first where a threshold was not met."""
    return "the cap" if all(one.searched for one in outcomes) else "the search was cut off"


def _iterations(known: Known, names: Names) -> list[Claim]:
    present = [role for role in PUBLISHED_ORDER if role in known]
    claims = []
    for fewer, more in pairwise(present):
        a, b = known[fewer], known[more]
        text = f"{names[fewer]} takes fewer steps than {names[more]} to threshold {a.thresholds[-1]:g}, from the prior"
        late, count = int((~a.reached[-1, :, 0]).sum() + (~b.reached[-1, :, 0]).sum()), 2 * len(a.gap[-1])
        if late == count or (late and not (a.searched and b.searched)):  # steps at a cut bound nothing
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
    """All parts must lie on their side; one on the other side is enough against. Only targets that met count.

    Intervals of a part that was chosen among several are Bonferroni's.
    """
    count = len(parts[0][0])
    used = count if met is None else int(met.sum())
    if met is not None and used < 2:
        evidence = f"{used} of {pluralize(count, 'target')} met it before {end}"
        return Claim(claim=text, judgement="not reached", evidence=evidence, intervals=())
    over = f", over {used} of {pluralize(count, 'target')}" if used < count else ""
    differences = [difference if met is None else difference[met] for difference, _ in parts]
    if used < FEWEST:
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
