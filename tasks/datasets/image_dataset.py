"""Datasets of images: loads a task's files, splits, resizes and binarizes them, and records how in the provenance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.overlap import count_overlap, overlap_notes
from lso.tasks.datasets.preprocessing import mean_intensity, prepare_images, working_size
from lso.tasks.datasets.splits import plan_splits
from lso.tasks.task import fill_defaults, find_loader
from lso.vae.config.protocol import Binarize, DataConfig
from lso.vae.data.dataset import SPLITS, Dataset, binarize


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawImages:
    """Images as a task's files hold them, before they are split and resized.

    Args:
        splits: ``(n, channels, height, width)`` each, ``uint8`` or ``float32`` in [0, 1], under the keys train,
            validation and test (missing ones are cut from train), or all of them under the one key ``"all"``.
        labels: ``(n,)`` integer class labels under the same keys, or empty.
        provenance: facts about the source that JSON can hold; ``notes`` is a list of sentences for the user.
    """

    splits: Mapping[str, Tensor]
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def load_dataset(data: DataConfig, binarize: Binarize, seed: int, *, progress: Progress | None = None) -> Dataset:
    """Load the dataset of images that a configuration names, see `lso.tasks.datasets.loading.load_dataset`."""
    data = fill_defaults(data)
    raw = split_images(find_loader(data)(data, progress), data.limit, data.per_class)
    own = {(x.shape[-2], x.shape[-1]) for x in raw.splits.values()}
    size = (data.size, data.size) if data.size else working_size(own)
    channels = data.channels or raw.splits["train"].shape[1]
    ready = {
        name: prepare_images(x, size, channels, how=data.fit, invert=data.invert) for name, x in raw.splits.items()
    }
    record = _image_provenance(raw, data, ready, own)
    record["overlap"] = count_overlap(ready)
    record["notes"] += overlap_notes(record["overlap"], record["split"]["counts"], "image")
    record["binarize"] = {"mode": binarize, **({} if binarize == "none" else {"seed": seed})}
    train, validation, test = (_binarize_splits(ready, binarize, seed)[name] for name in SPLITS)
    return Dataset(name=data.task, train=train, validation=validation, test=test, labels=raw.labels, provenance=record)


def split_images(raw: RawImages, limit: int = 0, per_class: int = 0) -> RawImages:
    """Complete the splits train, validation and test, and apply the limits of `splits.plan_splits` to them."""
    sizes = {name: len(x) for name, x in raw.splits.items()}
    how = raw.provenance.get("split", "")
    done = plan_splits(sizes, raw.labels, limit=limit, per_class=per_class, how=how)
    notes = [*raw.provenance.get("notes", ()), *done.notes]
    record = {**raw.provenance, "notes": notes, "split": done.record}
    return RawImages(splits=done.take(raw.splits), labels=done.take(raw.labels), provenance=record)


def _binarize_splits(splits: Mapping[str, Tensor], mode: Binarize, seed: int) -> dict[str, Tensor]:
    # Under dynamic binarization training images are drawn anew at each step of training, not here.
    fixed = {"dynamic": ("validation", "test"), "fixed": SPLITS, "none": ()}[mode]
    return {name: binarize(x, seed, name) if name in fixed else x for name, x in splits.items()}


def _image_provenance(
    raw: RawImages, data: DataConfig, ready: Mapping[str, Tensor], own: set[tuple[int, int]]
) -> dict[str, Any]:
    """The source's provenance, completed by what was done to its pixels."""
    shape = tuple(ready["train"].shape[1:])
    mean = mean_intensity(ready["train"])
    notes = list(raw.provenance.get("notes", ()))
    if own != {shape[1:]}:
        sizes = " and ".join(f"{h}x{w}" for h, w in sorted(own))
        notes.append(f"Images resized from {sizes} to {shape[1]}x{shape[2]} ({data.fit}).")
    polarity = "inverted (1 - x)" if data.invert else "as in the source"
    notes.append(f"Polarity {polarity}; mean intensity of training images {mean:z.3f} (0 is black).")
    done = {"shape": list(shape), "fit": data.fit, "inverted": data.invert, "mean": round(mean, 6)}
    return {"task": data.task, "path": data.path, **raw.provenance, **done, "notes": notes}
