"""Image files of every kind become the same bytes; bad ones are named."""

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lso.tasks.datasets import image_folder as folders
from lso.tasks.datasets.image_dataset import load_dataset
from lso.tasks.datasets.image_folder import ImageFiles, image_files, read_files
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import SPLITS
from lso.vae.errors import DataError
from tests.tasks.pictures import folder_of_digits, photo, shade

SKIP = DataConfig(task="images", bad_files="skip", fit="stretch")


def read(folder: Path, size: tuple[int, int] | None = None, data: DataConfig = SKIP) -> ImageFiles:
    return read_files(image_files(folder), folder, size, data=data)


def test_every_mode_of_one_grey_picture_reads_the_same(tmp_path: Path) -> None:
    grey = Image.fromarray(shade())
    deep = Image.fromarray(shade().astype(np.uint16) * 257)
    opaque = grey.convert("RGBA")
    modes = {
        "L": grey,
        "RGB": grey.convert("RGB"),
        "P": grey.convert("P"),
        "LA": grey.convert("LA"),
        "RGBA": opaque,
        "I16": deep,
    }
    for name, image in modes.items():
        image.save(tmp_path / f"{name}.png")
    deep.save(tmp_path / "I16.tiff")
    Image.fromarray((shade() / 255).astype(np.float32)).save(tmp_path / "F.tiff")
    pictures = read(tmp_path)
    assert len(pictures.images) == 8
    assert pictures.colour_names() == []
    assert all(torch.equal(x, torch.from_numpy(shade())[None]) for x in pictures.images)
    assert "2 of 8 files: 16-bit pixels were reduced to 8 bits, 65535 being white." in pictures.notes


def test_jpeg_cmyk_and_bilevel_files_are_read(tmp_path: Path) -> None:
    colour = Image.fromarray(shade(channels=3))
    colour.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    colour.save(tmp_path / "b.jpeg", quality=95)
    Image.fromarray(shade()).save(tmp_path / "c.JPG", quality=95)
    Image.fromarray(shade() > 99).save(tmp_path / "d.png")
    pictures = read(tmp_path)
    for name, x in zip(pictures.names, pictures.images, strict=True):
        expected = {"c.JPG": shade(), "d.png": (shade() > 99) * 255}.get(name, shade(channels=3))
        got = x[0].numpy() if len(x) == 1 else x.permute(1, 2, 0).numpy()
        assert np.abs(got.astype(float) - expected).mean() < 3, name
    assert pictures.colour_names() == ["a.jpg", "b.jpeg"]
    assert "1 of 4 files: converted from CMYK to RGB." in pictures.notes
    assert pictures.stack(0).shape == (4, 3, 40, 30)
    assert pictures.stack(1).shape == (4, 1, 40, 30)


def test_transparent_pixels_are_laid_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 4), dtype=np.uint8)
    pixels[3:6, 3:6, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pictures = read(tmp_path)
    expected = 255 - pixels[..., 3]
    assert np.array_equal(pictures.images[0][0].numpy(), expected)
    assert "1 of 1 files: transparent pixels laid over white." in pictures.notes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_shows_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: np.transpose, 6: lambda a: np.rot90(a), 7: lambda a: np.rot90(a, 2).T, 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](shade()))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(stored).save(tmp_path / "b.jpg", exif=exif, quality=95)
    pictures = read(tmp_path)
    assert torch.equal(pictures.images[0][0], torch.from_numpy(shade()))
    assert (pictures.images[1].float() - torch.from_numpy(shade()).float()).abs().mean() < 3


def test_sizes_are_brought_to_one_and_stated(tmp_path: Path) -> None:
    for i, (h, w) in enumerate([(20, 20), (300, 90), (9, 400)]):
        Image.fromarray(shade(h, w)).save(tmp_path / f"{i}.png")
    pictures = read(tmp_path)
    assert all(x.shape == (1, 32, 32) for x in pictures.images)
    assert "Images resized from 20x20 to 300x90 (height x width) to 32x32 (stretch)." in pictures.notes
    assert read(tmp_path, (16, 24)).images[0].shape == (1, 16, 24)


def test_a_large_jpeg_decoded_small_looks_the_same(tmp_path: Path) -> None:
    big = Image.fromarray(shade(1200, 900, channels=3))
    big.save(tmp_path / "a.jpg", quality=95)
    big.save(tmp_path / "b.png")
    jpeg, png = read(tmp_path, (24, 32)).images
    assert (jpeg.float() - png.float()).abs().max() < 8


def test_very_large_pictures_of_every_mode_are_averaged_in_blocks_and_look_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = shade(900, 600)
    grey = Image.fromarray(big)
    see_through = grey.convert("RGBA")
    see_through.putalpha(Image.fromarray(big))
    deep = Image.fromarray(big.astype(np.uint16) * 257)
    modes = [grey.convert(mode) for mode in ("L", "RGB", "P", "LA", "RGBA", "1")] + [see_through, deep]
    for number, image in enumerate(modes):
        image.save(tmp_path / f"{number}.png")
    deep.save(tmp_path / "8.tiff")
    Image.fromarray((big / 255).astype(np.float32)).save(tmp_path / "9.tiff")
    usual = read(tmp_path, (24, 24))
    monkeypatch.setattr(folders, "BLOCK_AVERAGE_PIXELS", 10_000)
    averaged = read(tmp_path, (24, 24))
    for one, other in zip(usual.images, averaged.images, strict=True):
        assert (one.float() - other.float()).abs().max() <= 3
    assert "10 of 10 files: of more than 10,000 pixels, averaged in blocks before they are resized." in averaged.notes


@pytest.mark.slow
def test_a_picture_of_100_megapixels_takes_seconds(tmp_path: Path) -> None:
    """Of four channels, the most work; seconds of this process, as the machine may be shared."""
    Image.new("RGBA", (10_000, 10_000), (9, 99, 199, 128)).save(tmp_path / "a.png", compress_level=1)
    began = time.process_time()
    assert read(tmp_path, (28, 28)).images[0].shape == (3, 28, 28)
    assert time.process_time() - began < 8


def make_bad(folder: Path) -> dict[str, str]:
    """One file of each kind of damage, with the words that must tell of it."""
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "text.png").write_text("I am not an image")
    (folder / "zero.jpg").touch()
    photo(0, 200).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:2000])
    (folder / "whole.jpg").unlink()
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "bomb.png").write_bytes(bomb + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND")))
    Image.fromarray(np.full((9, 9), 7.5, dtype=np.float32)).save(folder / "float.tiff")
    return {
        "sub/text.png": "cannot identify", "zero.jpg": "cannot identify", "cut.jpg": "truncated", "bomb.png": "pixels",
        "float.tiff": "expected 0 to 1",
    }  # fmt: skip


def test_bad_files_are_named_counted_and_skipped(tmp_path: Path) -> None:
    words = make_bad(folder_of_digits(tmp_path / "x") / "bad")
    dataset = load_dataset(DataConfig(task="images", path=str(tmp_path / "x"), bad_files="skip"), "none", 0)
    assert sum(len(dataset.split(name)) for name in SPLITS) == 12
    skipped = dataset.provenance["skipped"]
    assert len(skipped) == len(words)
    for name, reason in words.items():
        assert any(text.startswith(f"bad/{name} ") and reason in text for text in skipped), skipped
    assert "5 of 17 files skipped" in " ".join(dataset.provenance["notes"])


def test_each_bad_file_is_refused_by_name(tmp_path: Path) -> None:
    for name, reason in make_bad(tmp_path).items():
        with pytest.raises(DataError, match=rf"cannot read the image .*{name}: .*{reason}.*\n.*--bad-files skip"):
            read_files([tmp_path / name], tmp_path, (8, 8), data=DataConfig(task="images"))


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_PIXELS", 1000)
    folder_of_digits(tmp_path, n=1, side=40)
    with pytest.raises(DataError, match=r"000.png: 40x40 pixels are more than 1,000"):
        read(tmp_path, data=DataConfig(task="images"))


def test_no_folder_no_files_and_too_few_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        load_dataset(DataConfig(task="images", path=str(tmp_path / "missing")), "none", 0)
    with pytest.raises(DataError, match=r"no image files in .*it holds nothing"):
        load_dataset(DataConfig(task="images", path=str(tmp_path)), "none", 0)
    for name in (".hidden.png", "notes.txt", "a.heic", "b.heic"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"it holds 2 \.heic, 1 \.txt\nExpected files that end in \.png"):
        load_dataset(DataConfig(task="images", path=str(tmp_path)), "none", 0)
    with pytest.raises(DataError, match="is a file, expected a folder"):
        load_dataset(DataConfig(task="images", path=str(tmp_path / "notes.txt")), "none", 0)
    folder_of_digits(tmp_path, n=3)
    with pytest.raises(DataError, match="only 3 images to split"):
        load_dataset(DataConfig(task="images", path=str(tmp_path)), "none", 0)


def test_a_folder_of_photos_is_in_colour_and_always_the_same(tmp_path: Path) -> None:
    for i in range(20):
        photo(i).save(tmp_path / f"{i}.{'png' if i % 2 else 'jpg'}")
    config = DataConfig(task="images", path=str(tmp_path))
    dataset = load_dataset(config, "none", 0)
    assert dataset.shape == (3, 48, 48)
    assert dataset.pixels("train").dtype == torch.uint8
    assert [len(dataset.split(name)) for name in SPLITS] == [16, 2, 2]
    assert dataset.hash() == load_dataset(config, "none", 1).hash()
    grey = load_dataset(DataConfig(task="images", path=str(tmp_path), channels=1, size=16, limit=5), "none", 0)
    assert grey.shape == (1, 16, 16)
    assert len(grey.train) == 5


def test_progress_counts_the_files(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    read_files(image_files(folder_of_digits(tmp_path)), tmp_path, None, data=SKIP, progress=lambda *a: seen.append(a))
    assert seen[-1] == (f"reading {tmp_path.name}", 12, 12)
    assert len(seen) == 24
