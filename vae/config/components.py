"""The components that methods are made of: on each axis (objective, penalty, inference, ...) one dataclass a choice.

The dataclasses are torch-free. What a component computes is a function registered for it in `lso.vae.objectives`
(objective, penalty, KL schedule), `lso.vae.inference`, `lso.vae.distributions.families` (posterior, prior) or
`lso.vae.training.aggressive` (encoder updates). What it needs, it declares here: the random numbers of a step, and
whether models with it can be trained as one batched model. The training step, batched sweeps and CUDA graphs follow
these declarations.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, replace
from math import inf
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from lso.vae.utils.deprecation import renamed_fields
from lso.vae.utils.settings import check_fields, documented, same_setting, setting
from lso.vae.utils.validation import require

# --- declarations of all components -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSpec:
    """A tensor of random numbers that a component takes in every step: ``(count, batch, width)``."""

    # Name of the random stream. The numbers are a function of seed, stream and step: a name is used once in a method,
    # and a name that changes changes the training.
    stream: str
    width: int | None  # numbers for each datum; None is the shape of a datum, ``(count, batch, ...)``
    count: int = 1  # samples or gradient steps
    kind: Literal["normal", "uniform"] = "normal"  # standard normal, or uniform in [0, 1)

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the tensor for data of shape ``(batch, ...)``."""
        return (self.count, *shape) if self.width is None else (self.count, shape[0], self.width)


class Component:
    """The base of all components, with the declarations of one that draws nothing and can be batched over models."""

    __slots__ = ()
    # Why models with it cannot be trained as one batched model, as half a sentence; empty where they can.
    reason_not_batchable: ClassVar[str] = ""
    label: ClassVar[str] = "penalty"  # name of a penalty in sentences
    # Whether it reads mean and log-variance of q(z|x), so that the posterior must be the diagonal Gaussian.
    diagonal: ClassVar[bool] = False

    def noise(self, code: NoiseSpec) -> tuple[NoiseSpec, ...]:
        """The random numbers that it takes in every step.

        ``code``: those of one draw from the posterior, for components that draw codes by ``replace(code, stream=...)``.
        """
        return ()


# --- objective --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Elbo(Component):
    """Negative evidence lower bound with a KL weight (Kingma & Welling 2014; Higgins et al. 2017)."""

    samples: ClassVar[int] = 1  # posterior samples of each datum


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class FreeBits(Component):
    """Negative ELBO whose KL counts at least ``floor`` nats in each dimension (Kingma et al. 2016)."""

    samples: ClassVar[int] = 1
    floor: float = setting(
        0.1,
        "Least KL of a dimension that counts.",
        unit="nats",
        least=0,
        below=inf,
        remedy="0 is the plain ELBO; 0.05 to 0.5 is usual.",
    )
    over: Literal["datum", "batch"] = setting("datum", "Whether each datum's KL has the floor, or a batch's mean.")

    def __post_init__(self) -> None:
        check_fields(self)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceWeighted(Component):
    """Importance-weighted bound with K samples (Burda et al. 2016)."""

    samples: int = setting(
        5, "Draws K from the posterior.", least=1, remedy="samples=1 is the sampled ELBO; 5 to 50 is usual."
    )

    def __post_init__(self) -> None:
        check_fields(self)


Objective = Elbo | FreeBits | ImportanceWeighted

# --- penalty ----------------------------------------------------------------------------------------------------------


# Which reconstruction is encoded again: expected pixels, with gradients into the decoder ("soft") or without
# ("detached"), or binary pixels drawn from them, whose gradients are those of the expected ones (straight-through,
# "hard").
Reconstruction = Literal["soft", "detached", "hard"]
RENAMED_PENALTY = {"shown": "reconstruction"}  # old name -> current one


@renamed_fields(**RENAMED_PENALTY)
@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredReencoding(Component):
    """Squared distance between a code and the posterior mean of its reconstruction (NE-VAE, se)."""

    label: ClassVar[str] = "re-encoding penalty"
    weight: float = setting(1.0, "Weight of the penalty.", least=0, below=inf, remedy="0 switches the penalty off.")
    reduction: Literal["mean", "sum"] = setting("mean", "Reduction over the latent dimensions.")
    reconstruction: Reconstruction = setting(
        "soft",
        "What is encoded again: expected pixels, with gradients into the decoder (soft) or without (detached), or "
        "binary ones drawn from them (hard).",
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def noise(self, code: NoiseSpec) -> tuple[NoiseSpec, ...]:
        """A draw of the second code, and uniforms where pixels or tokens are drawn."""
        return (replace(code, stream="reencode"), *_pixel_noise(self.reconstruction))


@renamed_fields(**RENAMED_PENALTY)
@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class LogProbReencoding(Component):
    """Negative log-density of a code under the posterior of its reconstruction, floored at c per dimension (lp)."""

    label: ClassVar[str] = "re-encoding penalty"
    diagonal: ClassVar[bool] = True
    c: float = setting(
        MISSING,
        "Floor of the log-density, for each dimension.",
        unit="nats",
        below=inf,
        remedy="-5 to 5 is usual; -inf means no floor.",
    )
    weight: float = same_setting(SquaredReencoding, "weight")
    reduction: Literal["mean", "sum"] = same_setting(SquaredReencoding, "reduction", default="sum")
    reconstruction: Reconstruction = same_setting(SquaredReencoding, "reconstruction")

    def __post_init__(self) -> None:
        check_fields(self)

    def noise(self, code: NoiseSpec) -> tuple[NoiseSpec, ...]:
        """Uniforms where pixels or tokens are drawn."""
        return _pixel_noise(self.reconstruction)


def _pixel_noise(reconstruction: Reconstruction) -> tuple[NoiseSpec, ...]:
    return (NoiseSpec(stream="pixels", width=None, kind="uniform"),) if reconstruction == "hard" else ()


Reencoding = SquaredReencoding | LogProbReencoding

# --- inference --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Amortized(Component):
    """q(z|x) is the encoder's output."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """Gradient descent with momentum on the parameters of q(z|x), for each batch (Kim et al. 2018, arXiv:1802.02550).

        v <- momentum v - clip(grad / batch),  (mean, log_var) <- (mean, log_var) + step_size v,

    grad being that of one datum's sampled negative ELBO. The published code descends the mean loss of a batch of 50 or
    32; ``batch`` is that number, so that a datum is refined alike in a short batch and in an evaluation.
    """

    steps: int = setting(
        10, "Gradient steps K.", least=1, remedy="10 (He et al. 2019) or 20 (Kim et al. 2018) is usual."
    )
    step_size: float = setting(1.0, "Step size.", above=0, below=inf)
    momentum: float = setting(0.5, "Factor on the previous step.", least=0, below=1)
    clip: float = setting(
        5.0,
        "Largest norm of the gradient of the mean loss, for mean and log-variance each; 0: none.",
        least=0,
        below=inf,
        remedy="5 is the default; 0 switches it off.",
    )
    # batch: the matrix of a whole batch, as published; outside training that of each `batch` consecutive data. datum:
    # against clip / sqrt(batch), which is the same where all gradients have one norm, and makes a datum's result
    # independent of its neighbours.
    clip_over: Literal["datum", "batch"] = setting(
        "datum",
        "What the norm runs over: each datum alone, or a whole batch, as published.",
        remedy="datum is the default; batch is as published.",
    )
    batch: int = setting(50, "Data over which the published step takes the mean loss.", least=1)

    def __post_init__(self) -> None:
        check_fields(self)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Svi(Component):
    """Stochastic variational inference: q(z|x) is optimized anew for each batch, without an encoder (Hoffman et al.
    2013).
    """

    reason_not_batchable: ClassVar[str] = "inference takes gradient steps"
    diagonal: ClassVar[bool] = True
    refinement: Refinement
    initial: Literal["random", "zero"] = setting("random", "Where the steps begin: drawn mean and log-variance, or 0.")

    def __post_init__(self) -> None:
        check_fields(self)

    def noise(self, code: NoiseSpec) -> tuple[NoiseSpec, ...]:
        """A draw of the code for each gradient step, and two for a random start."""
        count = self.refinement.steps + (2 if self.initial == "random" else 0)
        return (replace(code, stream="inference", count=count),)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class SemiAmortized(Component):
    """SVI that starts from the encoder's output; the encoder is trained through its steps (Kim et al. 2018)."""

    # The gradient is the paper's. The released code (harvardnlp/sa-vae, `optim_n2n.py`) takes another: it clips the
    # perturbed gradients, of posterior and decoder together, subtracts unclipped ones and divides by 1e-5. Where their
    # norm is above the clip, as it is early in training, that swamps what comes through the refinement, and the encoder
    # gets the gradient of the plain ELBO at its start: its cosine with that was 1.000, with the true one 0.43 and -0.09
    # after 10 and 100 steps of training, with 20 inner ones (docs/log.md, 2026-12-01).
    reason_not_batchable: ClassVar[str] = "inference takes gradient steps"
    diagonal: ClassVar[bool] = True
    refinement: Refinement
    # Differences are wrong on PixelCNNs by 1 to 3 % a product early in training, and by up to 0.14 % in the gradients
    # of a whole step.
    products: Literal["exact", "differences"] = setting(
        "exact",
        "How Hessian-vector products are computed: exact, or as one-sided differences of gradients.",
        remedy="exact is the default; one-sided differences need no second derivatives.",
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def noise(self, code: NoiseSpec) -> tuple[NoiseSpec, ...]:
        """A draw of the code for each gradient step."""
        return (replace(code, stream="inference", count=self.refinement.steps),)


Inference = Amortized | Svi | SemiAmortized


# --- posterior and prior ----------------------------------------------------------------------------------------------


@runtime_checkable
class PosteriorFamily(Protocol):
    """The declarations of a family of posteriors q(z|x), beside those of every `Component`."""

    @property
    def reason_not_batchable(self) -> str:
        """See `Component`."""
        ...

    @property
    def diagonal(self) -> bool:
        """Whether it is the diagonal Gaussian, which refinements and some penalties need."""
        ...

    def parameters(self, latent_dim: int) -> int:
        """The number of outputs of an encoder for each datum."""
        ...

    def code_noise(self, latent_dim: int) -> NoiseSpec:
        """The random numbers of one draw of a code."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagonalPosterior(Component):
    """q(z|x) = N(mean, diag(exp(log_var))) (Kingma & Welling 2014)."""

    diagonal: ClassVar[bool] = True

    def parameters(self, latent_dim: int) -> int:
        """Mean and log-variance of each dimension."""
        return 2 * latent_dim

    def code_noise(self, latent_dim: int) -> NoiseSpec:
        """A standard normal for each dimension."""
        return NoiseSpec(stream="posterior", width=latent_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardPrior(Component):
    """p(z) = N(0, I) (Kingma & Welling 2014)."""


# --- components in the metadata of a model's file ---------------------------------------------------------------------

# The components with which a model is rebuilt, by name; no other class is made from what a file says.
STORED: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (Amortized, Svi, SemiAmortized, DiagonalPosterior, StandardPrior)
}


def component_card(value: Any) -> dict[str, Any]:
    """A component as plain values, for the metadata of a model's file."""
    return {"kind": type(value).__name__, **asdict(value)}


def read_component(card: Mapping[str, Any]) -> Any:
    """The component that `component_card` turned into plain values."""
    values = dict(card)
    kind = STORED[values.pop("kind")]
    if "refinement" in values:
        values["refinement"] = Refinement(**values["refinement"])
    return kind(**values)


# --- encoder updates --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint(Component):
    """Encoder and decoder are updated together in every step."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Aggressive(Component):
    """The encoder is trained to convergence before each step of the decoder, early in training (He et al. 2019)."""

    reason_not_batchable: ClassVar[str] = "each model decides on its own inner steps"
    window: int = setting(
        10,
        "Inner steps over which the loss is averaged; the inner loop ends when this mean rises.",
        least=1,
        remedy="10 for images, 15 for text.",
    )
    cap: int = setting(99, "Inner steps at most.", least=1)
    budget: int = setting(
        0,
        "A fixed number of inner steps instead; 0: until the mean loss rises.",
        least=0,
        remedy="0 waits until the loss rises; 10 to 70 is usual.",
    )
    patience: int = setting(
        5,
        "Epochs, over all of training, whose validation mutual information (MI) fell short, after which the aggressive "
        "phase ends.",
        least=1,
        remedy="5 for images, 1 for text.",
    )
    # Best is the authors' image code, with patience 5; previous is the paper's "MI stops climbing", with patience 1.
    against: Literal["best", "previous"] = setting(
        "best", "What the MI falls short of: the best so far, or that of the previous epoch."
    )
    # Early in training the MI moves by trifles: a fall from 1.5e-4 to 7e-5 nats ended the phase after two epochs, and
    # the model collapsed; so did 5 of 10 small runs on synthetic sequences, and none with 0.02 (docs/log.md,
    # 2026-12-01). The authors' estimate has noise of 0.1 nats at 32 dimensions, in which such a fall is lost;
    # `information.mutual_information` has little, so that without a tolerance trifles decide.
    tolerance: float = setting(
        0.02,
        "By how much the MI may be below and not count as short; 0: the published rule.",
        unit="nats",
        least=0,
        below=inf,
        remedy="0.02 is the default; 0 is the published rule.",
    )
    early: int = setting(
        5,
        "With against=best, the tolerance holds in so many first epochs, and later every fall counts; 0: in all "
        "epochs. With against=previous it always holds.",
        least=0,
        remedy="5 is the default; 0 applies the tolerance in all epochs.",
    )

    def __post_init__(self) -> None:
        check_fields(self)


Updates = Joint | Aggressive

# --- KL schedule ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Component):
    """KL weight ``end`` from the first step on."""

    end: float = 1.0

    def __post_init__(self) -> None:
        _check_weights(0.0, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Component):
    """KL weight that rises in equal steps from ``start`` to ``end`` over ``length`` epochs or iterations."""

    length: float
    unit: Literal["epochs", "iterations"] = "epochs"
    start: float = 0.1
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_ramp(self.length, self.unit)
        _check_weights(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cyclical(Component):
    """KL weight of ``cycles`` ramps, each ``length`` long and followed by as long a plateau; then ``end`` (Fu et al.
    2019, R = 0.5).
    """

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
