"""Whether the latents collapsed: a rule on measured nats, one sentence, and what to try. Torch-free."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lso.vae.utils.validation import pluralize

REMEDIES = ("ne-vae-se:weight=5", "aggressive", "free-bits", "beta-vae:beta=0.5", "skip-vae", "a smaller --latent-dim")
COLLAPSED_SHARE = 0.2  # dimensions in use, as a share of all, under which they are few
# Nats from which on a dimension is used: so many the encoder puts there (KL), and so many it is worth to the decoder.
# Of idle ones neither passes 0.05 (digits, text); a PixelCNN that has nearly learned to do without its latents has a
# tenth of a nat of decoder use in 9 of 32 dimensions, and both in 2 (docs/log.md).
MIN_DIMENSION_NATS = 0.1
# How often the verdict errs, measured on trainings of digits and sentences by what their decoders tell apart of test
# data (benchmarks/verdict_study.py, the half of the cases that no threshold was set on; docs/log.md): of 17 collapsed
# ones it passes 1, "with care" (6 %, at most 29 % by the 95 % interval), of 6 healthy ones it accuses none (at most
# 46 %) and says "with care" of 1. In the other half: none of 19, none of 8.
# Nats that codes carry under which they have collapsed: they tell fewer than e = 2.7 data apart; of a scalar latent
# half of it, as He et al.'s toy is sure of from 0.5 on. Collapsed models of digits and text carry 0.00 to 0.05, digits
# at beta = 2, or at 4 and stopped in the ramp, 0.6 to 0.7; healthy ones 1.5 (two latents) and more (docs/log.md).
COLLAPSED_NATS = 1.0
# Under this, fewer than e^3 = 20 data are told apart, and few dimensions in use are a collapse too, as of the plain VAE
# on OMNIGLOT (1.4 to 2 nats in 3 to 6 of 32). Above it they are a latent size larger than the data ask for.
AMPLE_NATS = 3.0
# Nats under which codes that have not collapsed carry little (fewer than e^2.5 = 12 data are told apart), so that
# searches in them are to be believed with care. In the half of the study that thresholds may be set on, models whose
# decoders tell test data apart by 1.1 to 2.0 nats carry 1.4 to 2.4, full ones (2.8 nats and more) 3.2 and more.
FULL_NATS = 2.5
# Data from which on the mutual information is judged, whatever it is: it is at most the logarithm of their number, log
# 50 = 3.9. Of fewer data it says what codes carry up to this share of that logarithm (of 30 data, 1.7 nats); above it,
# it is what so few can tell, and the KL stands in, which is never less.
MIN_DATA, TELLING = 50, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentUse:
    """What the latents of a model carry, over the data that it was validated on.

    Args:
        latent_dim: size of z.
        data: in the split.
        mutual_information: of data and codes over the whole split, nats; at most log ``data``.
        kl: of the posteriors to the prior, nats; the mutual information and what the codes together differ from the
            prior by.
        used: dimensions with a KL of at least `MIN_DIMENSION_NATS` nats that are worth as much to the decoder: by so
            much the reconstruction loss rises when one is redrawn from the prior.
        active_units: the literature's number, dimensions whose posterior mean has a variance of at least 0.01. It is
            told and not judged: means of 1.8 in variance 0.02 are active and carry nothing, those of codes on a small
            scale carry much and are not.
    """

    latent_dim: int
    data: int
    mutual_information: float
    kl: float
    used: int
    active_units: int

    @property
    def information(self) -> float:
        """Nats that the codes carry, as far as so many data can tell."""
        told = self.data >= MIN_DATA or self.mutual_information < TELLING * math.log(max(1, self.data))
        return min(self.kl, self.mutual_information) if told else self.kl

    @property
    def collapsed(self) -> bool:
        """Whether the codes carry next to nothing, or little and that in few dimensions."""
        if not self.latent_dim:
            return False
        few = self.used < COLLAPSED_SHARE * self.latent_dim
        return self.information < least(self.latent_dim) or (few and self.information < AMPLE_NATS)

    @property
    def scanty(self) -> bool:
        """Whether the codes have not collapsed and carry little all the same."""
        return bool(self.latent_dim) and not self.collapsed and self.information < least(self.latent_dim, FULL_NATS)

    def told(self) -> str:
        """What was measured, in words."""
        carried = f"the codes carry {self.mutual_information:z.2f} nats about the data (KL {self.kl:z.2f})"
        dimensions = f"{self.used} of {pluralize(self.latent_dim, 'latent dimension')}"
        return f"{carried}, the decoder uses {dimensions} (AU {self.active_units})"


def least(latent_dim: int, nats: float = COLLAPSED_NATS) -> float:
    """Nats under which codes carry next to nothing, or little.

    Args:
        latent_dim: size of z.
        nats: `COLLAPSED_NATS` or `FULL_NATS`.
    Returns:
        The same, or half of it for a single latent.
    """
    return nats if latent_dim > 1 else nats / 2


def collapse_verdict(found: LatentUse, method: str = "", kl_weight: float = 1.0, warm: bool = True) -> str:
    """The sentence for a model whose latents are not in use.

    Args:
        found: what was measured.
        method: that trained it, so that something else is suggested.
        kl_weight: its last one; where it is above 1, less of it is suggested first.
        warm: whether its warm-up was over; before, nothing is said of a collapse, and of the model all the same.
    Returns:
        Empty if they are in use.
    """
    if not found.collapsed:
        return ""
    if not warm:
        return f"Not learnt yet: {found.told()}; the training ended before its warm-up did: train for longer."
    others = ["a KL weight of at most 1"] * (kl_weight > 1)
    others += [remedy for remedy in REMEDIES if not method or not remedy.startswith(method)]
    return f"Posterior collapse: {found.told()}; try {', '.join(others[:-1])} or {others[-1]}."


def caution(info: Mapping[str, Any]) -> str:
    """The sentence for a model whose codes carry little.

    Args:
        info: its run.json.
    Returns:
        Empty where they carry enough, where the verdict says that they are not in use, and where nothing is known.
    """
    found = read(info)
    little = found is not None and found.scanty and not info.get("verdict")
    return f"Believe searches in this model with care: {found.told()}." if found and little else ""


def plain(found: LatentUse) -> dict[str, Any]:
    """The numbers for run.json."""
    return asdict(found)


def read(info: Mapping[str, Any]) -> LatentUse | None:
    """What a training measured of its latents.

    Args:
        info: its run.json.
    Returns:
        The numbers; None where it is not finished, or was written before there were any.
    """
    values = info.get("latents")
    known = {field.name for field in fields(LatentUse)}
    if not isinstance(values, Mapping) or set(values) != known:
        return None
    return LatentUse(**values) if all(type(value) in (int, float) for value in values.values()) else None
