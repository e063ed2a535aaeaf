"""Targets are treated as the run's training images were."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lso.tasks.datasets.image_dataset import load_dataset
from lso.tasks.search.targets import Targets, load_targets
from lso.vae.config.protocol import Binarize, DataConfig
from lso.vae.data.dataset import to_unit
from lso.vae.errors import DataError
from tests.tasks.pictures import folder_of_digits, photo, shade

GREY, COLOUR = (1, 16, 16), (3, 16, 16)
PAD = DataConfig(task="mnist", fit="pad")


def load(path: Path, shape: tuple[int, ...] = GREY, data: DataConfig = PAD, mean: float | None = None) -> Targets:
    return load_targets(path, data, shape, "none", 0, reference_mean=mean)


def test_a_picture_is_the_same_from_a_file_a_folder_and_an_array(tmp_path: Path) -> None:
    folder = folder_of_digits(tmp_path / "x", n=3)
    np.save(tmp_path / "x.npy", np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]))
    from_folder, from_array = load(folder), load(tmp_path / "x.npy")
    assert torch.equal(from_folder.batch, from_array.batch)
    assert torch.equal(from_folder.batch[1:2], load(folder / "001.png").batch)
    assert from_folder.names == ("000.png", "001.png", "002.png")
    assert from_array.names == ("x[0]", "x[1]", "x[2]")


def test_targets_equal_training_images_of_the_same_files(tmp_path: Path) -> None:
    folder = folder_of_digits(tmp_path, n=12, side=50)
    data = DataConfig(task="images", path=str(folder), size=16, invert=True)
    dataset = load_dataset(data, "none", 0)
    every = torch.cat([dataset.pixels("train"), dataset.pixels("validation"), dataset.pixels("test")])
    targets = load_targets(folder, data, dataset.shape, "none", 0).batch
    assert targets.shape == every.shape
    assert {x.numpy().tobytes() for x in to_unit(every)} == {x.numpy().tobytes() for x in targets}


def test_grey_targets_stay_grey_whatever_training_did(tmp_path: Path) -> None:
    folder = folder_of_digits(tmp_path, side=16)
    plain = torch.stack([torch.from_numpy(np.array(Image.open(p))) for p in sorted(folder.iterdir())])[:, None] / 255
    modes: tuple[Binarize, ...] = ("dynamic", "fixed", "none")
    for mode, told in zip(modes, (True, True, False), strict=True):
        found = load_targets(folder, PAD, GREY, mode, 0)
        torch.testing.assert_close(found.batch, plain)
        assert any("Grey pixels are taken as they are" in note for note in found.notes) == told


def test_targets_are_drawn_once_on_request(tmp_path: Path) -> None:
    folder = folder_of_digits(tmp_path)
    cases: list[tuple[Binarize, int]] = [("dynamic", 0), ("none", 0), ("dynamic", 1)]
    first, second, other = (load_targets(folder, PAD, GREY, mode, seed, drawn=True) for mode, seed in cases)
    assert set(first.batch.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(first.batch, second.batch)
    assert not torch.equal(first.batch, other.batch)
    assert "Each pixel drawn once to black or white with seed 0." in first.notes


def test_black_and_white_targets_are_the_same_drawn_or_not(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (3, 16, 16), dtype=np.uint8) * 255)
    drawn, plain = (load_targets(tmp_path / "x.npy", PAD, GREY, "dynamic", 0, drawn=how) for how in (True, False))
    assert torch.equal(drawn.batch, plain.batch)
    assert not any("Grey" in note for note in plain.notes)


def test_a_colour_photo_for_a_grey_model_is_refused_or_converted_on_request(tmp_path: Path) -> None:
    folder_of_digits(tmp_path, n=2)
    photo(0).save(tmp_path / "photo.jpg")
    with pytest.raises(DataError, match=r"photo.jpg is a colour image \(3 channels\), expected grey.*\n.*--channels 1"):
        load(tmp_path)
    converted = load(tmp_path, data=DataConfig(task="mnist", fit="pad", channels=1))
    assert converted.batch.shape == (3, *GREY)
    assert "1 of 3 files converted from colour to grey." in converted.notes


def test_grey_files_serve_both_kinds_of_model(tmp_path: Path) -> None:
    Image.fromarray(shade()).convert("RGB").save(tmp_path / "a.jpg")
    assert load(tmp_path).batch.shape == (1, *GREY)
    targets = load(tmp_path, COLOUR)
    assert targets.batch.shape == (1, *COLOUR)
    assert "1 of 1 files are grey, repeated in 3 channels." in targets.notes


@pytest.mark.parametrize(("shape", "got"), [(GREY, "3 channels, expected 1"), (COLOUR, "1 channel, expected 3")])
def test_an_array_must_have_the_model_s_channels(tmp_path: Path, shape: tuple[int, ...], got: str) -> None:
    channels = 4 - shape[0]
    np.save(tmp_path / "x.npy", np.zeros((2, channels, 16, 16), dtype=np.uint8))
    with pytest.raises(DataError, match=rf"targets have {got}.*\n.*--channels {shape[0]}"):
        load(tmp_path / "x.npy", shape)
    data = DataConfig(task="arrays", channels=shape[0])
    assert load(tmp_path / "x.npy", shape, data).batch.shape == (2, *shape)


def test_notes_say_what_was_done(tmp_path: Path) -> None:
    notes = load(folder_of_digits(tmp_path, n=2)).notes
    assert notes[0] == f"2 targets from {tmp_path}."
    assert "Images resized from 20x20 (height x width) to 16x16 (pad)." in notes
    assert "Polarity as in the files." in notes
    turned = load(tmp_path, data=DataConfig(task="mnist", invert=True))
    assert "Polarity inverted (1 - x)." in turned.notes
    torch.testing.assert_close(turned.batch, 1 - load(tmp_path, data=DataConfig(task="mnist")).batch)


def test_opposite_polarity_is_suspected_only_where_there_is_one(tmp_path: Path) -> None:
    ink = np.zeros((4, 16, 16), dtype=np.uint8)
    ink[:, 4:12, 7:9] = 255
    np.save(tmp_path / "bright.npy", ink)
    np.save(tmp_path / "dark.npy", 255 - ink)

    def suspected(name: str, mean: float, invert: bool = False) -> str:
        targets = load(tmp_path / name, data=DataConfig(task="arrays", invert=invert), mean=mean)
        return " ".join(note for note in targets.notes if "the opposite polarity" in note)

    assert suspected("dark.npy", 0.13).endswith("to invert them pass --invert.")
    assert suspected("bright.npy", 0.13, invert=True).endswith("pass --no-invert.")
    assert suspected("bright.npy", 0.87)
    assert suspected("bright.npy", 0.13) == suspected("dark.npy", 0.87) == suspected("dark.npy", 0.5) == ""


def test_targets_with_far_less_ink_than_the_training_images_are_warned_of(tmp_path: Path) -> None:
    ink = np.zeros((4, 16, 16), dtype=np.uint8)
    ink[:, 4:12, 7:9] = 255  # a sixteenth
    np.save(tmp_path / "ink.npy", ink)
    np.save(tmp_path / "one.npy", ink[:1])

    def warned(name: str, mean: float) -> bool:
        return any(
            "look unlike" in note for note in load(tmp_path / name, data=DataConfig(task="arrays"), mean=mean).notes
        )

    assert warned("ink.npy", 0.3) and warned("ink.npy", 0.02)
    assert not warned("ink.npy", 0.1) and not warned("one.npy", 0.3)


def test_a_flat_target_is_warned_of_and_unreadable_ones_are_told(tmp_path: Path) -> None:
    Image.new("L", (9, 9), 255).save(tmp_path / "flat.png")
    assert "Warning: flat.png is one flat colour." in load(tmp_path).notes
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"cannot read the image .*text.png"):
        load(tmp_path)
    skipped = load(tmp_path, data=DataConfig(task="mnist", bad_files="skip"))
    assert any("1 of 2 files skipped: text.png" in note for note in skipped.notes)
    with pytest.raises(DataError, match=r"no file in .* can be read: text.png"):
        load(tmp_path / "text.png", data=DataConfig(task="mnist", bad_files="skip"))
    with pytest.raises(DataError, match="no file or folder"):
        load(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image files in"):
        load(tmp_path / "empty")


def test_real_digits_are_recognized_in_either_polarity(data_path: Callable[[str], Path], tmp_path: Path) -> None:
    with np.load(data_path("mnist.npz")) as file:
        test_x = file["test_x"][:20]
    for i, x in enumerate(test_x):
        scan = Image.fromarray(255 - x).resize((140, 140), Image.Resampling.BICUBIC)
        scan.save(tmp_path / f"{i:02}.{'png' if i % 2 else 'jpg'}")
    plain, turned = (
        load_targets(
            tmp_path, DataConfig(task="mnist", fit="pad", invert=flag), (1, 28, 28), "none", 0, reference_mean=0.131
        )
        for flag in (False, True)
    )
    assert any("opposite polarity" in note for note in plain.notes)
    assert not any("opposite polarity" in note for note in turned.notes)
    error = (turned.batch[:, 0] - torch.from_numpy(test_x) / 255).abs().mean().item()
    assert error < 0.04  # blur of the two resizings; against the wrong polarity it is above 0.8
