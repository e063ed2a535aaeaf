"""The task `omniglot`: OMNIGLOT at 28x28, from the file of the papers (chardata.mat) or from an npz substitute.

The substitute is made from the original 105x105 images of Lake et al.; its figures cannot be compared with published
ones, which the provenance says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lso.tasks.datasets.arrays import Array, as_images, as_labels, find_key, has_16_bit_images, load_arrays
from lso.tasks.datasets.download import Progress, RemoteFile, fetch, file_hash
from lso.tasks.datasets.image_dataset import RawImages
from lso.tasks.datasets.splits import permutation, validation_size
from lso.tasks.task import require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError

CHARDATA = RemoteFile(
    name="omniglot/chardata.mat",
    urls=("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",),
    checksums=("md5:21ecaf34373511aa7691cf2e0802aa3d", "blob:016a3536ffe5e1d38e42563a18d7a78bfaf643ec"),
)
SUBSTITUTE_SHA256 = "a2f8a2fe415cd0193b2e9ab1e0235bc55c41fb3721329712cef391647f9903b0"  # sha256 of omniglot28_lake.npz
SIDE = 28
VALIDATION_IMAGES = 2_000
MNIST_SIZES, MNIST_CLASSES = (60_000, 10_000), 10


def load(data: DataConfig, progress: Progress | None = None) -> RawImages:
    """Read characters with ink bright; 2,000 seeded training images become validation (22,345 / 2,000 / 8,070).

    ``data.path`` is a chardata.mat, an npz with train_x and test_x, or a folder with either; an empty path downloads.
    Labels are the characters, where the file has them. The provenance's ``exact`` and ``substitute`` say which data
    they are.

    Source: Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519 (the file); Kim et al. (2018), arXiv:1802.02550 (2,000
    validation images). Deviation: a seed of ours chooses the 2,000; the authors' choice is not recorded.
    """
    path = _find_file(require_path(data.path)) if data.path else fetch(CHARDATA, progress=progress)
    train, test, labels, record = _read_chardata(path) if path.suffix.lower() == ".mat" else _read_npz(path)
    order = permutation(len(train), "split/omniglot")
    held = validation_size(len(train), VALIDATION_IMAGES, "OMNIGLOT")
    rows = {"train": order[held:].sort().values, "validation": order[:held].sort().values}
    record |= {"source": path.name, "split": f"validation: {held:,} training images chosen with seed 0"}
    splits = {name: train[index] for name, index in rows.items()}
    known = {name: labels[0][index] for name, index in rows.items()} | {"test": labels[1]} if labels else {}
    return RawImages(splits={**splits, "test": test}, labels=known, provenance=record)


def _find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for pattern in ("chardata.mat", "*omniglot*.npz"):
        if found := sorted(path.glob(pattern)):
            return found[0]
    raise DataError(f"no OMNIGLOT in {path}: expected chardata.mat or omniglot*.npz", "Leave --data out to download.")


OmniglotParts = tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None, dict[str, Any]]


def _read_chardata(path: Path) -> OmniglotParts:
    """Read chardata.mat of Burda et al.: arrays (pixels, images), each image stored transposed (Fortran order)."""
    from scipy.io import loadmat

    wanted = ("data", "testdata", "targetchar", "testtargetchar", "target", "testtarget")
    try:
        content = loadmat(path, variable_names=wanted)
        train, test = (_upright(content[key]) for key in wanted[:2])
        labels = _read_characters(content, (len(train), len(test)))
    except DataError:
        raise
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise DataError(
            f"{path} is not OMNIGLOT's chardata.mat: {error}", "Leave --data out to download the right one."
        ) from None
    md5 = file_hash(path, "md5")
    exact = f"md5:{md5}" == CHARDATA.checksums[0]
    identity = (
        "the papers' file (its MD5 agrees)" if exact else "of that form but NOT the papers' file: its MD5 differs"
    )
    record = {"md5": md5, "substitute": not exact, "exact": exact, "notes": [f"OMNIGLOT: {identity}."]}
    return as_images(train, "OMNIGLOT data"), as_images(test, "OMNIGLOT testdata"), labels, record


def _upright(x: Array) -> Array:
    """(784, n) columns -> (n, 28, 28), each image transposed back."""
    return x.T.astype(np.float32).reshape(-1, SIDE, SIDE).transpose(0, 2, 1)


def _read_characters(content: Mapping[str, Any], sizes: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
    """Labels of the training and test images, or None where the file lacks them.

    The file numbers characters within each alphabet, and has alphabets one-hot; a label unites both numbers.
    """
    characters, alphabets = ("targetchar", "testtargetchar"), ("target", "testtarget")
    if not content.keys() >= {*characters}:
        return None
    first, second = (as_labels(content[key], n, f"OMNIGLOT {key}") for key, n in zip(characters, sizes, strict=True))
    if not content.keys() >= {*alphabets}:
        return first, second
    most = max(int(first.max()), int(second.max())) + 1
    of = [as_labels(content[key].argmax(0), n, f"OMNIGLOT {key}") for key, n in zip(alphabets, sizes, strict=True)]
    return of[0] * most + first, of[1] * most + second


def _refuse_mnist(arrays: Mapping[str, Array], path: Path) -> None:
    """Refuse a file of MNIST, which has the same keys: its figures would pass for those of OMNIGLOT."""
    sizes = tuple(len(np.atleast_1d(arrays[key])) for key in ("train_x", "test_x"))
    label = find_key(arrays, ("train_char", "train_y"))
    classes = len(np.unique(arrays[label])) if label else None
    if sizes == MNIST_SIZES or (classes is not None and classes <= MNIST_CLASSES):
        classes_text = f" of {classes} classes" if classes is not None else ""
        raise DataError(
            f"{path} is not OMNIGLOT: {sizes[0]:,} + {sizes[1]:,} images{classes_text}, as MNIST and the like have",
            "Give a file of OMNIGLOT, or leave --data out to download it.",
        )


def _read_npz(path: Path) -> OmniglotParts:
    arrays = load_arrays(path)
    if "train_x" not in arrays or "test_x" not in arrays:
        raise DataError(f"{path} has no train_x and test_x", "Leave --data out to download OMNIGLOT.")
    _refuse_mnist(arrays, path)
    sha256 = file_hash(path)
    identity = (
        "a SUBSTITUTE (Lake's 105x105 images reduced to 28x28, test drawers partly guessed), not the papers' "
        "chardata.mat: log-likelihoods must not be compared with published ones"
    )
    caution = "" if sha256 == SUBSTITUTE_SHA256 else " The file's sha256 is not that of the known substitute."
    record = {"sha256": sha256, "substitute": True, "exact": False, "notes": [f"OMNIGLOT: {identity}.{caution}"]}
    keys = [find_key(arrays, (f"{part}_char", f"{part}_y")) for part in ("train", "test")]
    deep = has_16_bit_images(arrays.values())
    train, test = (as_images(arrays[key], f"{path.name}:{key}", deep=deep) for key in ("train_x", "test_x"))
    if not all(keys):
        return train, test, None, record
    both = zip(keys, (train, test), strict=True)
    first, second = (as_labels(arrays[key], len(x), f"{path.name}:{key}") for key, x in both)
    return train, test, (first, second), record
