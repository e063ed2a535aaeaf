"""The configuration of a training: method, architecture, protocol and data, as dataclasses and as `config.toml`.

Torch-free.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from lso.vae.config.architectures import ARCHITECTURES, BASELINES, Architecture, Kind, architecture
from lso.vae.config.components import Svi
from lso.vae.config.methods import Method, baselines, method, method_specs, parameters, renamed_parameters
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.deprecation import renamed_fields, translate_old_names
from lso.vae.utils.files import printable
from lso.vae.utils.validation import convert, require

Binarize = Literal["dynamic", "fixed", "none"]
Precision = Literal["float32", "bfloat16"]
Monitor = Literal["loss", "elbo", "objective", "last"]
RENAMED_PROTOCOL = {"judge": "monitor", "judge_from": "monitor_from"}  # old name -> current one


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptimizerSpec:
    """A row of `TRAINING_OPTIMIZERS`."""

    torch_name: str  # class in `torch.optim` that takes ``fused``
    learning_rate: float  # default
    capturable: bool = False  # whether the class must be told that CUDA graphs record its steps


TrainingOptimizer = Literal["adam", "sgd"]  # the rows of the table, for types
TRAINING_OPTIMIZERS: Mapping[str, TrainingOptimizerSpec] = {
    "adam": TrainingOptimizerSpec(torch_name="Adam", learning_rate=1e-3, capturable=True),
    "sgd": TrainingOptimizerSpec(torch_name="SGD", learning_rate=1.0),
}


@renamed_fields(**RENAMED_PROTOCOL)
@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a model is trained and which epoch's weights are kept; each task has defaults of its own.

    The weights are kept of the epoch at which the quantity named by ``monitor`` is smallest on validation data. When
    there is no new best for ``patience`` epochs, the learning rate is multiplied by ``decay``, the best weights are
    reloaded and the optimizers start afresh; after ``max_decays`` decays training ends (He et al. 2019,
    arXiv:1901.05534, sec. 4 and authors' code). The best is that of the whole run, as in the authors' code for images;
    theirs for text compares with the loss at the last decay.

    The quantity under each ``monitor``:

    - ``loss``: what the method minimizes, at its last KL weight and with its penalty, free bits or importance weights.
      No epoch that ends within the KL ramp can be the best; until one can, the latest weights are kept.
    - ``elbo``: -ELBO at KL weight 1, in the ramp too, as He et al. (2019), Kim et al. (2018) and Dieng et al. (2019).
    - ``objective``: reconstruction + last KL weight * KL, in the ramp too; the default of some tasks before ``loss``.
    - ``last``: none; the last epoch is kept, as for a fixed schedule, or where training goes on with data of another
      distribution.

    Args:
        optimizer: Adam, or gradient descent without momentum, which the papers use for text.
        learning_rate: of the optimizer.
        encoder_learning_rate: of the encoder, where there is one; 0 is ``learning_rate``.
        batch_size: data per step.
        epochs: largest number of passes over the training data.
        clip: largest norm of the gradient, to which longer ones are scaled down; 0 is none.
        clip_scope: whose gradient's norm: ``"joint"`` is encoder and decoder together, whichever of them is updated
            (authors' code); ``"stepped"`` is those that are updated, which makes the inner steps of aggressive training
            cheaper and longer.
        patience: epochs without a new best before a decay, counted from the first that can be the best; 0 is never.
        decay: factor on the learning rate.
        max_decays: number of the decay at which training ends.
        decay_from: a decay comes only after more epochs than this (15 for text in both papers).
        steady: whether, after the first decay, every epoch decays, and weights are not reloaded (Kim et al. 2018).
        binarize: of image pixels: dynamic (drawn anew for every batch), fixed (drawn once, by the run's seed) or none.
        lengths: sequences of a batch have equal lengths, as in the papers, or near ones and padding; see
            `Corpus.groups`.
        mi_lengths: the batches on which the mutual information is measured that ends an aggressive phase: sequences of
            equal length, as in the authors' code, or of any.
        precision: of the layers in a training step; weights, losses, validation and all metrics stay in float32.
            In bfloat16 larger networks are faster on a processor that has instructions for it; on others they are
            slower or cannot be computed, which is tried before training begins (see `lso.vae.precision`).
        compiled: whether the layers of a training step are fused by torch.compile, which takes minutes at first and
            pays on GPUs.
        monitor: quantity that is smallest at the epoch whose weights are kept: loss, elbo, objective, or last for none.
        monitor_from: the first epoch that can be the best; 0 admits the untrained model.
    Raises:
        UsageError: if a value is out of range.
    """

    optimizer: TrainingOptimizer = "adam"
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 0.0
    batch_size: int = 64
    epochs: int = 100
    clip: float = 5.0
    clip_scope: Literal["joint", "stepped"] = "joint"
    patience: int = 20
    decay: float = 0.5
    max_decays: int = 5
    decay_from: int = 0
    steady: bool = False
    binarize: Binarize = "dynamic"
    lengths: Literal["equal", "near"] = "equal"
    mi_lengths: Literal["equal", "any"] = "equal"
    precision: Precision = "float32"
    compiled: bool = False
    monitor: Monitor = "loss"
    monitor_from: int = 1

    def __post_init__(self) -> None:
        require(
            0 < self.learning_rate < math.inf, "a finite learning_rate > 0", self.learning_rate, "1e-3 is the default."
        )
        rate, remedy = self.encoder_learning_rate, "0 takes the learning_rate."
        require(0 <= rate < math.inf, "a finite encoder_learning_rate >= 0", rate, remedy)
        require(self.batch_size >= 1, "batch_size >= 1", self.batch_size, "64 is the default.")
        require(self.epochs >= 0, "epochs >= 0", self.epochs, "0 writes an untrained model.")
        require(self.clip >= 0, "clip >= 0", self.clip, "0 switches clipping off.")
        require(self.patience >= 0, "patience >= 0", self.patience, "0 switches the decay off.")
        require(0 < self.decay <= 1, "0 < decay <= 1", self.decay, "0.5 is the default.")
        require(self.max_decays >= 1, "max_decays >= 1", self.max_decays, "5 is the default.")
        require(self.decay_from >= 0, "decay_from >= 0", self.decay_from, "0 allows a decay at any epoch.")
        require(self.monitor_from >= 0, "monitor_from >= 0", self.monitor_from, "1 leaves out the untrained model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which data, and how files become pixels or tokens; targets of a search are prepared in the same way.

    Args:
        task: row of the task table.
        path: file or folder of the data; empty is the task's own source.
        size: side of an image in pixels; 0 is the images' own where all have the same from 8 to 64, else 32, or the
            task's default.
        channels: 1 (grey) or 3 (colour); 0 is that of the files.
        invert: whether polarity is reversed, 1 - x.
        fit: how an image that is not square becomes square: centre crop, padding, stretching, or the task's default.
        bad_files: what to do with unreadable files of a folder: refuse the folder, or skip and count them.
        limit: largest number of training data; 0 is all.
        limited: when the limit of molecules applies: before they are written as SELFIES (``"read"``), so that no others
            need be, or to those that could be written so (``"encoded"``), for which all are; or the task's default.
        per_class: largest number of training data of each class; 0 is all.
        tokenizer: splits a line of text: words, characters, selfies, or ``module:function`` of the user's; ``"task"``
            is the task's default.
        vocabulary: file with one token a line; empty takes the one that comes with the data, or counts the tokens of
            the training data.
        vocabulary_size: number of tokens kept, the commonest in training, the others being unknown; 0 keeps all.
        min_count: least number of occurrences in training of a token that is kept.
        longest: largest number of tokens of a sequence, longer ones being left out; 0 leaves out none.
    Raises:
        UsageError: if a value is out of range.
    """

    task: str = "digits"
    path: str = ""
    size: int = 0
    channels: int = 0
    invert: bool = False
    fit: Literal["task", "crop", "pad", "stretch"] = "task"
    bad_files: Literal["refuse", "skip"] = "refuse"
    limit: int = 0
    limited: Literal["task", "read", "encoded"] = "task"
    per_class: int = 0
    tokenizer: str = "task"
    vocabulary: str = ""
    vocabulary_size: int = 0
    min_count: int = 1
    longest: int = 0

    def __post_init__(self) -> None:
        require(
            self.size == 0 or 8 <= self.size <= 64,
            "a size of 8 to 64 pixels",
            self.size,
            "0, the default, keeps the images' own size where all have the same from 8 to 64 pixels, else takes 32.",
        )
        require(self.channels in (0, 1, 3), "1 or 3 channels", self.channels, "0 takes the channels of the files.")
        require(self.limit >= 0, "limit >= 0", self.limit, "0 takes all data.")
        require(self.per_class >= 0, "per_class >= 0", self.per_class, "0 takes all data.")
        require(self.vocabulary_size >= 0, "vocabulary_size >= 0", self.vocabulary_size, "0 keeps all tokens.")
        require(self.min_count >= 1, "min_count >= 1", self.min_count, "1 keeps all tokens.")
        require(self.longest >= 0, "longest >= 0", self.longest, "0 leaves out none.")
        counted = self.vocabulary_size > 0 or self.min_count > 1
        remedy = "Leave out the file, or vocabulary_size and min_count."
        require(not (self.vocabulary and counted), "a vocabulary from a file or by counting", self.vocabulary, remedy)
        for text in (self.path, self.vocabulary, self.tokenizer):  # config.toml cannot hold a name that is not UTF-8
            escaped = printable(text)
            require(text == escaped, "a name in UTF-8", escaped, "Rename it, or make a link to it: ln -s OLD NEW")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The complete configuration of a training; written to a run folder as `config.toml`.

    Args:
        method: objective, penalty, inference, encoder updates and KL schedule.
        architecture: networks and their sizes.
        protocol: optimization.
        data: dataset, and preparation of pixels or tokens.
        seed: of initialization, order of the data, noise and binarization; splits do not depend on it, so that runs of
            several seeds share their test data.
    Raises:
        UsageError: if the method needs latents and there are none, or the other way round; if there is a learning rate
            for the encoder and no encoder; if steps on sequences are to be compiled.
    """

    method: Method
    architecture: Architecture = field(default_factory=Architecture)
    protocol: Protocol = field(default_factory=Protocol)
    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.method.latents and self.architecture.latent_dim:
            raise UsageError(
                f"{self.method.name} has no latents, and latent_dim is {self.architecture.latent_dim}",
                "Leave --latent-dim out, or give 0.",
            )
        needs = self.method.latents and any(row.needs_latents for row in method_specs(self.method.name))
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
        encoder = self.architecture.latent_dim and not isinstance(self.method.inference, Svi)
        if (rate := self.protocol.encoder_learning_rate) and not encoder:
            raise UsageError(
                f"{self.method.name} has no encoder, and encoder_learning_rate is {rate}",
                "Leave --encoder-learning-rate out, or give 0.",
            )

    @property
    def kind(self) -> Kind:
        """Of the data: ``"image"`` or ``"sequence"``."""
        return ARCHITECTURES[self.architecture.name].kind


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
    if name == base.name or name not in ARCHITECTURES:
        return base
    likelihood = base.likelihood if ARCHITECTURES[name].kind == ARCHITECTURES[base.name].kind else None
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
    if not ARCHITECTURES[networks.name].autoregressive:
        networks = architecture(BASELINES[ARCHITECTURES[networks.name].kind], likelihood=networks.likelihood)
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


def to_toml(config: TrainConfig) -> str:
    """A configuration as TOML text."""
    values = to_dict(config)
    lines = [f"seed = {values.pop('seed')}"]
    for name, section in values.items():
        lines += ["", f"[{name}]", *(f"{key} = {_format_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


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
