"""Methods by name: each picks one component on every axis (objective, penalty, inference, ...), from a few typed
parameters. Torch-free.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from lso.vae.config.architectures import Kind
from lso.vae.config.components import (
    RENAMED_PENALTY,
    Aggressive,
    Amortized,
    Component,
    Constant,
    Cyclical,
    DiagonalPosterior,
    Elbo,
    FreeBits,
    ImportanceWeighted,
    Inference,
    Joint,
    Linear,
    LogProbReencoding,
    NoiseSpec,
    Objective,
    PosteriorFamily,
    Reconstruction,
    Refinement,
    Schedule,
    SemiAmortized,
    SquaredReencoding,
    StandardPrior,
    Svi,
    Updates,
)
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.deprecation import renamed_attribute, translate_old_names
from lso.vae.utils.validation import convert, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to train a VAE: one component on each axis.

    Args:
        name: row of `METHODS`, or several joined by ``+``.
        params: the parameters that it was built with, defaults included.
        objective: the bound whose negative is minimized.
        penalty: added to the objective; None adds nothing.
        inference: how q(z|x) is computed.
        updates: whether the encoder is updated with the decoder or ahead of it.
        schedule: the KL weight over training.
        skip: whether z enters every layer of the decoder (Dieng et al. 2019).
        latents: False for an autoregressive baseline without latents.
        posterior: family of q(z|x).
        prior: p(z).
    Raises:
        UsageError: for components that exclude one another.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective = Elbo()  # noqa: RUF009  (frozen)
    penalty: Component | None = None
    inference: Inference = Amortized()  # noqa: RUF009
    updates: Updates = Joint()  # noqa: RUF009
    schedule: Schedule = Constant()  # noqa: RUF009
    skip: bool = False
    latents: bool = True
    posterior: PosteriorFamily = DiagonalPosterior()  # noqa: RUF009
    prior: Component = StandardPrior()  # noqa: RUF009

    def __post_init__(self) -> None:
        part = next((part for part in (self.penalty, self.inference) if part and part.diagonal), None)
        if part is not None and not self.posterior.diagonal:
            raise UsageError(
                f"{self.name}: {type(part).__name__} reads the mean and log-variance of a diagonal Gaussian, and the "
                f"posterior is {type(self.posterior).__name__}",
                "Take another posterior, or leave that part out.",
            )
        if isinstance(self.inference, Svi) and self.penalty is not None:
            raise UsageError(
                f"{self.name}: svi has no encoder, and the {self.penalty.label} needs one",
                "Take sa-vae instead of svi.",
            )
        if isinstance(self.inference, Svi) and isinstance(self.updates, Aggressive):
            raise UsageError(
                f"{self.name}: svi has no encoder that aggressive updates could train", "Take one of the two."
            )
        if not self.latents and self._differs_from_plain():
            raise UsageError(f"{self.name}: a baseline has no latents for another method to act on", "Take it alone.")

    def noise(self, latent_dim: int) -> tuple[NoiseSpec, ...]:
        """The random numbers that the components take in every step, without those of binarization and dropout.

        Args:
            latent_dim: size of z.
        Returns:
            One declaration for each tensor; the first is that of the posterior samples.
        """
        code = self.posterior.code_noise(latent_dim)
        others = [spec for part in (self.penalty, self.inference) if part is not None for spec in part.noise(code)]
        return (replace(code, count=self.objective.samples), *others)

    @property
    def reason_not_batchable(self) -> str:
        """Why models with it cannot be trained as one batched model, as half a sentence; empty where they can."""
        parts = (self.objective, self.penalty, self.inference, self.updates, self.posterior, self.prior)
        return next(filter(None, (part.reason_not_batchable for part in parts if part is not None)), "")

    alone = renamed_attribute("alone", "reason_not_batchable")

    def _differs_from_plain(self) -> bool:
        """Whether it differs from the plain VAE on any axis."""
        axes = (axis for axis in fields(self) if axis.name not in ("name", "params", "latents"))
        return any(getattr(self, axis.name) != axis.default for axis in axes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """A row of `METHODS`: a published method, and how its components are built."""

    # The method's own parameters (keyword-only, typed) -> fields of `Method` that differ from the plain VAE's, or
    # ``beta``, the last KL weight.
    build: Callable[..., dict[str, Any]]
    summary: str  # one line for lists
    source: str  # where it was published
    anneal: float = 0.0  # default length of the KL ramp, epochs
    example: Mapping[str, Any] = field(default_factory=dict)  # values for parameters without a default, for tests, help
    kind: Kind | None = None  # of data that it is for; None is any
    latents: bool = True  # False for an autoregressive baseline without latents
    needs_latents: bool = True  # whether it cannot be used with latent_dim 0


def _plain() -> dict[str, Any]:
    return {}


def _beta(*, beta: float = 0.5) -> dict[str, Any]:
    return {"beta": beta}


def _free_bits(*, floor: float = 0.1, over: Literal["datum", "batch"] = "datum") -> dict[str, Any]:
    return {"objective": FreeBits(floor=floor, over=over)}


def _iwae(*, samples: int = 5) -> dict[str, Any]:
    return {"objective": ImportanceWeighted(samples=samples)}


def _squared(
    *, weight: float = 1.0, reduction: Literal["mean", "sum"] = "mean", reconstruction: Reconstruction = "soft"
) -> dict[str, Any]:
    return {"penalty": SquaredReencoding(weight=weight, reduction=reduction, reconstruction=reconstruction)}


def _log_prob(
    *, c: float, weight: float = 1.0, reduction: Literal["mean", "sum"] = "sum", reconstruction: Reconstruction = "soft"
) -> dict[str, Any]:
    return {"penalty": LogProbReencoding(c=c, weight=weight, reduction=reduction, reconstruction=reconstruction)}


def _skip() -> dict[str, Any]:
    return {"skip": True}


def _aggressive(
    *,
    window: int = 10,
    cap: int = 99,
    budget: int = 0,
    patience: int = 5,
    against: Literal["best", "previous"] = "best",
    tolerance: float = 0.02,  # nats; not the published 0, for the reason given in `Aggressive`
    early: int = 5,
) -> dict[str, Any]:
    values = {"window": window, "cap": cap, "budget": budget, "patience": patience, "early": early}
    return {"updates": Aggressive(against=against, tolerance=tolerance, **values)}


def _svi(
    *,
    steps: int = 20,
    step_size: float = 1.0,
    momentum: float = 0.5,
    clip: float = 5.0,
    clip_over: Literal["datum", "batch"] = "datum",
    batch: int = 50,
    initial: Literal["random", "zero"] = "random",
) -> dict[str, Any]:
    refinement = Refinement(
        steps=steps, step_size=step_size, momentum=momentum, clip=clip, clip_over=clip_over, batch=batch
    )
    return {"inference": Svi(refinement=refinement, initial=initial)}


def _sa(
    *,
    steps: int = 10,
    step_size: float = 1.0,
    momentum: float = 0.5,
    clip: float = 5.0,
    clip_over: Literal["datum", "batch"] = "datum",
    batch: int = 50,
    products: Literal["exact", "differences"] = "exact",
) -> dict[str, Any]:
    refinement = Refinement(
        steps=steps, step_size=step_size, momentum=momentum, clip=clip, clip_over=clip_over, batch=batch
    )
    return {"inference": SemiAmortized(refinement=refinement, products=products)}


METHODS: Mapping[str, MethodSpec] = {
    "vae": MethodSpec(
        build=_plain,
        summary="the plain VAE",
        source="Kingma & Welling 2014, arXiv:1312.6114",
        needs_latents=False,
    ),
    "vae-anneal": MethodSpec(
        build=_plain,
        summary="KL weight raised from 0.1 to 1",
        source="Bowman et al. 2016, arXiv:1511.06349",
        anneal=10.0,
    ),
    "beta-vae": MethodSpec(
        build=_beta,
        summary="constant KL weight beta",
        source="Higgins et al. 2017; as He et al. 2019, arXiv:1901.05534",
    ),
    "free-bits": MethodSpec(
        build=_free_bits,
        summary="KL counts at least `floor` nats a dimension",
        source="Kingma et al. 2016, arXiv:1606.04934",
    ),
    "iwae": MethodSpec(
        build=_iwae, summary="importance-weighted bound, K samples", source="Burda et al. 2016, arXiv:1509.00519"
    ),
    "ne-vae-se": MethodSpec(
        build=_squared, summary="+ squared re-encoding error", source="NE-VAE 2021 (se)", anneal=10.0
    ),
    "ne-vae-lp": MethodSpec(
        build=_log_prob,
        summary="+ re-encoding log-probability floored at c",
        source="NE-VAE 2021 (lp)",
        anneal=10.0,
        example={"c": 0.0},
    ),
    "skip-vae": MethodSpec(
        build=_skip, summary="z enters every decoder layer", source="Dieng et al. 2019, arXiv:1807.04863"
    ),
    "aggressive": MethodSpec(
        build=_aggressive,
        summary="encoder trained ahead of the decoder until its loss rises, early on",
        source="He et al. 2019, arXiv:1901.05534",
    ),
    "svi": MethodSpec(
        build=_svi, summary="no encoder: posteriors by gradient steps", source="Hoffman et al. 2013, arXiv:1206.7051"
    ),
    "sa-vae": MethodSpec(
        build=_sa,
        summary="encoder's posterior refined by gradient steps, trained through them",
        source="Kim et al. 2018, arXiv:1802.02550",
    ),
    "pixelcnn": MethodSpec(
        build=_plain,
        summary="autoregressive decoder without latents, exact likelihood",
        source="van den Oord et al. 2016, arXiv:1606.05328",
        kind="image",
        latents=False,
        needs_latents=False,
    ),
    "lstm-lm": MethodSpec(
        build=_plain,
        summary="language model without latents, exact likelihood",
        source="Mikolov et al. 2010; as He et al. 2019, arXiv:1901.05534",
        kind="sequence",
        latents=False,
        needs_latents=False,
    ),
}


def _schedule_params(
    *, anneal: float = 0.0, unit: Literal["epochs", "iterations"] = "epochs", start: float = 0.1, cycles: int = 0
) -> None:
    """Parameters of the KL ramp, which every method takes: length, its unit, first weight, cycles (0: a single ramp).

    The signature alone is used; `_schedule` builds the schedule.
    """


def method_specs(name: str) -> list[MethodSpec]:
    """The rows of `METHODS` that a name stands for: one, or several joined by ``+`` as in ``"sa-vae+skip-vae"``."""
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in METHODS:
            raise unknown_name("method", part, METHODS)
        if parts.count(part) > 1:
            raise UsageError(f"method {name} names {part} twice", "Name each once.")
    return [METHODS[part] for part in parts]


def baselines(kind: Kind | None = None) -> str:
    """The names of the methods without latents, for errors: of one kind of data, or of all."""
    return ", ".join(name for name, row in METHODS.items() if not row.latents and kind in (None, row.kind))


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a method by name: its own, then those of the KL schedule."""
    specs = method_specs(name)
    by_name = {key: p for spec in specs for key, p in inspect.signature(spec.build).parameters.items()}
    by_name |= inspect.signature(_schedule_params).parameters
    by_name["anneal"] = by_name["anneal"].replace(default=max(spec.anneal for spec in specs))
    return by_name


def renamed_parameters(name: str) -> dict[str, str]:
    """Deprecated names of a method's parameters, each with the current one."""
    known = parameters(name)
    return {old: new for old, new in RENAMED_PENALTY.items() if new in known}


def method(name: str, /, **params: Any) -> Method:
    """Build a method by name.

    Args:
        name: row of `METHODS`, or several that set different components, joined by ``+``: ``"ne-vae-se+aggressive"``.
        params: their parameters, e.g. ``beta=0.2``; see ``lso list methods``.
    Returns:
        The method, its ``params`` completed by the defaults.
    Raises:
        UsageError: for an unknown name or parameter, a missing one, a value of the wrong type or range, or joined
            methods that set the same component.
    """
    known = parameters(name)
    params = translate_old_names(params, renamed_parameters(name), f"method {name}")
    for key in params:
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, known)
    missing = [key for key, p in known.items() if p.default is p.empty and key not in params]
    if missing:
        examples = {key: value for spec in method_specs(name) for key, value in spec.example.items()}
        example = ",".join(f"{key}={examples[key]}" for key in missing)
        raise UsageError(
            f"method {name} needs {', '.join(missing)}", f"It has no default; for example {name}:{example}"
        )
    full = {key: convert(params.get(key, p.default), p.annotation, f"{name}:{key}") for key, p in known.items()}
    values: dict[str, Any] = {}
    for spec in method_specs(name):
        components = spec.build(**{key: full[key] for key in inspect.signature(spec.build).parameters})
        components |= {} if spec.latents else {"latents": False}
        if twice := set(components) & set(values):
            raise UsageError(
                f"method {name} sets the {' and the '.join(sorted(twice))} twice",
                "Join methods of which only one sets it.",
            )
        values |= components
    schedule = _schedule(values.pop("beta", 1.0), full)
    return Method(name=name, params=full, schedule=schedule, **values)


def _schedule(end: float, params: Mapping[str, Any]) -> Schedule:
    """The KL schedule that parameters ask for; parameters of a ramp without a ramp are refused, not ignored."""
    defaults = {key: p.default for key, p in inspect.signature(_schedule_params).parameters.items()}
    anneal, unit, start, cycles = (params[key] for key in defaults)
    require(anneal >= 0, "anneal >= 0", anneal, "0 means a constant KL weight.")
    require(cycles >= 0, "cycles >= 0", cycles, "0 means one ramp, then constant.")
    if anneal == 0:
        for key in ("unit", "start", "cycles"):
            require(params[key] == defaults[key], f"anneal > 0 with {key}", anneal, f"For example anneal=10,{key}=...")
        return Constant(end=end)
    first = min(start, end) if start == defaults["start"] else start  # a beta under 0.1 starts at itself
    if cycles:
        return Cyclical(length=anneal, cycles=cycles, unit=unit, start=first, end=end)
    return Linear(length=anneal, unit=unit, start=first, end=end)


def parse_method(text: str, defaults: Mapping[str, Any] = MappingProxyType({})) -> Method:
    """Build a method from text such as ``"ne-vae-se:weight=5,anneal=20"`` or ``"sa-vae+skip-vae:steps=20"``.

    Args:
        text: ``name:key=value,key=value``.
        defaults: for parameters that the text leaves out, in place of the table's; those that the method does not have
            are ignored.
    """
    name, _, rest = text.strip().partition(":")
    params: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"cannot read {item!r} in method {text!r}", "Write name:key=value,key=value.")
        params[key.strip()] = value.strip()
    known = parameters(name)
    return method(name, **({key: value for key, value in defaults.items() if key in known} | params))
