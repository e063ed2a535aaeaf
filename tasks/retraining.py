"""Weighted retraining (Tripp et al. 2020): search, train the model on with the best found drawn most often, repeat."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.decoder import Decoder
from lso.tasks.experiment import dataset_of
from lso.tasks.goal import Goal
from lso.tasks.retraining_record import RetrainingConfig
from lso.tasks.retraining_record import RetrainingResult as RetrainingResult
from lso.tasks.retraining_record import Round as Round
from lso.tasks.retraining_record import Watch as Watch
from lso.tasks.rounds import Rounds
from lso.vae import runs
from lso.vae.data import Dataset
from lso.vae.errors import RunError
from lso.vae.files import beside, replace_file
from lso.vae.lock import Lock
from lso.vae.runs import Run

STATE = "retraining.json"
CHANGEABLE = ("budget", "max_calls")  # in going on


def weighted_retraining(
    run: Run,
    goal: Goal,
    optimizer: str = "turbo",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    dataset: Dataset | None = None,
    device: str = "auto",
    executor: Any = None,
    timeout: float | None = None,
    watch: Watch | None = None,
    **config: Any,
) -> RetrainingResult:
    """Search a model's latent space, and train the model on between searches.

    A round trains the model on, from its weights as they are, with the training data and all objects found, drawn with
    replacement by the rank of their values; encodes the known data and the objects found with the new model; and
    searches for so many unique valid objects more. What was scored once is answered from memory in all later rounds.

        rounds/NN/train   a training run: config, weights begun with, metrics, model
        rounds/NN/search  a search: evaluations.jsonl
        rounds/NN/found.safetensors, round.json   written last: the round is complete

    Killed at any moment, the same call with ``resume=True`` goes on and ends as the unbroken one would have.

    Args:
        run: training run that gives model and training data. Its folder is left as it is.
        goal: what is sought. Training data are labelled by its score, once, which the budget does not count.
        optimizer: row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`.
        out: folder to make, or to go on with; None makes one under ``runs/``.
        resume: go on with ``out``; the budget may differ.
        dataset: of a run that was given its data as tensors.
        device: of the model.
        executor: of the score's calls, see `lso.loop.optimize`; may differ in going on.
        timeout: seconds for one call; may differ in going on.
        watch: progress and stop requests.
        **config: fields of `RetrainingConfig`; others are options of the optimizer.
    Returns:
        The result; with status ``stopped`` it can be gone on with.
    Raises:
        UsageError: if an argument is wrong.
        RunError: if ``out`` is taken, of another search, or another process works there.
        DivergedError: if a retraining's loss was not finite.
    Source: Tripp, Daxberger, Hernandez-Lobato (2020), arXiv:2006.09191, and their code's settings for expressions.
        Deviations: duplicates and invalid objects are not counted by the budget and are no new data; the model that is
        begun with was trained without weights (theirs with); each epoch is one pass over a drawn data set, batches
        formed as in the first training.
    """
    names = {found.name for found in dataclasses.fields(RetrainingConfig)}
    own = {key: value for key, value in config.items() if key in names}
    own["options"] = {**own.get("options", {}), **{key: config[key] for key in config if key not in names}}
    chosen = RetrainingConfig(optimizer=optimizer, **own)
    settings = _settings(run, goal, chosen)
    folder = _checked(out, settings) if resume else _made(run, out, settings)
    with Lock(folder):
        _write_state(folder, status="running", sentence="", settings=settings)
        data, calls = dataset_of(run) if dataset is None else dataset, {"executor": executor, "timeout": timeout}
        result = Rounds(run, goal, chosen, folder, data, device, watch or Watch(), calls).finish()
        _write_state(folder, status=result.status, sentence=result.sentence, finished=runs.now())
    return result


def _settings(run: Run, goal: Goal, config: RetrainingConfig) -> dict[str, Any]:
    """What tells searches apart."""
    settings = {**dataclasses.asdict(config), "goal": goal.name, "model": Decoder(run.model()).hash}
    settings["options"] = {key: repr(value) for key, value in sorted(config.options.items())}
    settings["k"] = repr(config.k)  # JSON has no infinity
    return settings


def _checked(out: str | Path | None, settings: Mapping[str, Any]) -> Path:
    """The folder of the same search."""
    folder = Path(out or "")
    before = _state(folder).get("settings")
    if before is None:
        raise RunError(f"{folder} is no weighted retraining", "Leave resume out, or name the folder of one.")
    changed = [key for key in settings if key not in CHANGEABLE and before.get(key) != settings[key]]
    if changed:
        told = "; ".join(f"{key} was {before.get(key)!r}, now {settings[key]!r}" for key in changed)
        raise RunError(f"{folder} is another search: {told}", "Go on with what it was begun with.")
    return folder


def _made(run: Run, out: str | Path | None, settings: Mapping[str, Any]) -> Path:
    """A new folder with its state, complete or not at all."""
    folder = runs.choose_folder(f"{run.config.data.task}-retraining", out)
    half = beside(folder.absolute())
    half.mkdir(parents=True)
    about = {"status": "running", "sentence": "", "run": str(run.path.resolve()), "settings": settings}
    _write_state(half, **about, **dataclasses.asdict(runs.Provenance.here()))
    os.replace(half, folder)
    return folder


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write_state(folder: Path, **values: Any) -> None:
    replace_file(folder / STATE, (json.dumps({**_state(folder), **values}, indent=2) + "\n").encode())
