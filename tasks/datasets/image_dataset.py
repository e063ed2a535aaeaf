"""An image task's data: loaded, split, brought to one size and polarity, binarized, all of it recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.overlap import overlap, overlap_notes
from lso.tasks.datasets.preprocessing import mean_intensity, own_size, prepare
from lso.tasks.datasets.splits import division
from lso.tasks.task import settled, source
from lso.vae.config.training import Binarize, DataConfig
from lso.vae.data.dataset import SPLITS, Dataset, binarize


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
    """The dataset of images that a configuration names.

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
    data = settled(data)
    raw = divide(source(data)(data, progress), data.limit, data.per_class)
    own = {(x.shape[-2], x.shape[-1]) for x in raw.splits.values()}
    size = (data.size, data.size) if data.size else own_size(own)
    channels = data.channels or raw.splits["train"].shape[1]
    ready = {name: prepare(x, size, channels, how=data.fit, invert=data.invert) for name, x in raw.splits.items()}
    record = _record(raw, data, ready, own)
    record["overlap"] = overlap(ready)
    record["notes"] += overlap_notes(record["overlap"], record["split"]["counts"], "image")
    record["binarize"] = {"mode": binarize, **({} if binarize == "none" else {"seed": seed})}
    train, validation, test = (_drawn(ready, binarize, seed)[name] for name in SPLITS)
    return Dataset(name=data.task, train=train, validation=validation, test=test, labels=raw.labels, provenance=record)


def divide(raw: Raw, limit: int = 0, per_class: int = 0) -> Raw:
    """Complete the three splits and keep some of each, see `splits.division`.

    Args:
        raw: as loaded.
        limit: training images to keep at most; 0 keeps all.
        per_class: training images of each class to keep at most, of those that ``limit`` leaves; 0 keeps all.
    Returns:
        The same with the keys train, validation and test.
    Raises:
        DataError: if there are fewer than ten images to split, or classes are asked for and not known.
    """
    sizes = {name: len(x) for name, x in raw.splits.items()}
    how = raw.provenance.get("split", "")
    done = division(sizes, raw.labels, limit=limit, per_class=per_class, how=how)
    notes = [*raw.provenance.get("notes", ()), *done.notes]
    record = {**raw.provenance, "notes": notes, "split": done.record}
    return Raw(splits=done.take(raw.splits), labels=done.take(raw.labels), provenance=record)


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
    notes.append(f"Polarity {turned}; mean intensity of training images {mean:z.3f} (0 is black).")
    done = {"shape": list(shape), "fit": data.fit, "inverted": data.invert, "mean": round(mean, 6)}
    return {"task": data.task, "path": data.path, **raw.provenance, **done, "notes": notes}
