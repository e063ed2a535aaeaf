"""Methods by name: each picks one component on every axis (objective, penalty, inference, ...), from a few typed
parameters. Torch-free.
"""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
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
    Schedule,
    SemiAmortized,
    SquaredReencoding,
    StandardPrior,
    Svi,
    Updates,
)
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.deprecation import renamed_attribute, translate_old_names
from lso.vae.utils.settings import Setting, check_fields, documented, setting
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

    summary: str  # one line for lists
    source: str  # where it was published
    # Axis, a field of `Method`, -> the component on it. Its fields are the method's parameters, and those of components
    # that it consists of (`Refinement`). On the axis ``schedule`` it is `LastWeight`, to which the KL ramp rises.
    parts: Mapping[str, type[Any]] = field(default_factory=dict)
    skip: bool = False  # whether z enters every layer of the decoder
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of parameters, where they are not their component's
    anneal: float = 0.0  # default length of the KL ramp, epochs
    example: Mapping[str, Any] = field(default_factory=dict)  # values for parameters without a default, for tests, help
    kind: Kind | None = None  # of data that it is for; None is any
    latents: bool = True  # False for an autoregressive baseline without latents
    needs_latents: bool = True  # whether it cannot be used with latent_dim 0


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class LastWeight:
    """The last KL weight, where a method lets it be set."""

    beta: float = setting(0.5, "Last KL weight.")


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class KlRamp:
    """Parameters of the KL ramp, which every method takes."""

    anneal: float = setting(0.0, "Length of the KL ramp.", least=0, remedy="0 means a constant KL weight.")
    unit: Literal["epochs", "iterations"] = setting("epochs", "Unit of the length.")
    start: float = setting(0.1, "First KL weight.")
    cycles: int = setting(
        0, "How often the ramp is repeated; 0: one ramp.", least=0, remedy="0 means one ramp, then constant."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.anneal == 0:
            for one in fields(self):  # those of a ramp without a ramp are refused, not ignored
                remedy = f"For example anneal=10,{one.name}=..."
                require(getattr(self, one.name) == one.default, f"anneal > 0 with {one.name}", self.anneal, remedy)


DEFAULT_RAMP = KlRamp()


METHODS: Mapping[str, MethodSpec] = {
    "vae": MethodSpec(
        summary="the plain VAE",
        source="Kingma & Welling 2014, arXiv:1312.6114",
        needs_latents=False,
    ),
    "vae-anneal": MethodSpec(
        summary="KL weight raised from 0.1 to 1",
        source="Bowman et al. 2016, arXiv:1511.06349",
        anneal=10.0,
    ),
    "beta-vae": MethodSpec(
        parts={"schedule": LastWeight},
        summary="constant KL weight beta",
        source="Higgins et al. 2017; as He et al. 2019, arXiv:1901.05534",
    ),
    "free-bits": MethodSpec(
        parts={"objective": FreeBits},
        summary="KL counts at least `floor` nats a dimension",
        source="Kingma et al. 2016, arXiv:1606.04934",
    ),
    "iwae": MethodSpec(
        parts={"objective": ImportanceWeighted},
        summary="importance-weighted bound, K samples",
        source="Burda et al. 2016, arXiv:1509.00519",
    ),
    "ne-vae-se": MethodSpec(
        parts={"penalty": SquaredReencoding},
        summary="+ squared re-encoding error",
        source="NE-VAE 2021 (se)",
        anneal=10.0,
    ),
    "ne-vae-lp": MethodSpec(
        parts={"penalty": LogProbReencoding},
        summary="+ re-encoding log-probability floored at c",
        source="NE-VAE 2021 (lp)",
        anneal=10.0,
        example={"c": 0.0},
    ),
    "skip-vae": MethodSpec(
        skip=True, summary="z enters every decoder layer", source="Dieng et al. 2019, arXiv:1807.04863"
    ),
    "aggressive": MethodSpec(
        parts={"updates": Aggressive},
        summary="encoder trained ahead of the decoder until its loss rises, early on",
        source="He et al. 2019, arXiv:1901.05534",
    ),
    "svi": MethodSpec(
        parts={"inference": Svi},
        defaults={"steps": 20},
        summary="no encoder: posteriors by gradient steps",
        source="Hoffman et al. 2013, arXiv:1206.7051",
    ),
    "sa-vae": MethodSpec(
        parts={"inference": SemiAmortized},
        summary="encoder's posterior refined by gradient steps, trained through them",
        source="Kim et al. 2018, arXiv:1802.02550",
    ),
    "pixelcnn": MethodSpec(
        summary="autoregressive decoder without latents, exact likelihood",
        source="van den Oord et al. 2016, arXiv:1606.05328",
        kind="image",
        latents=False,
        needs_latents=False,
    ),
    "lstm-lm": MethodSpec(
        summary="language model without latents, exact likelihood",
        source="Mikolov et al. 2010; as He et al. 2019, arXiv:1901.05534",
        kind="sequence",
        latents=False,
        needs_latents=False,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A row of `RECOMMENDED`: the method of a training for which none was named."""

    method: str
    reason: str  # half a sentence, from docs/log.md


RECOMMENDED: Mapping[Kind, Recommendation] = {
    "image": Recommendation(
        method="ne-vae-se",
        reason="through a strong decoder its codes stayed alive where plain, skip and aggressive VAEs collapsed",
    ),
    "sequence": Recommendation(
        method="beta-vae:beta=0.05",
        reason="with the full KL weight codes carried under 1 nat, and searches found next to nothing",
    ),
}


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
    """The parameters of a method by name: its own, then those of the KL ramp."""
    specs = method_specs(name)
    changed = {key: value for spec in specs for key, value in spec.defaults.items()}
    changed["anneal"] = max(spec.anneal for spec in specs)
    known: dict[str, inspect.Parameter] = {}
    for key, one in _parameter_fields(name).items():
        default = changed.get(key, inspect.Parameter.empty if one.default is MISSING else one.default)
        known[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=one.type)
    return known


def parameter_settings(name: str) -> dict[str, Setting]:
    """What there is to say of the parameters of a method."""
    return {key: one.metadata["setting"] for key, one in _parameter_fields(name).items() if "setting" in one.metadata}


def _parameter_fields(name: str) -> dict[str, Field[Any]]:
    parts = [part for spec in method_specs(name) for part in spec.parts.values()]
    return {key: one for part in (*parts, KlRamp) for key, one in _flat_fields(part).items()}


def _flat_fields(part: type) -> dict[str, Field[Any]]:
    """The fields of a component, those of a component that is part of it in its place."""
    known: dict[str, Field[Any]] = {}
    for one in fields(part):
        known |= _flat_fields(one.type) if is_dataclass(one.type) else {one.name: one}  # type: ignore[arg-type]
    return known


def _build(part: type, values: Mapping[str, Any]) -> Any:
    """A component from the parameters of its method."""
    return part(
        **{one.name: _build(one.type, values) if is_dataclass(one.type) else values[one.name] for one in fields(part)}  # type: ignore[arg-type]
    )


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
        components: dict[str, Any] = {axis: _build(part, full) for axis, part in spec.parts.items()}
        components |= {"skip": True} if spec.skip else {}
        components |= {} if spec.latents else {"latents": False}
        if twice := set(components) & set(values):
            raise UsageError(
                f"method {name} sets the {' and the '.join(sorted(twice))} twice",
                "Join methods of which only one sets it.",
            )
        values |= components
    end = values.pop("schedule").beta if "schedule" in values else 1.0
    schedule = _schedule(end, _build(KlRamp, full))
    return Method(name=name, params=full, schedule=schedule, **values)


def _schedule(end: float, ramp: KlRamp) -> Schedule:
    """The KL schedule that a ramp to a last weight is."""
    if ramp.anneal == 0:
        return Constant(end=end)
    # A beta under 0.1 starts at itself.
    start = min(ramp.start, end) if ramp.start == DEFAULT_RAMP.start else ramp.start
    if ramp.cycles:
        return Cyclical(length=ramp.anneal, cycles=ramp.cycles, unit=ramp.unit, start=start, end=end)
    return Linear(length=ramp.anneal, unit=ramp.unit, start=start, end=end)


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
