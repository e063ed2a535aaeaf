import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.results.export import read_evaluations, save_image, write_evaluations
from lso.results.result import Result
from tests.lso.example_decoders import draws, reconstruction, shipped


def images(channels: int = 1) -> Result:
    decoder = Decoder(shipped("mlp", False, "bernoulli", channels=channels))
    objective = LatentObjective.reconstruct(decoder, torch.full((2, channels, 8, 8), 0.5))
    return minimize(objective, draws(2, 3, 3), max_steps=5)


def test_records_survive_the_disk(tmp_path: Path) -> None:
    result = images()
    write_evaluations(tmp_path, result)
    assert read_evaluations(tmp_path) == result.evaluations()


def test_the_table_has_a_line_for_each_element_and_marks_the_best(tmp_path: Path) -> None:
    result = images()
    path = write_evaluations(tmp_path, result, names=["a.png", "b.png"]) / "results.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a.png"] * 3 + ["b.png"] * 3
    assert [int(row["start"]) for row in rows if row["best"] == "1"] == result.best.tolist()
    assert [float(row["value"]) for row in rows] == result.value.flatten().tolist()


def test_codes_keep_their_axes(tmp_path: Path) -> None:
    result = images()
    with np.load(write_evaluations(tmp_path, result) / "codes.npz") as codes:
        assert sorted(codes) == ["best", "value", "value0", "z", "z0"]
        np.testing.assert_array_equal(codes["z"], result.z.numpy())


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_targets_and_bests_are_written_to_the_grey_level(tmp_path: Path, channels: int) -> None:
    from PIL import Image

    result = images(channels)
    folder = write_evaluations(tmp_path, result) / "images"
    assert sorted(p.name for p in folder.iterdir()) == [f"000{i}_{k}.png" for i in (0, 1) for k in ("best", "target")]
    with Image.open(folder / "0000_target.png") as picture:
        assert picture.size == (8, 8) and picture.mode == ("L" if channels == 1 else "RGB")
        assert set(np.asarray(picture).flatten()) == {128}


def test_other_arrays_go_into_one_file_and_objects_into_lines(tmp_path: Path) -> None:
    flat = Decoder(lambda z: z @ torch.ones(4, 7, dtype=z.dtype), latent_dim=4)
    objective = LatentObjective.reconstruct(flat, torch.ones(2, 7))
    with np.load(
        write_evaluations(tmp_path, minimize(objective, draws(2, 1, 4), max_steps=2)) / "decoded.npz"
    ) as arrays:
        assert arrays["best"].shape == arrays["target"].shape == (2, 7)


def test_values_that_are_not_finite_are_null_in_valid_json(tmp_path: Path) -> None:
    objective = LatentObjective(reconstruction(1).decoder, lambda x: torch.log(x.flatten(1).sum(1) - 1e6))
    write_evaluations(tmp_path, minimize(objective, draws(2, 4), max_steps=2))

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    lines = (tmp_path / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=refuse)["value"] for line in lines] == [None, None]
    assert all(np.isnan(record.value) and not record.valid for record in read_evaluations(tmp_path))


def test_pixels_outside_the_range_are_clipped(tmp_path: Path) -> None:
    from PIL import Image

    save_image(tmp_path / "x.png", torch.tensor([[[-1.0, 0.5, 2.0, torch.nan]]]))
    with Image.open(tmp_path / "x.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 128, 255, 0]]
