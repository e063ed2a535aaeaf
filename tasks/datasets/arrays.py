"""Images in .npy and .npz files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from lso.tasks.datasets.download import Progress, file_hash
from lso.tasks.datasets.image_dataset import Raw
from lso.tasks.datasets.splits import WHOLE
from lso.tasks.task import existing
from lso.vae.config.training import DataConfig
from lso.vae.errors import DataError

Array = NDArray[Any]

# Names under which the splits are looked for in an .npz file, first found first taken.
KEYS = {
    "train": ("train", "train_x", "x_train", "train_images"),
    "validation": ("validation", "valid", "val", "valid_x", "x_valid", "val_x", "x_val", "validation_x"),
    "test": ("test", "test_x", "x_test", "test_images"),
}
WHOLE_KEYS = ("x", "images", "data", "targets", "arr_0")
ROUNDING = 1e-4  # floats this far outside [0, 1] are clipped; resizing overshoots by as much
REDUCED = "16 bits reduced to 8, 65535 being white."
SHAPES = "(n, H, W), (n, C, H, W) or (n, H, W, C) with C 1 or 3"


def load(data: DataConfig, progress: Progress | None = None) -> Raw:
    """One .npy array, or an .npz file with splits named as in `KEYS` or one array named as in `WHOLE_KEYS`.

    Args:
        data: ``path`` is the file.
        progress: not used.
    Returns:
        The images; splits that the file lacks are left to be cut.
    Raises:
        DataError: if the file is missing, not of this kind, or holds something else than images.
    """
    path = existing(data.path)
    arrays = load_arrays(path)
    named = {split: key for split, names in KEYS.items() if (key := first_key(arrays, names))}
    if "train" not in named:
        named = {WHOLE: sole_key(arrays, path)}
    deep = sixteen_bits(arrays.values())
    splits = {split: as_images(arrays[key], f"{path.name}:{key}", deep=deep) for split, key in named.items()}
    shapes = {tuple(x.shape[1:]) for x in splits.values()}
    if len(shapes) > 1:
        raise DataError(f"the splits in {path} differ in shape: {sorted(shapes)}", "Give all images one shape.")
    record = {"source": path.name, "sha256": file_hash(path), "keys": named, "notes": [REDUCED] * deep}
    return Raw(splits=splits, provenance=record)


def first_key(arrays: Mapping[str, Array], names: Iterable[str]) -> str:
    """The first of several names that a file has."""
    return next((name for name in names if name in arrays), "")


def sole_key(arrays: Mapping[str, Array], path: Path) -> str:
    """The name of the images in a file that has no splits.

    Args:
        arrays: the file's content.
        path: for the error.
    Returns:
        The first of `WHOLE_KEYS`, else the only array of three or four dimensions.
    Raises:
        DataError: if that leaves none, or several.
    """
    if key := first_key(arrays, WHOLE_KEYS):
        return key
    images = [key for key, x in arrays.items() if x.ndim in (3, 4)]
    if len(images) == 1:
        return images[0]
    raise DataError(
        f"cannot tell which array of {path} holds the images; it has {', '.join(sorted(arrays)) or 'none'}",
        "Name it x, or the splits train, validation and test.",
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npy file (under the name x) or of an .npz file. Pickles are refused unread."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged file open
            loaded = np.load(file, allow_pickle=False)
            found = {"x": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except Exception as error:  # zip, zlib and numpy raise many kinds on a damaged file
        if "pickle" in str(error).lower() or "object array" in str(error).lower():
            raise DataError(
                f"{path} is no plain numpy file: it holds pickled objects, which are never loaded, or other data",
                "Save plain numbers, with numpy.save or savez.",
            ) from None
        raise DataError(f"cannot read {path}: {error}", "Write it with numpy.save or savez.") from None
    arrays = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
    if found and not arrays:  # numpy gives the other files of a zip archive as bytes
        raise DataError(f"{path} is no plain numpy file: none of its files is an array", "Write it with numpy.savez.")
    return arrays


def sixteen_bits(arrays: Iterable[Array]) -> bool:
    """Whether the images of a source have 16 bits: one of its arrays is of type uint16 and goes beyond 255.

    Args:
        arrays: of the source, whose images share one scale; those of fewer than three dimensions are no images.
    Returns:
        True where 65535 is white.
    """
    return any(_is_uint16(x) and x.ndim > 2 and x.size > 0 and int(x.max()) > 255 for x in arrays)


def _is_uint16(x: Array) -> bool:
    return x.dtype.kind == "u" and x.dtype.itemsize == 2  # of either byte order


def eight_bits(x: Array) -> Array:
    """Pixels of 16 bits as bytes."""
    return (x.astype(np.float32) / 257).round().astype(np.uint8)


def as_images(x: Array, name: str, *, deep: bool | None = None) -> Tensor:
    """An array as a batch of images, after checking shape, type and range.

    Args:
        x: (n, H, W), (n, C, H, W) or (n, H, W, C); bytes 0 to 255, booleans, floats in [0, 1], or uint16.
        name: for errors.
        deep: `sixteen_bits` of the source, so that its arrays share one scale; None asks ``x`` alone.
    Returns:
        ``(n, C, H, W)``, ``uint8`` or ``float32``.
    Raises:
        DataError: if it is something else.
    """
    if x.ndim == 3 and x.shape[2] not in (1, 3):  # else it is one image (H, W, C)
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise DataError(f"{name}: expected images of shape {SHAPES}, got {x.shape}", "Reshape the array.")
    if _is_uint16(x) and (sixteen_bits([x]) if deep is None else deep):
        x = eight_bits(x)
    return torch.from_numpy(np.ascontiguousarray(_pixels(x, name)))


def as_labels(y: Array, images: int, name: str, classes: int = 0) -> Int[Tensor, " images"]:
    """An array as the class of each image, after checking shape, type and range.

    Args:
        y: (n,), or (n, 1) or (1, n); whole numbers from 0 on.
        images: how many there are.
        name: for errors.
        classes: the labels are below this; 0 is no limit.
    Returns:
        ``(images,)`` int64.
    Raises:
        DataError: if it is something else.
    """
    if y.size != images or max(y.shape, default=1) != y.size:
        raise DataError(
            f"{name}: expected one label for each of {images:,} images, got shape {y.shape}",
            "Images and labels belong together: take both from one source, the labels as whole numbers.",
        )
    whole = y.dtype.kind in "uib" or (y.dtype.kind == "f" and bool((y == np.round(y)).all()))
    if not whole:
        raise DataError(f"{name}: expected whole numbers, got {y.dtype}", "Number the classes from 0 on.")
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes and high >= classes):
        known = f"0 to {classes - 1}" if classes else "0 or more"
        raise DataError(f"{name}: expected labels {known}, got {low} to {high}", "Number the classes from 0 on.")
    return torch.from_numpy(y.reshape(-1).astype(np.int64))


def _pixels(x: Array, name: str) -> Array:
    if x.dtype == np.bool_:
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype.kind not in "uif":
        raise DataError(f"{name}: expected bytes or floats, got {x.dtype}", "Save uint8 0..255 or float32 in [0, 1].")
    low, high = float(x.min()), float(x.max())  # NaN comes through both
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{name}: some values are not finite", "Remove or replace NaN and infinity.")
    if x.dtype.kind == "f":
        if low < -ROUNDING or high > 1 + ROUNDING:
            remedy = "Divide them by 255." if low >= 0 and high <= 255 else "Bring them into [0, 1]."
            raise DataError(f"{name}: expected floats in [0, 1], got {low:g} to {high:g}", remedy)
        clipped: Array = np.clip(x, 0, 1, dtype=np.float32, casting="same_kind")
        return clipped
    if low < 0 or high > 255:
        raise DataError(
            f"{name}: expected whole numbers 0 to 255, got {low:g} to {high:g} of type {x.dtype}",
            "Scale to 0..255, or save pixels of 16 bits as uint16, 65535 being white.",
        )
    if high == 1:
        raise DataError(
            f"{name}: expected whole numbers 0 to 255, got only 0 and 1, nearly black",
            "Save masks as booleans, or times 255.",
        )
    return x.astype(np.uint8, copy=False)
