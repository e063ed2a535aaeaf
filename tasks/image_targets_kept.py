"""Outcomes of the toy latent search on disk, so that a repeated command goes on where an earlier one was cut off."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import torch

from lso.tasks.image_targets import BenchmarkConfig, Outcome, fields_of
from lso.thresholds import Ends
from lso.vae.files import replace_file
from lso.vae.runs import Run


def cached(run: Run, config: BenchmarkConfig, folder: Path) -> Outcome | None:
    """The outcome of an earlier call with the same weights and settings.

    Args:
        run: a training run.
        config: how.
        folder: of the benchmark.
    Returns:
        The outcome, or None where there is none, or it was cut off.
    """
    found = _kept(run, config, folder)
    return found if found is not None and found.finished else None


def begun(run: Run, config: BenchmarkConfig, folder: Path) -> Ends | None:
    """Where an earlier call with the same weights and settings was cut off.

    Args:
        run: a training run.
        config: how.
        folder: of the benchmark.
    Returns:
        For `benchmark`; None where there is nothing to go on from.
    """
    found = _kept(run, config, folder)
    return Ends(**found.part) if found is not None and found.part else None


def iterations(run: Run, folder: Path, config: BenchmarkConfig = BenchmarkConfig()) -> float | None:
    """Steps of all images run as one from the prior, to the last threshold, of an outcome that was kept.

    Args:
        run: a training run.
        folder: of the benchmark.
        config: with which it was made.
    Returns:
        The steps; None where there is no outcome, or the cap came first.
    """
    found = cached(run, config, folder)
    return float(found.together[-1, 0]) if found is not None and found.together_reached[-1, 0] else None


def keep(outcome: Outcome, run: Run, config: BenchmarkConfig, folder: Path) -> None:
    """Write an outcome for `cached`.

    Args:
        outcome: what to write.
        run: whose it is.
        config: how it was made.
        folder: of the benchmark.
    """
    path = _path(run, config, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save({"key": _key(run, config), **fields_of(outcome)}, content)
    replace_file(path, content.getvalue())


def _kept(run: Run, config: BenchmarkConfig, folder: Path) -> Outcome | None:
    path = _path(run, config, folder)
    if not path.is_file():
        return None
    content = torch.load(path, weights_only=True)
    return Outcome(**content) if content.pop("key") == _key(run, config) else None


def _path(run: Run, config: BenchmarkConfig, folder: Path) -> Path:
    """Runs of one name may lie in different folders."""
    return folder / "outcomes" / f"{run.path.name}-{_weights(run)[:8]}-lr{config.lr:g}.pt"


def _key(run: Run, config: BenchmarkConfig) -> str:
    return json.dumps([_weights(run), dataclasses.asdict(config)])


def _weights(run: Run) -> str:
    return hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
