"""The row of an epoch in metrics.jsonl."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.vae.files import append, utf8, writing
from lso.vae.schedules import kl_weight
from lso.vae.trainer import Trainer, elapsed


def epoch_row(trainer: Trainer, values: Mapping[str, Any], kept: bool, eligible: bool) -> dict[str, Any]:
    """Everything that is told of an epoch.

    Args:
        trainer: after its last step; its sums over the epoch are read.
        values: validation metrics, and what is watched.
        kept: whether its weights replace those kept so far: it is the best yet, or the latest where none could win.
        eligible: whether it could be the best.
    Returns:
        Names and numbers.
    """
    position, config = trainer.position, trainer.config
    *sums, count = trainer.totals.tolist()
    names = ("train_loss", "train_reconstruction", "train_kl", "train_penalty", "gradient_norm")
    means = {name: value / count if count else None for name, value in zip(names, sums, strict=True)}
    return {
        "epoch": position.epoch,
        "step": position.step,
        **means,
        **values,
        "inner_steps": position.inner / max(1, trainer.steps_per_epoch),
        "kl_weight": kl_weight(config.method.schedule, max(0, position.step - 1), trainer.steps_per_epoch),
        "learning_rate": position.learning_rate,
        "eligible": eligible,
        "best": kept,
        "seconds": round(elapsed(trainer), 3),
    }


def append_row(row: Mapping[str, Any], path: Path) -> int:
    """Write a row behind the others.

    Args:
        row: of an epoch.
        path: metrics.jsonl.
    Returns:
        The size of the file now, in bytes.
    """
    with writing(path), path.open("ab", buffering=0) as file:
        append(file, path, utf8(json.dumps(row) + "\n"))
    return path.stat().st_size
