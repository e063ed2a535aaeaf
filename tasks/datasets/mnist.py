"""The task `mnist`: MNIST from a local npz, from local idx files, or downloaded."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lso.tasks.datasets.arrays import as_images, as_labels, find_key, has_16_bit_images, load_arrays
from lso.tasks.datasets.download import Progress, RemoteFile, fetch, file_hash
from lso.tasks.datasets.image_dataset import RawImages
from lso.tasks.datasets.splits import validation_size
from lso.tasks.task import require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
STEMS = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
# MD5 of the .gz files, as the loaders of other libraries state them (torchvision, for one).
GZ_MD5 = {
    "train_x": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train_y": "d53e105ee54ea40749a09fcbcd1e9432",
    "test_x": "9fb629c4189551a2d022fa330f9573f3",
    "test_y": "ec29112dd5afa0611ce80d1b7f02629c",
}
TRAIN_IDX_MD5 = "6bbc9ace898e44ae57da46a324031adb"  # of the unpacked training images, header included
VALIDATION_IMAGES, CLASSES = 10_000, 10


def load(data: DataConfig, progress: Progress | None = None) -> RawImages:
    """Read 60,000 + 10,000 digits of 28x28 pixels, ink bright; the last 10,000 training images become validation.

    ``data.path`` is an npz (train_x, test_x, and train_y, test_y if known; Keras' names too), a folder with one, a
    folder with the four idx files, gzipped or not, or one of these files; an empty path downloads to the cache. The
    provenance's ``exact`` says whether the training images are byte for byte the original ones.

    Source: LeCun, Cortes, Burges, the MNIST database; licence usually given as CC BY-SA 3.0.
    """
    arrays, record = _read_local(require_path(data.path)) if data.path else _download(progress)
    deep = has_16_bit_images(arrays.values())
    train, test = (as_images(arrays[key], f"MNIST {key}", deep=deep) for key in ("train_x", "test_x"))
    held = validation_size(len(train), VALIDATION_IMAGES, "MNIST")
    labels = {}
    if "train_y" in arrays and "test_y" in arrays:
        y = as_labels(arrays["train_y"], len(train), "MNIST train_y", CLASSES)
        test_y = as_labels(arrays["test_y"], len(test), "MNIST test_y", CLASSES)
        labels = {"train": y[:-held], "validation": y[-held:], "test": test_y}
    exact = _idx_md5(train) == TRAIN_IDX_MD5
    are = "are" if exact else "are NOT"
    record |= {
        "exact": exact,
        "notes": [f"The training images {are} byte for byte those of the original MNIST (MD5 of the idx file)."],
        "split": f"validation: the last {held:,} training images",
    }
    splits = {"train": train[:-held], "validation": train[-held:], "test": test}
    return RawImages(splits=splits, labels=labels, provenance=record)


def _read_local(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if path.is_dir() and not _find_idx(path, "train_x"):
        packed = sorted(path.glob("*mnist*.npz"))
        if not packed:
            raise DataError(
                f"no MNIST in {path}: expected {STEMS['train_x']}[.gz] and its three companions, or mnist.npz",
                "Leave --data out to download it.",
            )
        path = packed[0]
    if path.suffix.lower() == ".npz":
        arrays = load_arrays(path)
        named = {key: find_key(arrays, (key, "_".join(reversed(key.split("_"))))) for key in STEMS}
        return _require_images({key: arrays[name] for key, name in named.items() if name}, path), {
            "source": path.name,
            "sha256": file_hash(path),
        }
    folder = path if path.is_dir() else path.parent
    files = {key: found for key in STEMS if (found := _find_idx(folder, key))}
    sums = {file.name: file_hash(file) for file in files.values()}
    return _require_images({key: read_idx(file) for key, file in files.items()}, folder), {
        "source": "idx files",
        "sha256": sums,
    }


def _require_images(arrays: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in ("train_x", "test_x"):
        if key not in arrays:
            raise DataError(f"{path} has no MNIST {key} ({STEMS[key]})", "Leave --data out to download all of it.")
    return arrays


def _find_idx(folder: Path, key: str) -> Path | None:
    """An idx file of a folder, gzipped or not, or None if it is missing."""
    for name in (STEMS[key], STEMS[key].replace("-idx", ".idx")):  # both spellings are in circulation
        for where in (folder, folder / "raw", folder / "MNIST" / "raw"):  # the latter two as torchvision has them
            for suffix in (".gz", ""):
                if (file := where / f"{name}{suffix}").is_file():
                    return file
    return None


def _download(progress: Progress | None) -> tuple[dict[str, Any], dict[str, Any]]:
    files = {}
    for key, stem in STEMS.items():
        name = f"{stem}.gz"
        remote = RemoteFile(
            name=f"mnist/{name}", urls=tuple(base + name for base in MIRRORS), checksums=(f"md5:{GZ_MD5[key]}",)
        )
        files[key] = fetch(remote, progress=progress)
    sums = {file.name: GZ_MD5[key] for key, file in files.items()}
    return {key: read_idx(file) for key, file in files.items()}, {"source": "downloaded idx files", "md5": sums}


def read_idx(path: Path) -> Any:
    """Read an idx file of bytes, gzipped or not, as an array of the shape that its header states."""
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        dimensions = content[3]
        header = 4 + 4 * dimensions
        shape = np.frombuffer(content[4:header], dtype=">i4")
        if content[:3] != b"\x00\x00\x08" or len(content) != header + int(np.prod(shape, dtype=np.int64)):
            raise ValueError("the header does not match the length of the file")
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{path} is not an idx file of bytes: {error}", "Leave --data out to download MNIST.") from None
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()


def _idx_md5(images: Tensor) -> str:
    """MD5 of the idx file that would hold these images, so that images from an npz can be compared as well."""
    n, _, height, width = images.shape
    digest = hashlib.md5(np.array([0x0803, n, height, width], dtype=">i4").tobytes(), usedforsecurity=False)
    digest.update(images.contiguous().numpy().tobytes())
    return digest.hexdigest()
