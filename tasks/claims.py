"""What NE-VAE (2021), section 5.4, says of its toy search, judged on ours with paired bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from lso.bootstrap import Interval, paired_bootstrap
from lso.tasks.image_targets import Outcome

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
        evidence: mean difference and interval, in words.
        intervals: the intervals.
    """

    claim: str
    judgement: Judgement
    evidence: str
    intervals: tuple[Interval, ...]


def judge(outcomes: Sequence[Outcome]) -> list[Claim]:
    """Judge every claim whose models are there.

    Args:
        outcomes: of one learning rate; the first of each role stands for it.
    Returns:
        Claims in the order of the paper.
    """
    known: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.role:
            known.setdefault(outcome.role, outcome)
    return [*_gaps(known), *_distances(known), *_iterations(known)]


def _gaps(known: Mapping[str, Outcome]) -> list[Claim]:
    claims = []
    for role in ("vae", "aggressive", "beta"):
        if "se" not in known or role not in known:
            continue
        se, other = known["se"], known[role]
        for k, threshold in enumerate(se.thresholds):
            if 0.005 <= threshold <= 0.01:
                text = (
                    f"the loss gap between starts is smaller for {NAMES['se']} than for {NAMES[role]} at {threshold:g}"
                )
                met = se.reached[k].all(1) & other.reached[k].all(1)
                claims.append(_claim(text, [(other.gap[k] - se.gap[k], 1)], met))
    return claims


def _distances(known: Mapping[str, Outcome]) -> list[Claim]:
    claims = []
    for role, way in (("se", -1), ("vae", 1), ("aggressive", 1)):
        if role in known and len(known[role].thresholds) > 1:
            for of, distance in _both(known[role]).items():
                word = "shrinks" if way < 0 else "grows"
                text = (
                    f"{NAMES[role]}: the code distance between starts {word} from the first threshold to the last, {of}"
                )
                claims.append(_claim(text, [(distance[-1] - distance[0], way)], known[role].reached[-1].all(1)))
    if "beta" in known and len(known["beta"].thresholds) > 2:
        for of, distance in _both(known["beta"]).items():
            claims.append(_rise_and_fall(known["beta"], distance, of))
    return claims


def _rise_and_fall(outcome: Outcome, distance: Tensor, of: str) -> Claim:
    """The threshold of the largest mean is chosen by the data, so the intervals are widened for the choice."""
    met = outcome.reached[-1].all(1)
    peak = 1 + int(distance[1:-1, met].mean(1).argmax())
    at = outcome.thresholds[peak]
    text = f"{NAMES['beta']}: the code distance rises and falls again (largest mean at {at:g}), {of}"
    parts = [(distance[peak] - distance[0], 1), (distance[peak] - distance[-1], 1)]
    return _claim(text, parts, met, choices=len(distance) - 2)


def _both(outcome: Outcome) -> dict[str, Tensor]:
    return {
        "all dimensions": outcome.distance_active + outcome.distance_dead,
        "active dimensions alone": outcome.distance_active,
    }


def _iterations(known: Mapping[str, Outcome]) -> list[Claim]:
    present = [role for role in PUBLISHED_ORDER if role in known]
    claims = []
    for fewer, more in pairwise(present):
        a, b = known[fewer], known[more]
        text = f"{NAMES[fewer]} takes fewer steps than {NAMES[more]} to threshold {a.thresholds[-1]:g}, from the prior"
        claim = _claim(text, [((b.steps[-1, :, 0] - a.steps[-1, :, 0]).double(), 1)])
        cut = int((~a.reached[-1, :, 0]).sum() + (~b.reached[-1, :, 0]).sum())
        if cut:
            note = f"{claim.evidence}; searches counted at the cap: {cut}"
            judgement: Judgement = "not reached" if cut == 2 * len(a.gap[-1]) else claim.judgement
            claim = Claim(claim=claim.claim, judgement=judgement, evidence=note, intervals=claim.intervals)
        claims.append(claim)
    return claims


def _claim(text: str, parts: Sequence[tuple[Tensor, int]], met: Tensor | None = None, choices: int = 1) -> Claim:
    """All parts must lie on their side; one on the other side is enough against. Only targets that met count.

    Intervals of a part that was chosen among several are Bonferroni's.
    """
    count = len(parts[0][0])
    if met is not None and int(met.sum()) < 2:
        evidence = f"{int(met.sum())} of {count} targets met it before the cap"
        return Claim(claim=text, judgement="not reached", evidence=evidence, intervals=())
    level = 1 - 0.05 / choices
    found = [
        (paired_bootstrap(difference if met is None else difference[met], level=level), way)
        for difference, way in parts
    ]
    used = count if met is None else int(met.sum())
    sides = [interval.sign * way if used >= FEWEST else 0 for interval, way in found]
    judgement: Judgement = "undecided"
    if all(side > 0 for side in sides):
        judgement = "holds"
    elif any(side < 0 for side in sides):
        judgement = "does not hold"
    evidence = " and ".join(f"{i.mean:.3g} ({i.low:.3g} to {i.high:.3g})" for i, _ in found)
    if met is not None and not bool(met.all()):
        evidence += f", over {int(met.sum())} of {count} targets"
    return Claim(claim=text, judgement=judgement, evidence=evidence, intervals=tuple(i for i, _ in found))
