"""Squares: the published pictures, their area, what counts as one square, and the grid over two latents."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.results.evaluation import decode_codes
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.goals import Goal
from lso.tasks.problems.squares import draw_squares, grid_search, is_one_square, known, load, score
from lso.tasks.search.initial_data import goal_objective
from lso.tasks.training.plan import plan
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import UsageError


def rectangle(z: Tensor) -> Tensor:
    """``(n, 1, 8, 8)`` lit from the left up to z_0 and from the top up to z_1, both from -3 to 3 taken as 0 to 8."""
    line = torch.arange(8) + 0.5
    wide, high = ((z + 3) / 6 * 8).unbind(1)
    return ((line < high[:, None])[:, :, None] & (line < wide[:, None])[:, None, :]).float()[:, None]


def test_pictures_are_those_of_the_recipe() -> None:
    x = draw_squares()
    assert x.shape == (1090, 1, 64, 64) and len(torch.unique(x, dim=0)) == 1090
    areas = score(list((x / 255).numpy()))
    assert areas == [float(side**2) for side in range(1, 21) for _ in range(65 - side)]
    assert all(map(is_one_square, (x / 255).numpy()))
    columns = (x > 0).any(2).nonzero()[:, 2]
    assert columns.min() == 32 and columns.max() == 51


def test_each_is_there_ten_times_and_one_in_twenty_validates() -> None:
    raw = load(DataConfig(task="squares"))
    assert {name: len(x) for name, x in raw.splits.items()} == {"train": 9810, "validation": 545, "test": 545}
    everything = torch.cat(list(raw.splits.values())).sum((1, 2, 3)) // 255
    assert everything.bincount(minlength=401)[400] == 10 * 45
    assert torch.equal(load(DataConfig(task="squares")).splits["test"], raw.splits["test"])
    with pytest.raises(UsageError, match="reads no path"):
        load(DataConfig(task="squares", path="x"))


def test_the_area_counts_pixels_that_round_to_one_and_nothing_else() -> None:
    image = np.zeros((1, 64, 64), dtype=np.float32)
    image[0, 3, :5] = (0.5001, 0.5, 1.0, 7.0, -1.0)
    assert score([image, image[0], np.full((2, 2), np.nan), "text", None, [], np.array(["a"])]) == [3, 3] + [None] * 5
    assert pickle.loads(pickle.dumps(score)) is score


def test_one_filled_square_is_told_from_other_pictures() -> None:
    image = np.zeros((8, 8))
    assert not is_one_square(image)
    image[2:5, 1:4] = 1
    assert is_one_square(image) and is_one_square(image[None])
    for row, column, value in ((3, 2, 0.0), (2, 4, 1.0), (7, 7, 1.0)):
        other = image.copy()
        other[row, column] = value
        assert not is_one_square(other)


def test_the_grid_finds_all_pictures_of_a_known_decoder() -> None:
    """Widths and heights 0 to 8 in all pairs: 64 rectangles and the dark picture, the largest a square of 64."""
    found = grid_search(Decoder(rectangle, latent_dim=2))
    assert found.evaluations == 2500 and len(found.values) == 65 == len(found.z) == len(found.images)
    areas = sorted((width * height for width in range(1, 9) for height in range(1, 9)), reverse=True)
    assert found.values.tolist() == [*areas, 0]
    assert torch.equal(rectangle(found.z)[:, 0] > 0, found.images)
    assert found.square[0] and found.square.sum() == 8
    with pytest.raises(UsageError, match=r"two latents, got 3"):
        grid_search(Decoder(rectangle, latent_dim=3))


def grey(z: Tensor) -> Tensor:
    """The rectangle in a grey that moves with z_0."""
    return rectangle(z) * 0.6 + z[:, :1, None, None] / 10


def test_pictures_that_round_to_the_same_are_one_object() -> None:
    goal = Goal(name="area", score=score, maximize=True, decimals=0)
    z = torch.tensor([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0]])
    for given, distinct in ((goal, 2), (dataclasses.replace(goal, decimals=4), 3)):
        objective = goal_objective(given, Decoder(grey, latent_dim=2))
        assert len({end.decoded_hash for end in decode_codes(objective, z)}) == distinct


def test_known_pictures_are_distinct_and_of_the_training_part() -> None:
    config = plan({"data": {"task": "squares"}})
    x, areas = known(50, 0, load_dataset(config.data, config.protocol.binarize, 0))
    assert x.shape == (50, 1, 64, 64) and len(torch.unique(x, dim=0)) == 50 and x.max() == 1
    assert areas == score(list(x.numpy())) and max(areas) <= 400
