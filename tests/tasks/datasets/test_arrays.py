"""Arrays of every accepted form, and each refusal by its words."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lso.tasks.datasets.arrays import as_images, as_labels, load_arrays
from lso.tasks.datasets.image_dataset import load_dataset
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError

GREY = np.random.default_rng(0).integers(0, 256, (20, 10, 12), dtype=np.uint8)


def load(path: Path) -> Dataset:
    return load_dataset(DataConfig(task="arrays", path=str(path)), "none", 0)


def folder_of(path: Path) -> Dataset:
    return load_dataset(DataConfig(task="images", path=str(path)), "none", 0)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_all_layouts_and_types_mean_the_same_images() -> None:
    x = np.stack([GREY] * 3, axis=1)
    assert as_images(GREY, "x").shape == (20, 1, 10, 12)
    assert np.array_equal(as_images(GREY[..., None], "x").numpy(), as_images(GREY, "x").numpy())
    assert np.array_equal(as_images(x.transpose(0, 2, 3, 1), "x").numpy(), as_images(x, "x").numpy())
    for kind in (np.float64, np.float32, np.float16):
        np.testing.assert_allclose(as_images((GREY / 255).astype(kind), "x").numpy()[:, 0], GREY / 255, atol=1e-3)
    assert np.array_equal(as_images(GREY.astype(np.int64), "x").numpy()[:, 0], GREY)
    assert set(as_images(GREY > 9, "x").flatten().tolist()) == {0, 255}


@pytest.mark.parametrize("kind", [">u2", "<u2", ">i4", "<i8", ">f2", ">f4", ">f8", "float16", "longdouble", "bool"])
def test_types_of_either_byte_order_mean_the_same_images(kind: str, tmp_path: Path) -> None:
    """Whole numbers to 255, floats to 1, booleans black and white; written and read again."""
    masks = GREY > 127
    x = masks if kind == "bool" else GREY / 255 if "f" in kind or kind == "longdouble" else GREY
    np.save(tmp_path / "x.npy", x.astype(kind))
    found = as_images(np.load(tmp_path / "x.npy"), "x").numpy()[:, 0]
    scale = 255 if found.dtype == np.uint8 else 1
    np.testing.assert_allclose(found / scale, masks if kind == "bool" else GREY / 255, atol=1e-3)


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_arrays_of_16_bits_are_read_as_png_files_of_16_bits_are(kind: str, tmp_path: Path) -> None:
    from PIL import Image

    deep = np.random.default_rng(0).integers(0, 65536, (12, 10, 10))
    (tmp_path / "folder").mkdir()
    for i, picture in enumerate(deep):
        Image.fromarray(picture.astype(np.uint16)).save(tmp_path / "folder" / f"{i:02d}.png")
    np.save(tmp_path / "x.npy", deep.astype(kind))
    arrays, files = load(tmp_path / "x.npy"), folder_of(tmp_path / "folder")
    assert torch.equal(arrays.pixels("train"), files.pixels("train")) and arrays.pixels("train").dtype == torch.uint8
    assert "16-bit pixels were reduced to 8 bits, 65535 being white." in arrays.provenance["notes"]
    np.testing.assert_allclose(as_images(deep.astype(kind), "x").numpy()[:, 0] / 255, deep / 65535, atol=0.501 / 255)


def test_the_arrays_of_a_file_share_one_scale(tmp_path: Path) -> None:
    """A test part that happens to be dark is on the scale of the training part; bytes saved as uint16 stay bytes."""
    dark = (GREY // 2).astype(np.uint16)
    np.savez(tmp_path / "deep.npz", train=GREY.astype(np.uint16) * 257, test=dark, labels=np.arange(999, dtype=">u2"))
    deep = load(tmp_path / "deep.npz")
    assert deep.pixels("train").max() == 255 and deep.pixels("test").max() <= 1
    np.savez(tmp_path / "bytes.npz", train=GREY.astype(np.uint16), test=dark, labels=np.arange(999, dtype=np.uint16))
    assert torch.equal(load(tmp_path / "bytes.npz").pixels("test")[:, 0], torch.from_numpy(GREY // 2))


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.arange(19), r"one label for each of 20 images, got shape \(19,\)\nTake images and labels from one source"),
        (np.eye(20), r"got shape \(20, 20\)"),
        (np.zeros((4, 5)), r"got shape \(4, 5\)"),
        (np.full(20, 0.5), r"expected whole numbers, got float64\nNumber the classes"),
        (np.array(["a"] * 20), r"expected whole numbers, got <U1"),
        (np.arange(20) - 1, r"expected labels 0 to 19, got -1 to 18"),
        (np.arange(20) + 1, r"expected labels 0 to 19, got 1 to 20"),
        (np.where(np.arange(20) > 3, np.nan, 1), r"expected whole numbers"),
    ],
)
def test_what_are_no_labels_of_the_images_is_refused(y: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_labels(y, 20, "y", 20)


def test_labels_of_every_type_and_of_one_row_or_column_are_read() -> None:
    for kind in ("uint8", ">i8", "float32", ">f8"):
        assert as_labels(np.arange(20).astype(kind)[None], 20, "y", 20).tolist() == [*range(20)]
    assert as_labels(np.arange(20)[:, None], 20, "y").tolist() == [*range(20)]


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (GREY * 1.0, r"floats in \[0, 1\], got 0 to 255\nDivide them by 255"),
        (GREY / 255 - 0.5, r"got -0.5 to 0.5\nBring them into"),
        (GREY.astype(int) * 257, r"numbers 0 to 255, got 0 to 65535 of type int64\nScale to 0..255, or .* as uint16"),
        (GREY.astype(np.int16) - 1, r"whole numbers 0 to 255, got -1 to 254 of type int16"),
        ((GREY // 128).astype(np.uint16), r"only 0 and 1, nearly black"),
        (GREY // 128, r"only 0 and 1, nearly black\nSave masks as booleans"),
        (np.where(GREY > 5, np.nan, 0.5), r"finite values, got NaN or infinity\nRemove or replace"),
        (np.where(GREY > 5, np.inf, 0.5), r"finite values, got NaN"),
        (GREY[:, 0], r"expected images of shape \(n, H, W\).*got \(20, 12\)"),
        (GREY[0, :, :, None], r"got \(10, 12, 1\)"),
        (GREY[:, None].repeat(4, axis=1), r"got \(20, 4, 10, 12\)"),
        (GREY[:0], r"got \(0, 1, 10, 12\)"),
        (GREY.astype(complex), r"expected bytes or floats, got complex128"),
    ],
)
def test_what_is_no_image_is_refused(x: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_images(x, "x")


def test_an_npz_with_splits_keeps_them_and_one_without_is_cut(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=GREY, valid_x=GREY[:4], test=GREY[:3])
    dataset = load(tmp_path / "a.npz")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [20, 4, 3]
    assert np.array_equal(dataset.pixels("train")[:, 0].numpy(), GREY)
    np.savez(tmp_path / "b.npz", faces=GREY, ages=np.arange(20))
    np.save(tmp_path / "c.npy", GREY)
    assert load(tmp_path / "b.npz").hash() == load(tmp_path / "c.npy").hash()
    assert len(load(tmp_path / "c.npy").train) == 16


def test_large_images_are_resized_and_it_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((12, 100, 90), dtype=np.uint8))
    dataset = load(tmp_path / "x.npy")
    assert dataset.shape == (1, 32, 32)
    assert "Images resized from 100x90 to 32x32 (crop)." in dataset.provenance["notes"]


def test_of_an_archive_the_arrays_are_read_and_one_without_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "ours")
    with pytest.raises(DataError, match="none of its files is an array"):
        load_arrays(path)
    with zipfile.ZipFile(path, "a") as archive, archive.open("x.npy", "w") as file:
        np.save(file, GREY)
    found = load_arrays(path)
    assert list(found) == ["x"] and np.array_equal(found["x"], GREY)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Trap(mark)))
    np.save(tmp_path / "object.npy", np.array([Trap(mark)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", x=np.array([None, 1], dtype=object))
    for name in ("raw.npy", "object.npy", "object.npz"):
        with pytest.raises(DataError, match=r"pickled objects, which are never loaded.*\nSave arrays of numbers"):
            load(tmp_path / name)
    assert not mark.exists()


def test_damaged_and_ambiguous_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty.npy").touch()
    np.savez_compressed(tmp_path / "cut.npz", x=GREY)
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "flip.npz").write_bytes(content[:200] + bytes(50) + content[250:])
    np.save(tmp_path / "short.npy", GREY)
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:500])
    for name in ("empty.npy", "cut.npz", "flip.npz", "short.npy"):
        with pytest.raises(DataError, match=f"cannot read .*{name}"):
            load(tmp_path / name)
    np.savez(tmp_path / "two.npz", a=GREY, b=GREY)
    with pytest.raises(DataError, match=r"which array of .*it has a, b\nName it x"):
        load(tmp_path / "two.npz")
    np.savez(tmp_path / "differ.npz", train=GREY, test=GREY[:, :9])
    with pytest.raises(DataError, match="differ in shape"):
        load(tmp_path / "differ.npz")
