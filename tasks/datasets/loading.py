"""Loads the dataset of any task, images or sequences."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

from lso.tasks.datasets.download import Progress
from lso.tasks.task import task
from lso.vae.config.protocol import Binarize, DataConfig
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
    """Load the dataset that a configuration names, in three splits.

    The result depends on ``data`` alone, except for the binarization of images, whose noise ``seed`` fixes: under
    ``"dynamic"`` validation and test images are drawn once, under ``"fixed"`` training images as well, under
    ``"none"`` no image is.

    Args:
        data: task, path, and how files become pixels or tokens; settings left open take the task's values.
        binarize: how images are binarized; None takes the task's protocol. Sequences are not binarized.
        seed: seed of the binarization.
        progress: called with the bytes downloaded and the files read.
        trust: whether a tokenizer ``module:function`` may be imported and run, or the names of those that may be. Ask
            the user where ``data`` comes from a run folder, which can name any function.
        files: ``provenance["files"]`` of the text that an earlier run read. A user's tokenizer is then run only if
            the files are still the same; with a built-in tokenizer the caller compares the result (`Dataset.hash`).
    Returns:
        Three splits on the CPU; ``provenance`` has source, checksums, split and what was done to the data.
    Raises:
        UsageError: if there is no such task, its path is missing, a setting is for another kind of data, or the
            tokenizer is not trusted.
        DataError: if the data cannot be found, read or split, or the files differ from ``files``.
    """
    row = task(data.task)
    of_text: dict[str, Any] = {"trust": trust, "files": files} if row.kind == "sequence" else {}
    load = import_module(LOADERS[row.kind]).load_dataset
    loaded: Dataset = load(data, binarize or row.protocol.binarize, seed, progress=progress, **of_text)
    return loaded


def model_inputs(dataset: Dataset, split: Split) -> Data:
    """A split as the model takes it when it is evaluated or searched: binarized wherever training used binary pixels.

    Training images under dynamic binarization are drawn once here, with the seed of the other splits.
    """
    how = dataset.provenance.get("binarize", {})
    x = dataset.split(split)
    if isinstance(x, Tensor) and split == "train" and how.get("mode") == "dynamic":
        return binarize(x, how["seed"], split)
    return x
