"""The configuration of a training: method, architecture, protocol and data, as dataclasses and as `config.toml`.

Torch-free.
"""

import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from lso.vae.config.architectures import ARCHITECTURES, BASELINES, Architecture, Kind, architecture
from lso.vae.config.components import Svi
from lso.vae.config.methods import (
    Method,
    baselines,
    method,
    method_specs,
    parameter_settings,
    parameters,
    renamed_parameters,
)
from lso.vae.config.protocol import METHOD, RENAMED_PROTOCOL, SEED, TRAINING_OPTIMIZERS, DataConfig, Protocol
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.deprecation import translate_old_names
from lso.vae.utils.settings import Setting, field_settings
from lso.vae.utils.user_module import is_user_module
from lso.vae.utils.validation import convert


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The complete configuration of a training; written to a run folder as `config.toml`.

    Raises:
        UsageError: if the method needs latents and there are none, or the other way round; if there is a learning rate
            for the encoder and no encoder; if steps on sequences are to be compiled.
    """

    method: Method  # objective, penalty, inference, encoder updates and KL schedule
    architecture: Architecture = field(default_factory=Architecture)
    protocol: Protocol = field(default_factory=Protocol)
    data: DataConfig = field(default_factory=DataConfig)
    # Of initialization, order of the data, noise and binarization; splits do not depend on it, so that runs of several
    # seeds share their test data.
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.method.latents and self.architecture.latent_dim:
            raise UsageError(
                f"{self.method.name} has no latents, and latent_dim is {self.architecture.latent_dim}",
                "Leave --latent-dim out, or give 0.",
            )
        own = is_user_module(self.architecture.name)
        if own and self.method.skip:
            raise UsageError(
                f"{self.method.name} adds edges from z to every layer of this library's decoders, and "
                f"{self.architecture.name} has a decoder of its own",
                "Let its decode give z to every layer, and take the method without skip-vae (vae alone).",
            )
        needs = not own and self.method.latents and any(row.needs_latents for row in method_specs(self.method.name))
        if not self.architecture.latent_dim and needs:
            raise UsageError(
                f"{self.method.name} acts on latents, and latent_dim is 0",
                f"Take a method without latents ({baselines()}), or give --latent-dim.",
            )
        if any(row.kind not in (None, self.kind) for row in method_specs(self.method.name)):
            raise UsageError(
                f"{self.method.name} is not for {self.kind}s, and {self.architecture.name} is",
                f"Take {baselines('image')} for images, {baselines('sequence')} for sequences.",
            )
        if self.protocol.compiled and self.kind == "sequence":
            raise UsageError(
                f"steps can be compiled for images, whose batches have one shape, and {self.architecture.name} is for "
                "sequences",
                "Leave --compiled out.",
            )
        encoder = (own or self.architecture.latent_dim) and not isinstance(self.method.inference, Svi)
        if (rate := self.protocol.encoder_learning_rate) and not encoder:
            raise UsageError(
                f"{self.method.name} has no encoder, and encoder_learning_rate is {rate}",
                "Leave --encoder-learning-rate out, or give 0.",
            )

    @property
    def kind(self) -> Kind:
        """Of the data: ``"image"`` or ``"sequence"``."""
        return self.architecture.spec.kind


# Values of keys that the config.toml of an old run folder lacks: what the version that wrote it did, before the key
# existed. They differ from today's defaults.
OLD_FOLDER_DEFAULTS = TrainConfig(
    method=method("vae"),
    protocol=Protocol(monitor="elbo", monitor_from=0, mi_lengths="any"),
    data=DataConfig(limited="encoded"),
)
OLD_FOLDER_PARAMETERS = {"early": 0}  # the same for parameters of methods
SECTIONS: dict[str, Any] = {"architecture": Architecture, "protocol": Protocol, "data": DataConfig}


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """A configuration as plain nested values, defaults included."""
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in SECTIONS}
    return {"seed": config.seed, "method": {"name": config.method.name, **config.method.params}, **sections}


def from_dict(values: Mapping[str, Any], defaults: TrainConfig | None = None) -> TrainConfig:
    """Build a configuration from nested values; missing keys come from ``defaults``, unknown ones are refused."""
    for name, section in values.items():
        if name not in ("seed", "method", *SECTIONS):
            raise unknown_name("section of the configuration", name, ("seed", "method", *SECTIONS))
        if name != "seed" and not isinstance(section, Mapping):
            raise UsageError(f"expected a table [{name}], got {section!r}", f"Write [{name}] and its keys below it.")
    base = defaults or TrainConfig(method=method("vae"))
    chosen = _read_method(values.get("method"), base.method)
    networks = _with_family_defaults(base.architecture, values.get("architecture", {}))
    parts = {name: getattr(base, name) for name in SECTIONS} | {"architecture": _fit_latents(networks, chosen)}
    parts["protocol"] = _with_optimizer_defaults(base.protocol, values.get("protocol", {}))
    parts = {name: _update_section(part, name, values.get(name, {})) for name, part in parts.items()}
    seed = convert(values.get("seed", base.seed), int, "seed")
    return TrainConfig(method=chosen, seed=seed, **parts)


def _read_method(values: Mapping[str, Any] | None, base: Method) -> Method:
    if values is None:
        return base
    if "name" not in values:
        raise UsageError("expected a key name in [method]", 'For example: name = "ne-vae-se"')
    params = dict(values)
    return method(str(params.pop("name")), **params)


def _with_family_defaults(base: Architecture, values: Mapping[str, Any]) -> Architecture:
    """The base architecture; where the values name another family, that family at its default sizes."""
    name = values.get("name", base.name)
    if name == base.name:
        return base
    if is_user_module(name):
        return architecture(name, 0, base.likelihood)
    if name not in ARCHITECTURES:
        return base
    likelihood = base.likelihood if ARCHITECTURES[name].kind == base.spec.kind else None
    return architecture(name, base.latent_dim, likelihood)


def _with_optimizer_defaults(base: Protocol, values: Mapping[str, Any]) -> Protocol:
    """The base protocol; where the values name another optimizer, with that optimizer's default learning rate."""
    name = values.get("optimizer", base.optimizer)
    row = TRAINING_OPTIMIZERS.get(name)  # an unknown name is refused later, with the list of known ones
    return base if name == base.optimizer or row is None else dataclasses.replace(base, learning_rate=row.learning_rate)


def _fit_latents(networks: Architecture, chosen: Method) -> Architecture:
    """The architecture; for a baseline without latents, with none and with a decoder that needs none."""
    if chosen.latents:
        return networks
    if is_user_module(networks.name):
        raise UsageError(
            f"{chosen.name} has no latents, and {networks.name} is a module that decodes codes",
            f"Take a method with latents, such as vae, or this library's {BASELINES[networks.spec.kind]}.",
        )
    if not networks.spec.autoregressive:
        networks = architecture(BASELINES[networks.spec.kind], likelihood=networks.likelihood)
    return dataclasses.replace(networks, latent_dim=0)


def _update_section(part: Any, section: str, values: Mapping[str, Any]) -> Any:
    """A section's dataclass with some values replaced; keys and types are checked."""
    hints = get_type_hints(type(part))
    if section == "protocol":
        values = translate_old_names(values, RENAMED_PROTOCOL, "[protocol]", stacklevel=5)
    for key in values:
        if key not in hints:
            raise unknown_name(f"key in [{section}]", key, hints)
    checked = {key: convert(value, hints[key], f"{section}.{key}") for key, value in values.items()}
    return dataclasses.replace(part, **checked)


def to_toml(config: TrainConfig, *, explained: bool = False) -> str:
    """A configuration as TOML text; with ``explained``, what each key sets stands above it as a comment."""
    values = to_dict(config)
    known: dict[str, Mapping[str, Setting]] = {name: field_settings(kind) for name, kind in SECTIONS.items()}
    known["method"] = {"name": METHOD, **parameter_settings(config.method.name)}
    lines = [*_explain(SEED if explained else None), f"seed = {values.pop('seed')}"]
    for name, section in values.items():
        lines += ["", f"[{name}]"]
        for key, value in section.items():
            lines += [*_explain(known[name].get(key) if explained else None), f"{key} = {_format_toml(value)}"]
    return "\n".join(lines) + "\n"


def _explain(setting: Setting | None) -> list[str]:
    """The help of a setting as lines of comment; None has none."""
    return (
        [] if setting is None else textwrap.wrap(setting.description, 100, initial_indent="# ", subsequent_indent="# ")
    )


def from_toml(text: str, source: str = "configuration") -> TrainConfig:
    """Read a configuration from TOML text; unknown keys are refused."""
    return from_dict(read_toml(text, source))


def from_folder(text: str, source: str) -> TrainConfig:
    """Read the configuration of a run folder, which an earlier version may have written."""
    values = _translate_old_keys(read_toml(text, source))
    networks = values.get("architecture")
    if isinstance(networks, Mapping):
        # A folder without the key holds the networks of version 0.1. `OLD_FOLDER_DEFAULTS` cannot say so: where the
        # folder names another family than its own, the defaults are that family's, with its newest edition.
        values["architecture"] = {"edition": 0, **networks}
    chosen = values.get("method")
    if isinstance(chosen, Mapping) and chosen.get("name"):
        known = parameters(str(chosen["name"]))
        values["method"] = {key: value for key, value in OLD_FOLDER_PARAMETERS.items() if key in known} | dict(chosen)
    return from_dict(values, OLD_FOLDER_DEFAULTS)


def _translate_old_keys(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a folder under today's keys, without a warning: a folder keeps those it was written with."""
    if isinstance(protocol := values.get("protocol"), Mapping):
        values["protocol"] = translate_old_names(protocol, RENAMED_PROTOCOL)
    if isinstance(chosen := values.get("method"), Mapping) and chosen.get("name"):
        values["method"] = translate_old_names(chosen, renamed_parameters(str(chosen["name"])))
    return values


def read_toml(text: str, source: str) -> dict[str, Any]:
    """Parse TOML text; ``source`` names it in errors."""
    import tomllib  # a command's help reads no file

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # which numbers too long and tables too deep raise as well
        raise UsageError(f"{source} is not TOML: {error}", "`lso config init` writes one to edit.") from None


def load_config(path: str | Path) -> dict[str, Any]:
    """Read a TOML file as nested values."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the configuration {path}: {error}", "`lso config init` writes one to edit."
        ) from None
    return read_toml(text, str(path))


def _format_toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + escaped.translate({code: f"\\u{code:04x}" for code in (*range(32), 127)}) + '"'
    return repr(value)
