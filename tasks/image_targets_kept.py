"""Outcomes of the toy latent search on disk, so that a repeated command goes on where an earlier one was cut off."""

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import torch

from lso.tasks.image_targets import BenchmarkConfig, Outcome, annealed, fields_of, role_of
from lso.thresholds import Ends
from lso.vae import reading
from lso.vae.checkpoint import first_line, load_last
from lso.vae.errors import RunError
from lso.vae.files import make_folder, replace_file
from lso.vae.runs import MODEL, Run

DISTANCES = ("distance_active", "distance_dead")
SURFACES = ("gap", *DISTANCES, "distance_decoded")  # of each threshold and target
WHAT, REMEDY = "an outcome of this benchmark", "remove it, and the search is made again"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a folder holds for the published count of a run.

    Args:
        steps: Adam steps of all images run as one from the prior, to the last threshold; None where there are none.
        why: there are none, in words; empty where there are.
        again: whether searching would give them.
    """

    steps: float | None = None
    why: str = ""
    again: bool = False


def standing(run: Run, folder: Path, config: BenchmarkConfig = BenchmarkConfig()) -> Standing:
    """Steps of all images run as one from the prior, to the last threshold, of an outcome that was kept.

    Args:
        run: a training run.
        folder: of the benchmark.
        config: with which it should have been made.
    Returns:
        The steps, or why there are none.
    """
    try:
        found = _kept(run, config, folder)
    except RunError as error:
        return Standing(why=error.message)
    if found is None:
        paths = sorted((folder / "outcomes").glob(escape(_name(run, ""))[: -len(".pt")] + "*.pt"))
        others = [told for path in paths if (told := _other(path, run, config))]
        why = f"searched with other settings ({others[0]})" if others else "not searched yet"
        return Standing(why=why, again=True)
    if found.together_reached[-1, 0]:
        return Standing(steps=float(found.together[-1, 0]))
    if not found.searched:
        return Standing(why="the search was cut off", again=True)
    return Standing(why=f"met the cap of {config.max_steps:,} steps before threshold {found.thresholds[-1]:g}")


def _other(path: Path, run: Run, config: BenchmarkConfig) -> str:
    """How the settings of an outcome differ; empty for one of other weights, and one that cannot be read."""
    try:
        weights, there = json.loads(_read(path)["key"])
    except RunError:
        return ""
    asked = json.loads(json.dumps(dataclasses.asdict(config)))
    if weights != _weights(run):
        return ""
    return "; ".join(f"{key} {there.get(key)}, not {value}" for key, value in asked.items() if there.get(key) != value)


def keep(outcome: Outcome, run: Run, config: BenchmarkConfig, folder: Path) -> None:
    """Write an outcome for `cached`.

    Args:
        outcome: what to write.
        run: whose it is.
        config: how it was made.
        folder: of the benchmark.
    """
    path = _path(run, config, folder)
    make_folder(path.parent)
    content = io.BytesIO()
    torch.save({"key": _key(run, config), **fields_of(outcome)}, content)
    replace_file(path, content.getvalue())


def _kept(run: Run, config: BenchmarkConfig, folder: Path) -> Outcome | None:
    path = _path(run, config, folder)
    if not path.is_file():
        return None
    content = _read(path)
    if content.pop("key") != _key(run, config):
        return None
    content |= {"role": role_of(run.config), "annealed": annealed(run.config)}
    try:
        found = Outcome(**content)
        _require(found)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from None
    for key in _without(found):  # earlier versions wrote 0 for a distance over no dimension
        getattr(found, key).fill_(torch.nan)
        for control in found.controls.values():
            control[key].fill_(torch.nan)
    return found


def _read(path: Path) -> dict[str, Any]:
    """What a file holds, its key in the form that `_key` gives."""
    content = load_last(path, "cpu", WHAT, REMEDY)
    try:
        weights, settings = json.loads(content["key"])
        if not isinstance(weights, str) or not isinstance(settings, dict):
            raise ValueError("it does not say of which weights and settings it is")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return content


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} cannot be read as {WHAT} ({first_line(error)})", f"It is damaged; {REMEDY}.")


def _require(found: Outcome) -> None:
    """Refuse what is no outcome: other shapes, other kinds of numbers, no part to go on from."""
    k, count = len(found.thresholds), found.gap.shape[1]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(SURFACES, (k, count))
    shapes |= dict.fromkeys(("loss", "steps", "reached"), (k, count, 2))
    shapes |= dict.fromkeys(("together", "together_reached"), (k, 2))
    wrong = [name for name, shape in shapes.items() if tuple(getattr(found, name).shape) != shape]
    wrong += ["decoded"] if tuple(found.decoded.shape[:2]) != (count, 2) else []
    wrong += [name for name, control in found.controls.items() if not {"gap", *DISTANCES, "loss"} <= set(control)]
    if found.part:
        Ends(**found.part)
    if wrong or not k:
        raise ValueError(f"other than expected: {', '.join(wrong) or 'no threshold'}")


def _without(outcome: Outcome) -> list[str]:
    counts = {"distance_active": outcome.active_units, "distance_dead": outcome.latent_dim - outcome.active_units}
    return [key for key, count in counts.items() if not count]


def _path(run: Run, config: BenchmarkConfig, folder: Path) -> Path:
    """Runs of one name may lie in different folders."""
    return folder / "outcomes" / _name(run, f"{config.lr:g}")


def _name(run: Run, lr: str) -> str:
    return f"{run.path.name}-{_weights(run)[:8]}-lr{lr}.pt"


def _key(run: Run, config: BenchmarkConfig) -> str:
    return json.dumps([_weights(run), dataclasses.asdict(config)])


def _weights(run: Run) -> str:
    return hashlib.sha256(reading.content(run.path / MODEL)).hexdigest()
