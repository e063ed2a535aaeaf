"""An image task's data: loaded, split, brought to one size and polarity, binarized, all of it recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lso.tasks.download import Progress
from lso.tasks.pixels import mean_intensity, own_size, prepare
from lso.tasks.task import TASKS, Task, task
from lso.vae.config import Binarize, DataConfig
from lso.vae.data import SPLITS, Dataset, Split, binarize
from lso.vae.errors import DataError, UsageError
from lso.vae.seeds import mix

# Splits are the same whatever the run's seed, so that runs with different seeds are measured on the same images.
SPLIT_SEED = 0
TENTHS = {"train": 8, "validation": 1, "test": 1}
FEWEST = 10  # images that can be split 80/10/10
WHOLE = "all"  # key of images that are not split yet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """Images as a file or folder has them.

    Args:
        splits: ``(n, channels, height, width)`` each, ``uint8`` or ``float32`` in [0, 1]: train, validation, test
            (missing ones are cut from train), or one entry ``"all"``.
        labels: ``(n,)`` integers for the same keys, or empty.
        provenance: what is known of the source, JSON-able; ``notes`` is a list of sentences.
    """

    splits: Mapping[str, Tensor]
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def load_dataset(data: DataConfig, binarize: Binarize, seed: int, *, progress: Progress | None = None) -> Dataset:
    """The dataset that a configuration names.

    A function of ``data`` alone, but for the binarization noise, which ``seed`` fixes: validation and test are drawn
    once (``"dynamic"``), or train too (``"fixed"``), or nothing is (``"none"``).

    Args:
        data: task, path and pixel handling.
        binarize: of the run's protocol.
        seed: of the run.
        progress: told the bytes downloaded and the files read.
    Returns:
        Three splits on the CPU; ``provenance`` has source, checksums, split, size, polarity, binarization.
    Raises:
        UsageError: if there is no such task, or it needs a path and has none.
        DataError: if the data cannot be had, read or split.
    """
    row = task(data.task)
    if row.needs_path and not data.path:
        raise UsageError(f"task {row.name} needs a path to your images", "Give it with --data PATH.")
    raw = divide(_loader(row)(data, progress), data.limit, data.per_class)
    own = {(x.shape[-2], x.shape[-1]) for x in raw.splits.values()}
    size = (data.size, data.size) if data.size else own_size(own)
    channels = data.channels or raw.splits["train"].shape[1]
    ready = {name: prepare(x, size, channels, how=data.fit, invert=data.invert) for name, x in raw.splits.items()}
    record = _record(raw, data, ready, own)
    record["binarize"] = {"mode": binarize, "seed": seed}
    train, validation, test = (_drawn(ready, binarize, seed)[name] for name in SPLITS)
    return Dataset(name=row.name, train=train, validation=validation, test=test, labels=raw.labels, provenance=record)


def seen(dataset: Dataset, split: Split) -> Tensor:
    """A split as the model sees data, for measuring and searching: binary wherever training was on binary pixels.

    Args:
        dataset: of `load_dataset`, or any.
        split: which part.
    Returns:
        The split; training images under dynamic binarization drawn once, by the seed of the other splits.
    """
    how = dataset.provenance.get("binarize", {})
    x = dataset.split(split)
    return binarize(x, how["seed"], split) if split == "train" and how.get("mode") == "dynamic" else x


def _loader(row: Task) -> Any:
    module, _, function = row.load.partition(":")
    return getattr(import_module(module), function)


def permutation(n: int, purpose: str) -> Tensor:
    """A fixed shuffle, of numpy's frozen legacy generator so that it is the same in every version.

    Args:
        n: how many.
        purpose: names the stream.
    Returns:
        ``(n,)`` the numbers below n.
    """
    stream = np.random.RandomState(mix(SPLIT_SEED, purpose) & 0xFFFFFFFF)
    return torch.from_numpy(stream.permutation(n))


def divide(raw: Raw, limit: int = 0, per_class: int = 0) -> Raw:
    """Complete the three splits, keep ``limit`` training images and the others in proportion, then some of each class.

    Images that are not split are shuffled and cut 80/10/10. A missing validation or test split is a shuffled tenth of
    train. A limited part is chosen by seed and keeps its order. So are the images of each class, fewer of them being
    part of more; validation and test keep all of theirs.

    Args:
        raw: as loaded.
        limit: training images to keep at most; 0 keeps all.
        per_class: training images of each class to keep at most, of those that ``limit`` leaves; 0 keeps all.
    Returns:
        The same with the keys train, validation and test; a note says how many classes had fewer than ``per_class``.
    Raises:
        DataError: if there are fewer than ten images to split, or classes are asked for and not known.
    """
    sizes = {name: len(x) for name, x in raw.splits.items()}
    rows = {name: torch.arange(n) for name, n in sizes.items()}
    source = WHOLE if WHOLE in rows else "train"
    missing = [name for name in SPLITS if name not in rows]
    how = "as the source has them"
    if missing:
        shares = TENTHS if source == WHOLE else _tenths(missing)
        rows |= _cut(sizes[source], shares, source)
        how = f"{', '.join(missing)} cut from {source}, shuffled with seed {SPLIT_SEED}"
    chosen = _limited({name: rows[name] for name in SPLITS}, limit)
    kept = len(chosen["train"]) / len(rows["train"])
    part = f"; all parts reduced to {kept:.2g} of that" if kept < 1 else ""
    origin = {name: source if name in missing else name for name in SPLITS}
    notes = list(raw.provenance.get("notes", ()))
    if per_class:
        chosen["train"], note = _of_each_class(raw.labels.get(origin["train"]), chosen["train"], per_class)
        notes.append(note)
    record = {
        **raw.provenance,
        "notes": notes,
        "split": {
            "how": raw.provenance.get("split", how) + part,
            "seed": SPLIT_SEED,
            "counts": {name: len(index) for name, index in chosen.items()},
            "limit": limit,
            "per_class": per_class,
        },
    }

    def take(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: _rows(tensors[origin[name]], chosen[name]) for name in SPLITS if origin[name] in tensors}

    return Raw(splits=take(raw.splits), labels=take(raw.labels), provenance=record)


def _tenths(missing: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(missing, 1) | {"train": 10 - len(missing)}


def _cut(n: int, shares: Mapping[str, int], source: str) -> dict[str, Tensor]:
    """Shuffled row numbers in the given tenths; train takes the rest."""
    if n < FEWEST:
        raise DataError(
            f"only {n} images to split into training, validation and test, expected at least {FEWEST}", "Give more."
        )
    order = permutation(n, f"split/{source}")
    found, start = {}, 0
    for name, tenths in shares.items():
        if name != "train":
            count = max(1, n * tenths // 10)
            found[name] = order[start : start + count]
            start += count
    return {"train": order[start:], **found}


def _limited(rows: dict[str, Tensor], limit: int) -> dict[str, Tensor]:
    train = len(rows["train"])
    if not limit or limit >= train:
        return rows
    kept = {name: max(1, round(len(index) * limit / train)) for name, index in rows.items()}
    chosen = {name: permutation(len(index), f"limit/{name}")[: kept[name]] for name, index in rows.items()}
    return {name: index[chosen[name].sort().values] for name, index in rows.items()}


def _of_each_class(labels: Tensor | None, rows: Tensor, most: int) -> tuple[Tensor, str]:
    """The first rows of each class in a seeded order, in their old order, and what is to be said of them."""
    if labels is None:
        known = ", ".join(row.name for row in TASKS.values() if row.labelled)
        raise DataError("per_class needs class labels, and these data have none", f"Tasks that have them: {known}.")
    order = permutation(len(rows), "per-class")
    kinds = labels[rows][order]
    by_class = kinds.argsort(stable=True)
    sizes = torch.unique(kinds, return_counts=True)[1]
    rank = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # within its class
    short = int((sizes < most).sum())
    fewer = f", fewer in {short} of them" if short else ""
    note = f"{len(sizes)} classes with at most {most} training images each{fewer}."
    return rows[order[by_class[rank < most]].sort().values], note


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows by number; no copy where that is all of them in order."""
    return x if len(index) == len(x) and bool((index == torch.arange(len(x))).all()) else x[index]


def _drawn(splits: Mapping[str, Tensor], mode: Binarize, seed: int) -> dict[str, Tensor]:
    fixed = {"dynamic": ("validation", "test"), "fixed": SPLITS, "none": ()}[mode]
    return {name: binarize(x, seed, name) if name in fixed else x for name, x in splits.items()}


def _record(raw: Raw, data: DataConfig, ready: Mapping[str, Tensor], own: set[tuple[int, int]]) -> dict[str, Any]:
    """The provenance, completed by what was done to the pixels."""
    shape = tuple(ready["train"].shape[1:])
    mean = mean_intensity(ready["train"])
    notes = list(raw.provenance.get("notes", ()))
    if own != {shape[1:]}:
        sizes = " and ".join(f"{h}x{w}" for h, w in sorted(own))
        notes.append(f"Images resized from {sizes} to {shape[1]}x{shape[2]} ({data.fit}).")
    turned = "turned round (1 - x)" if data.invert else "as in the source"
    notes.append(f"Polarity {turned}; mean intensity of training images {mean:.3f} (0 is black).")
    done = {"shape": list(shape), "fit": data.fit, "inverted": data.invert, "mean": round(mean, 6)}
    return {"task": data.task, "path": data.path, **raw.provenance, **done, "notes": notes}
