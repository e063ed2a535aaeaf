"""Trained models that are installed with the package: run folders, read only, each called ``zoo:NAME``.

A model is added by a folder ``vae/pretrained/NAME`` with a ``card.toml``; ``make zoo`` trains it by the card's recipe.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from lso.vae.errors import UsageError, unknown_name

PREFIX = "zoo:"
FOLDER = Path(__file__).resolve().parent / "pretrained"
CARD, TEST_METRICS = "card.toml", "test_metrics.json"


def zoo_names() -> list[str]:
    """The names of the models, without the prefix."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{CARD}"))


def find_run(path: str | os.PathLike[str]) -> Path:
    """The folder of a run: of an installed model where the path is ``zoo:NAME``, else the path itself.

    Raises:
        UsageError: if no model has this name.
    """
    text = os.fspath(path)
    if not text.startswith(PREFIX):
        return Path(path)
    name = text.removeprefix(PREFIX)
    if name not in zoo_names():
        raise unknown_name("model of the zoo", name, zoo_names())
    return FOLDER / name


def zoo_name(path: Path) -> str | None:
    """``zoo:NAME`` where a path is the folder of an installed model; None elsewhere."""
    return f"{PREFIX}{path.name}" if path.parent == FOLDER else None


def run_reference(path: Path) -> str:
    """What names a run folder in other folders: ``zoo:NAME``, which holds on every machine, or its absolute path."""
    return zoo_name(path) or str(path.resolve())


def read_card(name: str) -> dict[str, Any]:
    """The card of a model: ``summary``, ``recipe`` (an ``lso train`` line), ``data`` and ``licence``."""
    return tomllib.loads((FOLDER / name / CARD).read_text(encoding="utf-8"))


def read_test_metrics(name: str) -> dict[str, Any]:
    """Metrics on test data, as ``lso evaluate --json`` gives them, and how many dimensions the decoder uses."""
    metrics: dict[str, Any] = json.loads((FOLDER / name / TEST_METRICS).read_text(encoding="utf-8"))
    return metrics


def refuse_changes(path: Path) -> None:
    """Raise where a run folder is that of an installed model, before anything is written to it."""
    name = zoo_name(path)
    if name is not None:
        recipe = read_card(path.name)["recipe"]
        raise UsageError(f"{name} is installed with lso and is not changed", f"Train your own by its recipe: {recipe}")
