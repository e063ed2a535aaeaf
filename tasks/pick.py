"""Images named by the user for a run: a part of its own data, or files treated as its own data were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lso.tasks.datasets import seen
from lso.tasks.download import Progress
from lso.tasks.experiment import dataset_of
from lso.tasks.targets import Targets, load_targets
from lso.vae.config import from_dict
from lso.vae.data import SPLITS, Split, to_unit
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
    """Images to search for or to encode.

    Args:
        run: a training run.
        what: ``"test:20"`` (the first 20 of a split of the run's own data), ``"validation"`` (all of one), or a folder,
            image, .npy or .npz file.
        pixels: changes of how files become pixels, over the run's own (`config.DataConfig`): channels, invert, fit,
            bad_files.
        progress: told the files read.
    Returns:
        The images as the model sees data, in [0, 1].
    Raises:
        UsageError: if a part of the data is asked for that is not there, or changes are given with it.
        DataError: if the files cannot be read or do not fit the model, or the run's own data have changed.
    """
    part = part_of(what)
    if part is None:
        return _from_files(run, what, pixels or {}, progress)
    if pixels:
        flags = " and ".join(f"--{key.replace('_', '-')}" for key in pixels)
        raise UsageError(f"{flags} is for files, and {what} is a part of the run's own data", "Leave it out.")
    split, number = part
    dataset = dataset_of(run)
    x, labels = seen(dataset, split), dataset.labels.get(split)
    if number and (not number.isdigit() or not 1 <= int(number) <= len(x)):
        raise UsageError(f"expected {split}:N with N from 1 to {len(x)}, got {what}", f"For example {split}:20.")
    first = slice(int(number) if number else None)
    chosen = to_unit(x[first]).to(torch.get_default_dtype())
    return Targets(
        images=chosen,
        names=tuple(f"{split} {i}" for i in range(len(chosen))),
        notes=(f"{len(chosen)} of {len(x)} {split} images of {dataset.name}.",),
        labels=None if labels is None else labels[first],
    )


def pick_one(run: Run, what: str | Path) -> Targets:
    """One image: ``"test:3"`` is number 3 of the test split, counted from 0; else a file.

    Args:
        run: a training run.
        what: as above.
    Returns:
        One image as the model sees data.
    Raises:
        UsageError: if it names no image, or several.
        DataError: if the file cannot be read or does not fit the model, or the run's own data have changed.
    """
    part = part_of(what)
    if part is None:
        found = _from_files(run, what, {}, None)
        if len(found.images) != 1:
            raise UsageError(
                f"{what} holds {len(found.images)} images, expected one", "Give an image file, or e.g. test:3."
            )
        return found
    split, number = part
    x = seen(dataset_of(run), split)
    if not number.isdigit() or int(number) >= len(x):
        raise UsageError(f"expected {split}:N with N from 0 to {len(x) - 1}, got {what}", f"For example {split}:3.")
    index = int(number)
    chosen = to_unit(x[index : index + 1]).to(torch.get_default_dtype())
    return Targets(images=chosen, names=(f"{split} {index}",), notes=())


def _from_files(run: Run, what: str | Path, pixels: Mapping[str, Any], progress: Progress | None) -> Targets:
    return load_targets(
        what,
        from_dict({"data": dict(pixels)}, run.config).data,
        tuple(run.info["shape"]),
        run.config.protocol.binarize,
        run.config.seed,
        reference_mean=run.info["dataset"]["provenance"].get("mean"),
        progress=progress,
    )
