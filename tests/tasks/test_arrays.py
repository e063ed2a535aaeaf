"""Arrays of every accepted form, and each refusal by its words."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lso.tasks.arrays import as_images
from lso.tasks.images import load_dataset
from lso.vae.config import DataConfig
from lso.vae.data import Dataset
from lso.vae.errors import DataError

GREY = np.random.default_rng(0).integers(0, 256, (20, 10, 12), dtype=np.uint8)


def load(path: Path) -> Dataset:
    return load_dataset(DataConfig(task="arrays", path=str(path)), "none", 0)


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


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (GREY * 1.0, r"floats in \[0, 1\], got 0 to 255\nDivide them by 255"),
        (GREY / 255 - 0.5, r"got -0.5 to 0.5\nBring them into"),
        (GREY.astype(int) * 300, r"whole numbers 0 to 255, got 0 to 76500"),
        (GREY // 128, r"only 0 and 1, nearly black\nSave masks as booleans"),
        (np.where(GREY > 5, np.nan, 0.5), r"not finite\nRemove or replace"),
        (np.where(GREY > 5, np.inf, 0.5), r"not finite"),
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


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Trap(mark)))
    np.save(tmp_path / "object.npy", np.array([Trap(mark)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", x=np.array([None, 1], dtype=object))
    for name in ("raw.npy", "object.npy", "object.npz"):
        with pytest.raises(DataError, match=r"pickled objects, which are never loaded.*\nSave plain numbers"):
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
