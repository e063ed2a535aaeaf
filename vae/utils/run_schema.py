"""What a run.json holds, by kind: looked at before it is worked with, as anybody may have left it. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.vae.errors import RunError

Types = type | tuple[type, ...]

# Of run folders. 1, which run.json does not state: up to version 0.1. 2: config.toml has `monitor` where it had `judge`
# and `reconstruction` where it had `shown`. What CONTRIBUTING says under "What may change" raises it.
FORMAT = 2

# What keys are, where they are there.
KEY_TYPES: Mapping[str, Types] = {
    **dict.fromkeys(("kind", "status", "sentence", "verdict", "device", "model", "started", "finished", "start"), str),
    **dict.fromkeys(("format", "seed", "seeds", "threads", "processes"), int),
    **dict.fromkeys(("dataset", "search", "config", "calls", "versions"), dict),
    "seconds": (int, float),
    "shape": list,
}
# What work on a run needs.
REQUIRED_KEYS: Mapping[str, tuple[str, ...]] = {
    "train": ("status", "sentence", "device", "threads", "dataset", "shape"),
    "search": ("status", "search"),  # one of a decoder given in Python has no model
}
DATASET_KEYS: Mapping[str, Types] = {"name": str, "hash": str, "provenance": dict}


def find_mistyped(info: Mapping[str, Any]) -> str:
    """What in a run.json is of another kind than it should be."""
    told = [key for key, kind in KEY_TYPES.items() if key in info and not _has_type(info[key], kind)]
    told += [key for key in ("shape",) if not told and not all(type(size) is int for size in info.get(key, ()))]
    return f"{told[0]} is {str(info[told[0]])[:40]!r}" if told else ""


def require_known_format(info: Mapping[str, Any], path: Path) -> None:
    """Look whether a run folder is of a format that this version reads."""
    if isinstance(told := info.get("format", 1), int) and told > FORMAT:
        raise RunError(
            f"{path} has format {told}, expected at most {FORMAT}: a later version of lso wrote it",
            "Update lso: pip install --upgrade lso",
        )


def find_missing(kind: str, info: Mapping[str, Any]) -> str:
    """What a run.json does not say, or not in the right form, that work on such a run needs."""
    told = info.get("dataset", {})
    parts = [key for key in REQUIRED_KEYS[kind] if key not in info]
    if kind == "train":
        parts += [f"dataset.{key}" for key, of in DATASET_KEYS.items() if not _has_type(told.get(key), of)]
    return next(iter(parts), "")


def _has_type(value: Any, kind: Types) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
