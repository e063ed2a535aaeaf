"""Straight paths through latent space and the order of their rows."""

from pathlib import Path

import pytest
import torch

from lso.tasks.traversals import along_dimensions, along_directions, most_active, posterior_means
from lso.vae.errors import DataError, UsageError
from lso.vae.runs import create
from tests.vae.small import config

SPREAD = torch.tensor([0.1, 2.0, 0.0, 1.0, 0.5, 0.3])
MEAN = SPREAD * torch.randn(500, 6, generator=torch.Generator().manual_seed(0))


def test_along_a_dimension_the_others_are_zero_and_the_most_active_comes_first() -> None:
    path = along_dimensions(MEAN, [2, 0, 1], 10.0)
    z = path.codes(5)
    assert z.shape == (3, 5, 6) and path.names == ("z1", "z0", "z2")
    for row, dim in enumerate((1, 0, 2)):
        assert z[row, :, dim].tolist() == [-10, -5, 0, 5, 10]
        assert z[row].abs().sum() == z[row, :, dim].abs().sum()
    torch.testing.assert_close(path.activity, MEAN[:, [1, 0, 2]].double().var(0))
    with pytest.raises(UsageError, match="there is no dimension 6"):
        along_dimensions(MEAN, [6], 10.0)


def test_directions_go_straight_out_from_the_origin_to_the_norm() -> None:
    z = along_directions(MEAN, 3, 10.0, seed=0).codes(5)
    torch.testing.assert_close(z.norm(dim=2), torch.tensor([0, 2.5, 5, 7.5, 10]).expand(3, 5))
    cosine = torch.nn.functional.cosine_similarity(z[:, 1], z[:, 4])
    torch.testing.assert_close(cosine, torch.ones(3))


def test_a_direction_s_activity_is_the_variance_of_the_means_along_it() -> None:
    path = along_directions(MEAN, 20, 10.0, seed=0)
    torch.testing.assert_close(path.activity, (MEAN.double() @ path.unit.double().T).var(0))
    assert (path.activity.diff() <= 0).all()
    assert set(path.names) == {f"direction {i}" for i in range(1, 21)}


def test_held_dimensions_stay_zero_in_the_same_directions() -> None:
    held = most_active(MEAN)[:2]
    assert held == [1, 3]
    free, rest = along_directions(MEAN, 4, 10.0, seed=0), along_directions(MEAN, 4, 10.0, seed=0, hold=held)
    assert (rest.unit[:, held] == 0).all()
    torch.testing.assert_close(rest.unit.norm(dim=1), torch.ones(4))
    for name, unit in zip(rest.names, rest.unit, strict=True):
        projected = free.unit[free.names.index(name)].clone()
        projected[held] = 0
        torch.testing.assert_close(unit, projected / projected.norm())
    assert rest.activity.max() < free.activity.max()
    with pytest.raises(UsageError, match=r"all 6 dimensions are held at 0\nHold at most 5"):
        along_directions(MEAN, 4, 10.0, seed=0, hold=range(6))


def test_labels_and_heads_tell_activity_and_place() -> None:
    path = along_dimensions(MEAN, [2], 10.0)
    assert path.labels == ["z2  variance 0"]
    assert path.heads(5) == ["-10", "", "0", "", "10"] and path.heads(4) == ["-10", "", "", "10"]
    assert path.heads(7)[3] == "0" and (path.codes(7)[0, 3] == 0).all()


def test_a_run_without_codes_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no codes\.npz"):
        posterior_means(create(tmp_path / "run", "train", {}, config()))
