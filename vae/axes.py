"""The axes on which methods are points: one small frozen value for each choice, torch-free.

What a value does is a function in the module of its axis: `objectives`, `penalties`, `inference`, `schedules`.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

from lso.vae.values import require

# --- objective --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Elbo:
    """Negative evidence lower bound with a KL weight (Kingma & Welling 2014; Higgins et al. 2017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeBits:
    """Negative ELBO whose KL counts at least ``floor`` nats in each dimension (Kingma et al. 2016)."""

    floor: float
    over: Literal["datum", "batch"] = "datum"

    def __post_init__(self) -> None:
        what, remedy = "a finite free-bits floor >= 0 nats", "0 is the plain ELBO; 0.05 to 0.5 is usual."
        require(0 <= self.floor < inf, what, self.floor, remedy)
        require(self.over in ("datum", "batch"), "over=datum or over=batch", self.over, "datum is the default.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceWeighted:
    """Importance-weighted bound with K samples (Burda et al. 2016)."""

    samples: int

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples >= 1", self.samples, "samples=1 is the sampled ELBO; 5 to 50 is usual.")


Objective = Elbo | FreeBits | ImportanceWeighted

# --- penalty ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredReencoding:
    """Squared distance between a code and the code of its reconstruction (NE-VAE, se)."""

    weight: float = 1.0
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        _check_penalty(self.weight, self.reduction)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProbReencoding:
    """Negative log-density of a code under the posterior of its reconstruction, floored at c per dimension (lp)."""

    c: float
    weight: float = 1.0
    reduction: Literal["mean", "sum"] = "sum"

    def __post_init__(self) -> None:
        require(self.c < inf, "a floor c below infinity", self.c, "-5 to 5 is usual; -inf is no floor.")
        _check_penalty(self.weight, self.reduction)


def _check_penalty(weight: float, reduction: str) -> None:
    require(0 <= weight < inf, "a finite penalty weight >= 0", weight, "0 switches the penalty off.")
    require(
        reduction in ("mean", "sum"),
        "reduction=mean or reduction=sum",
        reduction,
        "Both run over the latent dimensions.",
    )


Penalty = SquaredReencoding | LogProbReencoding

# --- inference --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Amortized:
    """q(z|x) is what the encoder says."""


Inference = Amortized

# --- KL schedule ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """KL weight ``end`` from the first step on."""

    end: float = 1.0

    def __post_init__(self) -> None:
        _check_weights(0.0, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """KL weight raised in equal steps from ``start`` to ``end`` over ``length`` epochs or iterations."""

    length: float
    unit: Literal["epochs", "iterations"] = "epochs"
    start: float = 0.1
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_ramp(self.length, self.unit)
        _check_weights(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cyclical:
    """``cycles`` ramps of ``length``, each followed by as long a plateau, then ``end`` (Fu et al. 2019, R = 0.5)."""

    length: float
    cycles: int
    unit: Literal["epochs", "iterations"] = "epochs"
    start: float = 0.1
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_ramp(self.length, self.unit)
        _check_weights(self.start, self.end)
        require(self.cycles >= 1, "cycles >= 1", self.cycles, "cycles=1 is a single ramp; Fu et al. (2019) use 4.")


def _check_ramp(length: float, unit: str) -> None:
    require(0 < length < inf, "a finite ramp length > 0", length, "anneal=0 means no ramp.")
    require(unit in ("epochs", "iterations"), "unit=epochs or unit=iterations", unit, "epochs is the default.")


def _check_weights(start: float, end: float) -> None:
    require(0 <= start <= end, "KL weights 0 <= start <= end", (start, end), "The ramp rises from start to end.")
    require(0 < end < inf, "a finite end KL weight > 0", end, "1 is the ELBO.")


Schedule = Constant | Linear | Cyclical
