"""Verdict on posterior collapse: thresholds in nats, a sentence, and remedies to try. Does not import torch."""

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lso.vae.metrics.verdict import Case, ErrorRates, Facts, Limit, Rule
from lso.vae.utils.validation import pluralize

REMEDIES = ("ne-vae-se:weight=5", "aggressive", "free-bits", "beta-vae:beta=0.5", "skip-vae", "a smaller --latent-dim")
COLLAPSED_SHARE = 0.2  # of all dimensions; if a smaller share is used, they count as few
# A dimension is used if both its KL and its decoder use are at least so many nats. In unused dimensions neither exceeds
# 0.05 (digits, text); a PixelCNN that has nearly learned to do without its latents has a decoder use of 0.1 in 9 of 32
# dimensions, and both in 2 (docs/log.md).
MIN_DIMENSION_NATS = 0.1
# Codes that carry fewer nats than `INFORMATION.doubt` have collapsed: they distinguish fewer than e = 2.7 data. For a
# scalar latent half of it, as the toy model of He et al. is reliable from 0.5 on. Collapsed models of digits and text
# carry 0.00 to 0.05, digits at beta = 2, or at 4 and stopped during warm-up, 0.6 to 0.7; healthy ones 1.5 (two latents)
# and more (docs/log.md). Codes that have not collapsed but carry fewer than `INFORMATION.care` (fewer than e^2.5 = 12
# data are distinguished) carry little, and searches in them need care. In the half of the study used to set thresholds,
# models whose decoders distinguish test data by 1.1 to 2.0 nats carry 1.4 to 2.4, and those with 2.8 nats and more
# carry 3.2 and more.
INFORMATION = Limit(care=2.5, doubt=1.0, beyond=operator.lt)
# Below this, fewer than e^3 = 20 data are distinguished, and few used dimensions count as collapse too, as in the plain
# VAE on OMNIGLOT (1.4 to 2 nats in 3 to 6 of 32). Above it, few used dimensions mean that latent_dim is too large.
INFORMATION_IN_FEW = Limit(doubt=3.0, beyond=operator.lt)
# The mutual information is at most the logarithm of the number of data. With at least MIN_DATA of them (log 50 = 3.9)
# it is used as it is. With fewer, it is used up to this share of the logarithm (1.7 nats of 30 data); above, it may be
# limited by the number of data, and the KL is used instead, which is never less.
MIN_DATA, MAX_INFORMATION_SHARE = 50, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentUse:
    """How much information the latents of a model carry about its validation data.

    Args:
        latent_dim: size of z.
        data: number of data in the split.
        mutual_information: of data and codes over the whole split, nats; at most log ``data``.
        kl: of the posteriors from the prior, nats; the mutual information plus the KL of the aggregated posterior.
        used: number of dimensions whose KL is at least `MIN_DIMENSION_NATS`, and whose redraw from the prior raises the
            reconstruction loss by at least as much.
        active_units: dimensions whose posterior mean has a variance of at least 0.01, the number in the literature. It
            is reported but not judged: means of variance 0.02 under posteriors of variance near 1 are active and carry
            nothing, those of codes on a small scale carry much and are not active.
    """

    latent_dim: int
    data: int
    mutual_information: float
    kl: float
    used: int
    active_units: int

    @property
    def information(self) -> float:
        """Nats that the codes carry: the mutual information, or the KL where there are too few data to estimate it."""
        reliable = self.data >= MIN_DATA or self.mutual_information < MAX_INFORMATION_SHARE * math.log(
            max(1, self.data)
        )
        return min(self.kl, self.mutual_information) if reliable else self.kl

    @property
    def facts(self) -> Facts:
        """What `LATENTS` judges; without latents nothing can collapse."""
        few = self.used < COLLAPSED_SHARE * self.latent_dim
        carried = carried_facts(self.information, self.latent_dim, few) if self.latent_dim else {}
        return {**carried, "told": self.told()}

    @property
    def collapsed(self) -> bool:
        """Whether the codes carry almost no information, or little information in few dimensions."""
        return LATENTS.grade(self.facts) == "doubt"

    @property
    def scanty(self) -> bool:
        """Whether the codes have not collapsed but carry little information."""
        return LATENTS.grade(self.facts) == "care"

    def told(self) -> str:
        """Describe the measurements in words."""
        # Drawn anew: not the draws of the metrics, whose estimate (`mi_split`) differs where there are few data.
        known = f"mutual information over the split, drawn anew; KL {self.kl:z.2f}"
        carried = f"the codes carry {self.mutual_information:z.2f} nats about the data ({known})"
        dimensions = f"{self.used} of {pluralize(self.latent_dim, 'latent dimension')}"
        return f"{carried}, the decoder uses {dimensions} (AU {self.active_units})"


def carried_facts(information: float, latent_dim: int, few: bool) -> Facts:
    """The facts that `INFORMATION` and `INFORMATION_IN_FEW` judge.

    Args:
        information: that the codes carry, nats.
        latent_dim: of the codes; for a scalar latent half of the thresholds is asked.
        few: whether few dimensions are in use.
    """
    return {"information": information * (2 if latent_dim == 1 else 1), "in_few": information if few else None}


# The study's trainings are of digits and sentences, and the truth is how many test data a decoder distinguishes: it
# misses 1 of 17 collapsed models, which gets "with care" (6 %, at most 29 % by the 95 % interval), and calls none of 6
# healthy ones collapsed (at most 46 %). In the other half it errs on none of 19, none of 8.
LATENTS: Rule[Facts] = Rule(
    name="latents",
    cases={
        "unlearnt": Case(
            level="doubt",
            found="Not learnt yet: {told}; the training ended before its warm-up did: train for longer.",
        )
    },
    limits={"information": INFORMATION, "in_few": INFORMATION_IN_FEW},
    found="[doubt?Posterior collapse: {told}; try {remedies}.][care?Believe searches in this model with care: "
    "{told}.][fine?{told}]",
    rule="doubt if codes carry under {information.doubt:g} nat about the data (half of that with one latent "
    "dimension), or under {in_few.doubt:g} nats in under {few:.0%} of the dimensions; care if under "
    "{information.care:g} nats (half of that with one latent dimension)",
    terms={"few": COLLAPSED_SHARE},
    rates=ErrorRates(unsound=17, doubted=16, sound=6, false_cares=1),
)


def collapse_verdict(found: LatentUse, method: str = "", kl_weight: float = 1.0, warm: bool = True) -> str:
    """Return the verdict on a model whose latents carry too little, with remedies; empty if its latents are in use.

    Args:
        found: the measurements.
        method: name of the method that trained the model, which is left out of the remedies.
        kl_weight: the final one; above 1, a smaller one is the first remedy.
        warm: whether the KL warm-up had ended; before, the verdict is that the model has not learnt yet.
    """
    others = ["a KL weight of at most 1"] * (kl_weight > 1)
    others += [remedy for remedy in REMEDIES if not method or not remedy.startswith(method)]
    remedies = f"{', '.join(others[:-1])} or {others[-1]}"
    check = LATENTS.check({**found.facts, "unlearnt": found.collapsed and not warm, "remedies": remedies})
    return check.found if check and check.level == "doubt" else ""


def caution(info: Mapping[str, Any]) -> str:
    """Return a warning for a model whose codes carry little, given its run.json.

    Empty where they carry enough, where the run has a verdict of collapse already, and where nothing was measured.
    """
    found = read(info)
    little = found is not None and found.scanty and not info.get("verdict")
    check = LATENTS.check(found.facts) if found and little else None
    return check.found if check else ""


def plain(found: LatentUse) -> dict[str, Any]:
    """Return the measurements as a dict for run.json."""
    return asdict(found)


def read(info: Mapping[str, Any]) -> LatentUse | None:
    """Read the measurements from a run.json; None if the training is unfinished or of a version without them."""
    values = info.get("latents")
    known = {field.name for field in fields(LatentUse)}
    if not isinstance(values, Mapping) or set(values) != known:
        return None
    return LatentUse(**values) if all(type(value) in (int, float) for value in values.values()) else None
