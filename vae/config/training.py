"""What a training is: method x architecture x protocol x data, as frozen values and as `config.toml`. Torch-free."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from lso.vae.config.architectures import ARCHITECTURES, BASELINES, Architecture, Kind, architecture
from lso.vae.config.components import Svi
from lso.vae.config.methods import Method, baselines, method, parameters, renamed_parameters, rows
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.deprecation import current_words, renamed_fields
from lso.vae.utils.files import printable
from lso.vae.utils.validation import convert, require

Binarize = Literal["dynamic", "fixed", "none"]
Precision = Literal["float32", "bfloat16"]
Monitor = Literal["loss", "elbo", "objective", "last"]
RENAMED_PROTOCOL = {"judge": "monitor", "judge_from": "monitor_from"}  # old name -> current one


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptimizerSpec:
    """A row of the table of optimizers that train.

    Args:
        torch_name: class in `torch.optim` that takes ``fused``.
        learning_rate: the usual one.
        capturable: whether it has to be told that CUDA graphs record its steps.
    """

    torch_name: str
    learning_rate: float
    capturable: bool = False


TrainingOptimizer = Literal["adam", "sgd"]  # the rows of the table, for types
TRAINING_OPTIMIZERS: Mapping[str, TrainingOptimizerSpec] = {
    "adam": TrainingOptimizerSpec(torch_name="Adam", learning_rate=1e-3, capturable=True),
    "sgd": TrainingOptimizerSpec(torch_name="SGD", learning_rate=1.0),
}


@renamed_fields(**RENAMED_PROTOCOL)
@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a model is trained; the task gives the defaults.

    Gradients are clipped by their norm. The weights of the epoch with the least of what ``monitor`` names are kept, on
    validation data. When there is no new best for ``patience`` epochs, the learning rate is multiplied by ``decay``,
    the best weights are reloaded and the optimizers start afresh; after ``max_decays`` decays training ends (He et al.
    2019, arXiv:1901.05534, sec. 4 and authors' code). The best is that of the whole run, as in the authors' code for
    images; theirs for text compares with the loss at the last decay.

    What is watched under each ``monitor``:

    - ``loss``: what the method minimizes, at its last KL weight and with its penalty, free bits or importance weights.
      No epoch that ends within the KL ramp can be the best; until one can, the latest weights stand.
    - ``elbo``: -ELBO at KL weight 1, in the ramp too, as He et al. (2019), Kim et al. (2018) and Dieng et al. (2019).
    - ``objective``: reconstruction + last KL weight * KL, in the ramp too; what some tasks took before ``loss``.
    - ``last``: nothing, as with a fixed schedule, or when a model is trained on with data of another distribution.

    Args:
        optimizer: Adam, or gradient descent without momentum, as the papers have it for text.
        learning_rate: of the optimizer.
        encoder_learning_rate: of the encoder's, where there is one; 0 is the same.
        batch_size: data per step.
        epochs: at most.
        clip: largest gradient norm; 0 is none.
        clip_scope: the norm is that of encoder and decoder together, whichever of them step (authors' code), or of
            those that step, which makes the inner steps of aggressive training cheaper and longer.
        patience: epochs without a new best before a decay, counted from the first that can be it; 0 is never.
        decay: factor on the learning rate.
        max_decays: training stops at this decay.
        decay_from: a decay comes after more epochs than this (15 for text in both papers).
        steady: after the first decay there is one each epoch, and the weights are not reloaded (Kim et al. 2018).
        binarize: dynamic (drawn anew for every batch), fixed (once, by the run's seed) or none; of images.
        lengths: sequences of a batch have equal lengths, as the papers', or near ones and padding; see `Corpus.groups`.
        mi_lengths: sequences of the batches whose mutual information ends an aggressive phase: of one length, as in the
            authors' code, or of any, as folders have it that were written before there was this key.
        precision: of layers in a training step; weights, losses, validation and all that is measured stay in float32.
            In bfloat16 larger networks are faster on a processor that has instructions for it; on one that has not
            they are slower or cannot be computed, which is tried before training begins (see `lso.vae.precision`).
        compiled: whether the layers of a training step are fused by torch.compile, which takes minutes at first and
            pays on GPUs.
        monitor: what the best epoch has least of: loss, elbo, objective, or last for none.
        monitor_from: the first epoch that can be the best; 0 admits the untrained model, as folders have it that were
            written before there was this key.
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
    """Which data, and how files become pixels or tokens; search targets are treated the same way.

    Args:
        task: row of the task table.
        path: file or folder; empty is the task's own source.
        size: side in pixels; 0 is the images' own where all have one of 8 to 64, else 32, or the task's default.
        channels: 1 or 3; 0 is what the files are.
        invert: whether to turn polarity round, 1 - x.
        fit: how an image of another aspect becomes square: centre crop, padded, or stretched; or as the task has it.
        bad_files: refuse a folder with an unreadable file, or skip and count them.
        limit: use at most so many training data; 0 is all.
        limited: of molecules, when: before they are written as SELFIES (``"read"``), so that no others need be, or of
            those that could be (``"encoded"``), for which all are; or as the task has it.
        per_class: use at most so many training data of each class; 0 is all.
        tokenizer: what splits a line of text: words, characters, selfies, or ``module:function`` of the user's; or
            ``"task"``, the task's own.
        vocabulary: file of one token a line; empty takes the data's own, or counts the training data.
        vocabulary_size: keep so many of the commonest training tokens, the rest being unknown; 0 keeps all.
        min_count: keep tokens that occur so often in training.
        longest: leave out sequences of more tokens; 0 leaves out none.
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
            "0, the default, is the images' own where all have one of 8 to 64 pixels, else 32.",
        )
        require(self.channels in (0, 1, 3), "1 or 3 channels", self.channels, "0 takes what the files are.")
        require(self.limit >= 0, "limit >= 0", self.limit, "0 takes all data.")
        require(self.per_class >= 0, "per_class >= 0", self.per_class, "0 takes all data.")
        require(self.vocabulary_size >= 0, "vocabulary_size >= 0", self.vocabulary_size, "0 keeps all tokens.")
        require(self.min_count >= 1, "min_count >= 1", self.min_count, "1 keeps all tokens.")
        require(self.longest >= 0, "longest >= 0", self.longest, "0 leaves out none.")
        chosen = self.vocabulary_size > 0 or self.min_count > 1
        remedy = "Leave out the file, or vocabulary_size and min_count."
        require(not (self.vocabulary and chosen), "a vocabulary from a file or by counting", self.vocabulary, remedy)
        for text in (self.path, self.vocabulary, self.tokenizer):  # which config.toml could not say
            told = printable(text)
            require(text == told, "a name in UTF-8", told, "Rename it, or make a link to it: ln -s OLD NEW")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training, complete: this is `config.toml`.

    Args:
        method: a point on the axes.
        architecture: networks and their sizes.
        protocol: optimization.
        data: dataset and pixel handling.
        seed: of initialization, order, noise and binarization; splits are fixed by the task, so that seeds share their
            test data.
    Raises:
        UsageError: if the method needs latents and there are none, or the other way round; if there is a learning rate
            of the encoder and no encoder; if steps on sequences are to be compiled.
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
        needs = self.method.latents and any(row.needs_latents for row in rows(self.method.name))
        if not self.architecture.latent_dim and needs:
            raise UsageError(
                f"{self.method.name} acts on latents, and latent_dim is 0",
                f"Take a method without ({baselines()}), or some latents.",
            )
        if any(row.kind not in (None, self.kind) for row in rows(self.method.name)):
            raise UsageError(
                f"{self.method.name} is not for {self.kind}s, and {self.architecture.name} is",
                f"Take {baselines('image')} for images, {baselines('sequence')} for sequences.",
            )
        if self.protocol.compiled and self.kind == "sequence":
            raise UsageError(
                f"compiled is for images, whose batches have one shape, and {self.architecture.name} is for sequences",
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


# What the config.toml of a run folder means by keys that it does not have, as it was written before there were any.
BEFORE = TrainConfig(
    method=method("vae"),
    protocol=Protocol(monitor="elbo", monitor_from=0, mi_lengths="any"),
    data=DataConfig(limited="encoded"),
)
PARAMETERS_BEFORE = {"early": 0}  # the same of parameters of methods
SECTIONS: dict[str, Any] = {"architecture": Architecture, "protocol": Protocol, "data": DataConfig}


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain nested values, complete with defaults."""
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in SECTIONS}
    return {"seed": config.seed, "method": {"name": config.method.name, **config.method.params}, **sections}


def from_dict(values: Mapping[str, Any], defaults: TrainConfig | None = None) -> TrainConfig:
    """Read nested values strictly; what is missing comes from ``defaults``."""
    for name, section in values.items():
        if name not in ("seed", "method", *SECTIONS):
            raise unknown_name("section of the configuration", name, ("seed", "method", *SECTIONS))
        if name != "seed" and not isinstance(section, Mapping):
            raise UsageError(f"expected a table [{name}], got {section!r}", f"Write [{name}] and its keys below it.")
    base = defaults or TrainConfig(method=method("vae"))
    chosen = _method(values.get("method"), base.method)
    networks = _other_family(base.architecture, values.get("architecture", {}))
    parts = {name: getattr(base, name) for name in SECTIONS} | {"architecture": _without_latents(networks, chosen)}
    parts["protocol"] = _other_optimizer(base.protocol, values.get("protocol", {}))
    parts = {name: _update(part, name, values.get(name, {})) for name, part in parts.items()}
    seed = convert(values.get("seed", base.seed), int, "seed")
    return TrainConfig(method=chosen, seed=seed, **parts)


def _method(values: Mapping[str, Any] | None, base: Method) -> Method:
    if values is None:
        return base
    if "name" not in values:
        raise UsageError("expected a key name in [method]", 'For example: name = "ne-vae-se"')
    params = dict(values)
    return method(str(params.pop("name")), **params)


def _other_family(base: Architecture, values: Mapping[str, Any]) -> Architecture:
    """The base architecture; where another family is named, at that family's own sizes."""
    name = values.get("name", base.name)
    if name == base.name or name not in ARCHITECTURES:
        return base
    likelihood = base.likelihood if ARCHITECTURES[name].kind == ARCHITECTURES[base.name].kind else None
    return architecture(name, base.latent_dim, likelihood)


def _other_optimizer(base: Protocol, values: Mapping[str, Any]) -> Protocol:
    """The base protocol; where another optimizer is named, at that optimizer's own learning rate."""
    name = values.get("optimizer", base.optimizer)
    row = TRAINING_OPTIMIZERS.get(name)  # a name that there is not is refused later, with those that there are
    return base if name == base.optimizer or row is None else dataclasses.replace(base, learning_rate=row.learning_rate)


def _without_latents(networks: Architecture, chosen: Method) -> Architecture:
    """The default networks of a baseline: no latents, and a decoder that can do without."""
    if chosen.latents:
        return networks
    if not ARCHITECTURES[networks.name].autoregressive:
        networks = architecture(BASELINES[ARCHITECTURES[networks.name].kind], likelihood=networks.likelihood)
    return dataclasses.replace(networks, latent_dim=0)


def _update(part: Any, section: str, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(type(part))
    if section == "protocol":
        values = current_words(values, RENAMED_PROTOCOL, "[protocol]", stacklevel=5)
    for key in values:
        if key not in hints:
            raise unknown_name(f"key in [{section}]", key, hints)
    checked = {key: convert(value, hints[key], f"{section}.{key}") for key, value in values.items()}
    return dataclasses.replace(part, **checked)


def to_toml(config: TrainConfig) -> str:
    """The training as TOML text."""
    values = to_dict(config)
    lines = [f"seed = {values.pop('seed')}"]
    for name, section in values.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def from_toml(text: str, source: str = "configuration") -> TrainConfig:
    """Read TOML text strictly."""
    return from_dict(read_toml(text, source))


def from_folder(text: str, source: str) -> TrainConfig:
    """Read the configuration of a run folder, which an earlier version may have written."""
    values = _in_current_words(read_toml(text, source))
    networks = values.get("architecture")
    if isinstance(networks, Mapping):
        values["architecture"] = {"edition": 0, **networks}  # of the family named there, not of the default one
    chosen = values.get("method")
    if isinstance(chosen, Mapping) and chosen.get("name"):
        known = parameters(str(chosen["name"]))
        values["method"] = {key: value for key, value in PARAMETERS_BEFORE.items() if key in known} | dict(chosen)
    return from_dict(values, BEFORE)


def _in_current_words(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a folder, which keeps the words that were in use when it was written."""
    if isinstance(protocol := values.get("protocol"), Mapping):
        values["protocol"] = current_words(protocol, RENAMED_PROTOCOL)
    if isinstance(chosen := values.get("method"), Mapping) and chosen.get("name"):
        values["method"] = current_words(chosen, renamed_parameters(str(chosen["name"])))
    return values


def read_toml(text: str, source: str) -> dict[str, Any]:
    """Parse TOML text."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers too long, of tables too deep
        raise UsageError(f"{source} is not TOML: {error}", "`lso config init` writes one to edit.") from None


def load_config(path: str | Path) -> dict[str, Any]:
    """Read a TOML file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the configuration {path}: {error}", "`lso config init` writes one to edit."
        ) from None
    return read_toml(text, str(path))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + escaped.translate({code: f"\\u{code:04x}" for code in (*range(32), 127)}) + '"'
    return repr(value)
