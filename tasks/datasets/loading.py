"""The data of any task, whatever their kind."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

from lso.tasks.datasets.download import Progress
from lso.tasks.task import task
from lso.vae.config.training import Binarize, DataConfig
from lso.vae.data.dataset import Data, Dataset, Split, binarize
from lso.vae.utils.trust import Trust

LOADERS = {"image": "lso.tasks.datasets.image_dataset", "sequence": "lso.tasks.datasets.text_files"}


def load_dataset(
    data: DataConfig,
    binarize: Binarize | None = None,
    seed: int = 0,
    *,
    progress: Progress | None = None,
    trust: Trust = False,
    files: Mapping[str, Any] | None = None,
) -> Dataset:
    """The dataset that a configuration names.

    A function of ``data`` alone, but for the binarization noise of images, which ``seed`` fixes: validation and test
    are drawn once (``"dynamic"``), or train too (``"fixed"``), or nothing is (``"none"``).

    Args:
        data: task, path, and how files become pixels or tokens; what it does not say is as the task has it.
        binarize: of the run's protocol; None is the task's own. Sequences have nothing to binarize.
        seed: of the run.
        progress: told the bytes downloaded and the files read.
        trust: whether a tokenizer ``module:function`` may be imported and run, or the names that may be: ``data`` can
            come from a run folder, and then names what its maker likes.
        files: of text, as ``provenance`` had them when they were read before: others are refused before a tokenizer of
            the user's is given their lines. With one of ours the caller compares what they hold (`Dataset.hash`).
    Returns:
        Three splits on the CPU; ``provenance`` has source, checksums, split and what was done to the data.
    Raises:
        UsageError: if there is no such task, it needs a path and has none, a setting is for other data, or its
            tokenizer is not to be trusted.
        DataError: if the data cannot be had, read or split, or the files are others.
    """
    row = task(data.task)
    of_text: dict[str, Any] = {"trust": trust, "files": files} if row.kind == "sequence" else {}
    load = import_module(LOADERS[row.kind]).load_dataset
    loaded: Dataset = load(data, binarize or row.protocol.binarize, seed, progress=progress, **of_text)
    return loaded


def seen(dataset: Dataset, split: Split) -> Data:
    """A split as the model sees data, for measuring and searching: binary wherever training was on binary pixels.

    Args:
        dataset: of `load_dataset`, or any.
        split: which part.
    Returns:
        The split; training images under dynamic binarization drawn once, by the seed of the other splits.
    """
    how = dataset.provenance.get("binarize", {})
    x = dataset.split(split)
    if isinstance(x, Tensor) and split == "train" and how.get("mode") == "dynamic":
        return binarize(x, how["seed"], split)
    return x
