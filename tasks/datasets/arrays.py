"""The task `arrays`: images read from .npy and .npz files, checked and brought to one array layout."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from lso.tasks.datasets.download import Progress, file_hash
from lso.tasks.datasets.image_dataset import RawImages
from lso.tasks.datasets.splits import UNSPLIT
from lso.tasks.task import require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError

Array = NDArray[Any]

# Names under which each split is looked for in an .npz file; the first one present is taken.
SPLIT_KEYS = {
    "train": ("train", "train_x", "x_train", "train_images"),
    "validation": ("validation", "valid", "val", "valid_x", "x_valid", "val_x", "x_val", "validation_x"),
    "test": ("test", "test_x", "x_test", "test_images"),
}
UNSPLIT_KEYS = ("x", "images", "data", "targets", "arr_0")
RANGE_TOLERANCE = 1e-4  # floats up to this far outside [0, 1] are clipped: resizing can overshoot by as much
REDUCED_TO_8_BITS = "16-bit pixels were reduced to 8 bits, 65535 being white."
EXPECTED_SHAPES = "(n, H, W), (n, C, H, W) or (n, H, W, C) with C 1 or 3"


def load(data: DataConfig, progress: Progress | None = None) -> RawImages:
    """Read one .npy array, or an .npz file that holds splits named as in `SPLIT_KEYS` or one unsplit array.

    Splits that the file lacks are cut from its training images later, by `image_dataset.split_images`.
    """
    path = require_path(data.path)
    arrays = load_arrays(path)
    named = {split: key for split, names in SPLIT_KEYS.items() if (key := find_key(arrays, names))}
    if "train" not in named:
        named = {UNSPLIT: find_images_key(arrays, path)}
    deep = has_16_bit_images(arrays.values())
    splits = {split: as_images(arrays[key], f"{path.name}:{key}", deep=deep) for split, key in named.items()}
    shapes = {tuple(x.shape[1:]) for x in splits.values()}
    if len(shapes) > 1:
        raise DataError(f"the splits in {path} differ in shape: {sorted(shapes)}", "Give all images one shape.")
    record = {"source": path.name, "sha256": file_hash(path), "keys": named, "notes": [REDUCED_TO_8_BITS] * deep}
    return RawImages(splits=splits, provenance=record)


def find_key(arrays: Mapping[str, Array], names: Iterable[str]) -> str:
    """The first of several names under which a file holds an array, or an empty string."""
    return next((name for name in names if name in arrays), "")


def find_images_key(arrays: Mapping[str, Array], path: Path) -> str:
    """The name of the images in a file without splits: one of `UNSPLIT_KEYS`, else its only 3-d or 4-d array."""
    if key := find_key(arrays, UNSPLIT_KEYS):
        return key
    images = [key for key, x in arrays.items() if x.ndim in (3, 4)]
    if len(images) == 1:
        return images[0]
    raise DataError(
        f"cannot tell which array of {path} holds the images; it has {', '.join(sorted(arrays)) or 'none'}",
        "Name it x, or the splits train, validation and test.",
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npy file (under the name x) or of an .npz file.

    Pickled objects are refused without being loaded, as loading a pickle can run any code.
    """
    try:
        with path.open("rb") as file:  # numpy leaves a damaged file open
            loaded = np.load(file, allow_pickle=False)
            loaded_arrays = (
                {"x": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
            )
    except Exception as error:  # zip, zlib and numpy raise many kinds on a damaged file
        if "pickle" in str(error).lower() or "object array" in str(error).lower():
            raise DataError(
                f"{path} is no plain numpy file: it holds pickled objects, which are never loaded, or other data",
                "Save arrays of numbers, with numpy.save or numpy.savez.",
            ) from None
        raise DataError(f"cannot read {path}: {error}", "Write it with numpy.save or savez.") from None
    arrays = {key: value for key, value in loaded_arrays.items() if isinstance(value, np.ndarray)}
    if loaded_arrays and not arrays:  # numpy gives the other files of a zip archive as bytes
        raise DataError(f"{path} is no plain numpy file: none of its files is an array", "Write it with numpy.savez.")
    return arrays


def has_16_bit_images(arrays: Iterable[Array]) -> bool:
    """Whether a source's images use 16 bits, so that 65535 is white: one uint16 array has a value beyond 255."""
    # Arrays of fewer than three dimensions are labels, not images. All images of a source share one scale, so that a
    # dark split is read like the others.
    return any(_is_uint16(x) and x.ndim > 2 and x.size > 0 and int(x.max()) > 255 for x in arrays)


def _is_uint16(x: Array) -> bool:
    return x.dtype.kind == "u" and x.dtype.itemsize == 2  # of either byte order


def reduce_to_8_bits(x: Array) -> Array:
    """16-bit pixels as bytes."""
    return (x.astype(np.float32) / 257).round().astype(np.uint8)  # 65535 / 257 = 255


def as_images(x: Array, name: str, *, deep: bool | None = None) -> Tensor:
    """Turn an array into a batch of images, after checking its shape, type and range.

    Args:
        x: (n, H, W), (n, C, H, W) or (n, H, W, C); bytes 0 to 255, booleans, floats in [0, 1], or uint16.
        name: what errors call the array.
        deep: whether 65535 is white, as `has_16_bit_images` says of the whole source; None decides by ``x`` alone.
    Returns:
        ``(n, C, H, W)``, ``uint8`` or ``float32``.
    """
    if x.ndim == 3 and x.shape[2] not in (1, 3):  # else it is one image (H, W, C)
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise DataError(f"{name}: expected images of shape {EXPECTED_SHAPES}, got {x.shape}", "Reshape the array.")
    if _is_uint16(x) and (has_16_bit_images([x]) if deep is None else deep):
        x = reduce_to_8_bits(x)
    return torch.from_numpy(np.ascontiguousarray(_check_pixels(x, name)))


def as_labels(y: Array, images: int, name: str, classes: int = 0) -> Int[Tensor, " images"]:
    """Turn an array into the class label of each image, after checking its shape, type and range.

    Args:
        y: (n,), (n, 1) or (1, n) whole numbers from 0 on.
        images: n, the number of images.
        name: what errors call the array.
        classes: number of classes, which every label must be below; 0 sets no limit.
    Returns:
        ``(images,)`` int64.
    """
    if y.size != images or max(y.shape, default=1) != y.size:
        raise DataError(
            f"{name}: expected one label for each of {images:,} images, got shape {y.shape}",
            "Take images and labels from one source, in the same order.",
        )
    whole = y.dtype.kind in "uib" or (y.dtype.kind == "f" and bool((y == np.round(y)).all()))
    if not whole:
        raise DataError(f"{name}: expected whole numbers, got {y.dtype}", "Number the classes from 0 on.")
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes and high >= classes):
        known = f"0 to {classes - 1}" if classes else "0 or more"
        raise DataError(f"{name}: expected labels {known}, got {low} to {high}", "Number the classes from 0 on.")
    return torch.from_numpy(y.reshape(-1).astype(np.int64))


def _check_pixels(x: Array, name: str) -> Array:
    """Pixels as bytes, or as floats in [0, 1], after checking their type and range."""
    if x.dtype == np.bool_:
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype.kind not in "uif":
        raise DataError(f"{name}: expected bytes or floats, got {x.dtype}", "Save uint8 0..255 or float32 in [0, 1].")
    low, high = float(x.min()), float(x.max())  # NaN comes through both
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{name}: expected finite values, got NaN or infinity", "Remove or replace them.")
    if x.dtype.kind == "f":
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
            remedy = "Divide them by 255." if low >= 0 and high <= 255 else "Bring them into [0, 1]."
            raise DataError(f"{name}: expected floats in [0, 1], got {low:g} to {high:g}", remedy)
        clipped: Array = np.clip(x, 0, 1, dtype=np.float32, casting="same_kind")
        return clipped
    if low < 0 or high > 255:
        raise DataError(
            f"{name}: expected whole numbers 0 to 255, got {low:g} to {high:g} of type {x.dtype}",
            "Scale to 0..255, or save 16-bit pixels as uint16, 65535 being white.",
        )
    if high == 1:  # as bytes these would be two nearly black levels, so it is most likely a mask
        raise DataError(
            f"{name}: expected whole numbers 0 to 255, got only 0 and 1, nearly black",
            "Save masks as booleans, or multiply them by 255.",
        )
    return x.astype(np.uint8, copy=False)
