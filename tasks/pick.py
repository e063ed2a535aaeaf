"""Data named by the user for a run: a part of its own, or files treated as its own data were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lso.tasks.datasets import seen
from lso.tasks.download import Progress
from lso.tasks.experiment import dataset_of
from lso.tasks.sentences import load_sentences, unknown_notes
from lso.tasks.targets import Targets, load_targets
from lso.vae.config import from_dict
from lso.vae.corpus import Corpus
from lso.vae.data import SPLITS, Data, Split, to_unit
from lso.vae.errors import UsageError
from lso.vae.runs import Run


def part_of(what: str | Path) -> tuple[Split, str] | None:
    """Read ``"test"`` or ``"test:20"``.

    Args:
        what: what the user gave.
    Returns:
        (split, what follows the colon); None where it is a path.
    """
    name, _, number = str(what).partition(":")
    split = next((split for split in SPLITS if split == name), None)
    return None if split is None or Path(what).exists() else (split, number)


def pick(
    run: Run, what: str | Path, *, pixels: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> Targets:
    """Data to search for or to encode.

    Args:
        run: a training run.
        what: ``"test:20"`` (the first 20 of a split of the run's own data), ``"validation"`` (all of one), or a folder,
            image, .npy or .npz file; for a run on sequences a text file of one a line, or a sentence as it is.
        pixels: changes of how files become pixels, over the run's own (`config.DataConfig`): channels, invert, fit,
            bad_files; and ``binarize``, see `lso.tasks.targets.load_targets`.
        progress: told the files read.
    Returns:
        The data as the model sees them, images in [0, 1].
    Raises:
        UsageError: if a part of the data is asked for that is not there, or changes are given with it.
        DataError: if the files cannot be read or do not fit the model, or the run's own data have changed.
    """
    part = part_of(what)
    if part is None:
        return _from_outside(run, what, pixels or {}, progress)
    _only_files(what, pixels)
    split, number = part
    dataset = dataset_of(run)
    x, labels = seen(dataset, split), dataset.labels.get(split)
    if number and (not number.isdigit() or not 1 <= int(number) <= len(x)):
        raise UsageError(f"expected {split}:N with N from 1 to {len(x)}, got {what}", f"For example {split}:20.")
    first = slice(int(number) if number else None)
    chosen = _as_seen(x, first)
    more = unknown_notes(chosen) if isinstance(chosen, Corpus) else []
    return Targets(
        x=chosen,
        names=tuple(f"{split} {i}" for i in range(len(chosen))),
        notes=(f"{len(chosen)} of {len(x)} {split} {dataset.kind}s of {dataset.name}.", *more),
        labels=None if labels is None else labels[first],
    )


def pick_one(run: Run, what: str | Path, *, pixels: Mapping[str, Any] | None = None) -> Targets:
    """One datum: ``"test:3"`` is number 3 of the test split, counted from 0; else a file, or a sentence.

    Args:
        run: a training run.
        what: as above.
        pixels: see `pick`.
    Returns:
        One datum as the model sees data.
    Raises:
        UsageError: if it names none, or several, or changes are given with a part of the data.
        DataError: if the file cannot be read or does not fit the model, or the run's own data have changed.
    """
    part = part_of(what)
    if part is None:
        found = _from_outside(run, what, pixels or {}, None)
        if len(found.x) != 1:
            instead = "Give an image file" if run.config.kind == "image" else "Write a sentence in quotes"
            raise UsageError(
                f"{what} holds {len(found.x)} {run.config.kind}s, expected one", f"{instead}, or e.g. test:3."
            )
        return found
    _only_files(what, pixels)
    split, number = part
    x = seen(dataset_of(run), split)
    if not number.isdigit() or int(number) >= len(x):
        raise UsageError(f"expected {split}:N with N from 0 to {len(x) - 1}, got {what}", f"For example {split}:3.")
    index = int(number)
    return Targets(x=_as_seen(x, slice(index, index + 1)), names=(f"{split} {index}",), notes=())


def _as_seen(x: Data, rows: slice) -> Data:
    part = x[rows]
    return part if isinstance(part, Corpus) else to_unit(part).to(torch.get_default_dtype())


def _from_outside(run: Run, what: str | Path, pixels: Mapping[str, Any], progress: Progress | None) -> Targets:
    if run.config.kind == "image":
        return _from_files(run, what, pixels, progress)
    if pixels:
        raise UsageError(f"{_flags(pixels)} is for images, and {run.path} is of sequences", "Leave it out.")
    return load_sentences(run, what)


def _only_files(what: str | Path, pixels: Mapping[str, Any] | None) -> None:
    if pixels:
        raise UsageError(f"{_flags(pixels)} is for files, and {what} is a part of the run's own data", "Leave it out.")


def _flags(pixels: Mapping[str, Any]) -> str:
    return " and ".join(f"--{key.replace('_', '-')}" for key in pixels)


def _from_files(run: Run, what: str | Path, pixels: Mapping[str, Any], progress: Progress | None) -> Targets:
    changes = dict(pixels)
    drawn = bool(changes.pop("binarize", False))
    return load_targets(
        what,
        from_dict({"data": changes}, run.config).data,
        tuple(run.info["shape"]),
        run.config.protocol.binarize,
        run.config.seed,
        drawn=drawn,
        reference_mean=run.info["dataset"]["provenance"].get("mean"),
        progress=progress,
    )
