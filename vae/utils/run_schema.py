"""The keys of run.json and their types, checked before a run is worked with: it may have been edited. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.vae.errors import RunError

Types = type | tuple[type, ...]

# Format of run folders. 1, which run.json does not state: up to version 0.1. 2: config.toml has `monitor` in place of
# `judge` and `reconstruction` in place of `shown`. CONTRIBUTING says under "What may change" when it is raised.
FORMAT = 2

# Types of keys; a key may be missing.
KEY_TYPES: Mapping[str, Types] = {
    **dict.fromkeys(("kind", "status", "sentence", "verdict", "device", "model", "started", "finished", "start"), str),
    "error": str,
    **dict.fromkeys(("format", "seed", "seeds", "threads", "processes"), int),
    **dict.fromkeys(("dataset", "search", "config", "calls", "versions"), dict),
    "seconds": (int, float),
    "shape": list,
}
# Keys without which a run of a kind cannot be worked with.
REQUIRED_KEYS: Mapping[str, tuple[str, ...]] = {
    "train": ("status", "sentence", "device", "threads", "dataset", "shape"),
    "search": ("status", "search"),  # no "model": a search may be over a decoder given in Python
}
DATASET_KEYS: Mapping[str, Types] = {"name": str, "hash": str, "provenance": dict}


def find_mistyped(info: Mapping[str, Any]) -> str:
    """The first key of a run.json whose value has another type than it should, as ``key is 'value'``; empty if none."""
    keys = [key for key, kind in KEY_TYPES.items() if key in info and not _has_type(info[key], kind)]
    keys += [key for key in ("shape",) if not keys and not all(type(size) is int for size in info.get(key, ()))]
    return f"{keys[0]} is {str(info[keys[0]])[:40]!r}" if keys else ""


def require_known_format(info: Mapping[str, Any], path: Path) -> None:
    """Refuse a run folder of a later format than this version reads."""
    if isinstance(stated := info.get("format", 1), int) and stated > FORMAT:
        raise RunError(
            f"{path} has format {stated}, expected at most {FORMAT}: a later version of lso wrote it",
            "Update lso: pip install --upgrade lso",
        )


def find_missing(kind: str, info: Mapping[str, Any]) -> str:
    """The first key that work on a run of this kind needs and its run.json lacks or mistypes; empty if none."""
    dataset = info.get("dataset", {})
    missing = [key for key in REQUIRED_KEYS[kind] if key not in info]
    if kind == "train":
        missing += [f"dataset.{key}" for key, of in DATASET_KEYS.items() if not _has_type(dataset.get(key), of)]
    return next(iter(missing), "")


def _has_type(value: Any, kind: Types) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
