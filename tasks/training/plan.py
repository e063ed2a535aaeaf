"""Builds the complete configuration of a training from names, flags and a file. Torch-free: mistakes show at once."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lso.tasks.datasets.tokenizers import TOKENIZERS
from lso.tasks.task import check_settings, fill_defaults, infer_task, likelihood_for, require_path, task
from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.config.methods import RECOMMENDED, Method, Recommendation, method, parse_method
from lso.vae.config.protocol import Protocol
from lso.vae.config.training import TrainConfig, from_dict, load_config
from lso.vae.errors import UsageError
from lso.vae.utils.trust import Trust, require_trust
from lso.vae.utils.user_module import allow, is_user_module

Settings = Mapping[str, Any]
METHOD_PARAMETERS = "parameters"  # of methods, in settings


def plan(settings: Settings, file: str | Path | None = None, trust: Trust = False) -> TrainConfig:
    """The complete configuration of a training: settings override the file, and the file the task's defaults.

    Args:
        settings: nested partial values as in `config.from_dict`; ``method`` may be ``"name:key=value"``, and
            ``parameters`` replace the defaults of method parameters that it leaves out. Without a method, that of
            `RECOMMENDED` for the kind of data is taken (`explain_method` says so).
        file: a TOML file, or None.
        trust: which code named by the file may run; code that the settings name comes from the user and is trusted.
    Returns:
        The configuration, with absolute paths.
    """
    own = {name: value for name, value in settings.items() if name != METHOD_PARAMETERS}
    values = merge(load_config(file) if file else {}, own)
    chosen = values.setdefault("method", _recommended(values).method)
    if isinstance(chosen, str):
        chosen = parse_method(chosen, settings.get(METHOD_PARAMETERS, {}))
    if isinstance(chosen, Method):
        if method(chosen.name, **chosen.params) != chosen:
            raise UsageError(
                f"the method given is not what {chosen.name} builds from its parameters, which is all that a run's "
                "config.toml says of it",
                "Give a row of lso.vae.config.methods.METHODS a parameter for it, or add a row.",
            )
        values["method"] = {"name": chosen.name, **chosen.params}
    data = values.setdefault("data", {})
    if isinstance(data, Mapping) and data.get("path") and not _is_drawn(data):
        values["data"] = {
            **data,
            "task": data.get("task") or infer_task(data["path"]),
            "path": str(require_path(data["path"]).resolve()),
        }
    if isinstance(data, Mapping) and data.get("vocabulary"):
        values["data"] = {**values["data"], "vocabulary": str(require_path(data["vocabulary"]).resolve())}
    full = from_dict(values, _task_defaults(values))
    full = replace(full, data=fill_defaults(full.data))
    said = settings.get("data", {})
    if full.data.tokenizer not in TOKENIZERS and not (isinstance(said, Mapping) and "tokenizer" in said):
        require_trust(full.data.tokenizer, "tokenizer", trust)
    networks = full.architecture.name
    if is_user_module(networks):
        named = settings.get("architecture", {})
        if not (isinstance(named, Mapping) and "name" in named):
            require_trust(networks, "module", trust, "name it by --arch")
        allow(networks)
    check_settings(full.data, full.protocol.binarize, full.protocol.lengths)
    return full


def _is_drawn(data: Mapping[str, Any]) -> bool:
    return bool(data.get("task")) and str(data["path"]) == task(str(data["task"])).drawn


def explain_method(settings: Settings, file: str | Path | None, full: TrainConfig) -> str:
    """Which method `plan` took because none was given, and why, as one line; empty where one was given.

    Args:
        settings: as `plan` got them.
        file: as `plan` got it.
        full: what `plan` made of them.
    """
    if "method" in settings or (file and "method" in load_config(file)):
        return ""
    row = RECOMMENDED[full.kind]
    return f"No method was given: taking {row.method}, the one to begin with for {full.kind}s ({row.reason})."


def _recommended(values: Settings) -> Recommendation:
    """The method for the kind of data that the values name."""
    data = values.get("data", {})
    name, path = (data.get("task"), data.get("path")) if isinstance(data, Mapping) else (None, None)
    return RECOMMENDED[task(str(name or (infer_task(path) if path else "digits"))).kind]


def merge(base: Settings, over: Settings) -> dict[str, Any]:
    """Merge settings over others key by key within sections; a method is replaced as a whole, with its parameters."""
    merged = dict(base)
    for name, value in over.items():
        both = name != "method" and isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = {**merged[name], **value} if both else (dict(value) if isinstance(value, Mapping) else value)
        other = both and name == "architecture" and value.get("name", base[name].get("name")) != base[name].get("name")
        if other and "width" not in value:
            merged[name].pop("width", None)  # the width was meant for the other architecture
    return merged


def _task_defaults(values: Settings) -> TrainConfig:
    def given(section: str, key: str, default: Any) -> Any:
        found = values.get(section, {})
        return found.get(key, default) if isinstance(found, Mapping) else default

    chosen = task(str(given("data", "task", "digits")))
    binarize = given("protocol", "binarize", chosen.protocol.binarize)
    name = str(given("architecture", "name", chosen.architecture))
    if is_user_module(name):
        networks = architecture(name, 0, likelihood=likelihood_for(chosen, binarize))
        return TrainConfig(method=method("vae"), architecture=networks, protocol=chosen.protocol, data=chosen.data)
    if name in ARCHITECTURES and ARCHITECTURES[name].kind != chosen.kind:
        others = ", ".join(key for key, row in ARCHITECTURES.items() if row.kind == chosen.kind)
        raise UsageError(
            f"{name} is for {ARCHITECTURES[name].kind}s, and task {chosen.name} has {chosen.kind}s", f"Take {others}."
        )
    sizes = chosen.sizes if name == chosen.architecture else {}
    networks = architecture(name, chosen.latent_dim, likelihood=likelihood_for(chosen, binarize), **sizes)
    protocol = _adapt_optimizer(chosen.protocol, ARCHITECTURES[networks.name].optimizer)
    return TrainConfig(method=method("vae"), architecture=networks, protocol=protocol, data=chosen.data)


def _adapt_optimizer(protocol: Protocol, optimizer: str) -> Protocol:
    """The task's protocol with the optimizer that the architecture needs, at that optimizer's default learning rate."""
    if optimizer in ("", protocol.optimizer):
        return protocol
    return from_dict(
        {"protocol": {"optimizer": optimizer}}, TrainConfig(method=method("vae"), protocol=protocol)
    ).protocol
