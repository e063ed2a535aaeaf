"""Codes, paths, traversals and sheets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lso.tasks import explore
from lso.vae.architectures import Architecture
from lso.vae.errors import DataError, ShapeError, UsageError
from lso.vae.model import VAE, build


@pytest.fixture(scope="module")
def model() -> VAE:
    return build(Architecture(latent_dim=3, width=16), False, (1, 8, 8)).eval()


def test_decoding_keeps_leading_axes_and_does_not_depend_on_the_batch(
    model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = explore.draw_prior(10, 3, seed=0)
    whole = explore.decode(model, z)
    monkeypatch.setattr(explore, "BATCH", 3)
    assert torch.allclose(explore.decode(model, z), whole, atol=1e-6)
    assert explore.decode(model, z.reshape(5, 2, 3)).shape == (5, 2, 1, 8, 8)


def test_encoding_is_the_encoders(model: VAE) -> None:
    x = torch.rand(5, 1, 8, 8)
    q = explore.encode(model, x)
    with torch.no_grad():
        assert torch.allclose(q.mean, model.encode(x).mean, atol=1e-6)


def test_draws_are_a_function_of_the_seed() -> None:
    assert torch.equal(explore.draw_prior(4, 2, 7), explore.draw_prior(4, 2, 7))
    assert not torch.equal(explore.draw_prior(4, 2, 7), explore.draw_prior(4, 2, 8))


def test_a_path_is_straight_and_has_both_ends() -> None:
    a, b = torch.zeros(2), torch.tensor([3.0, -6.0])
    found = explore.path(a, b, 4)
    assert torch.allclose(found, torch.tensor([[0.0, 0], [1, -2], [2, -4], [3, -6]]))
    with pytest.raises(UsageError, match="at least 2 steps"):
        explore.path(a, b, 1)


def test_along_a_dimension_the_others_are_zero() -> None:
    z = explore.along_dimensions(4, [2, 0], 10.0, 5)
    assert z.shape == (2, 5, 4)
    assert z[0, :, 2].tolist() == z[1, :, 0].tolist() == [-10, -5, 0, 5, 10]
    assert z[0, :, [0, 1, 3]].abs().sum() == 0
    with pytest.raises(UsageError, match="there is no dimension 4"):
        explore.along_dimensions(4, [4], 10.0, 5)


def test_directions_go_out_from_the_origin_to_the_norm() -> None:
    z = explore.along_directions(6, 3, 10.0, 5, seed=0)
    assert torch.allclose(z.norm(dim=2), torch.tensor([0, 2.5, 5, 7.5, 10]).expand(3, 5), atol=1e-5)
    cosine = torch.nn.functional.cosine_similarity(z[:, 1], z[:, 4])
    assert torch.allclose(cosine, torch.ones(3), atol=1e-6)


@pytest.mark.parametrize("key", explore.CODE_KEYS)
def test_codes_are_read_under_their_names(tmp_path: Path, key: str) -> None:
    arrays = {key: np.arange(12.0).reshape(2, 2, 3), "value": np.zeros(2)}
    np.savez(tmp_path / "c.npz", **arrays)  # type: ignore[arg-type]
    assert explore.read_codes(tmp_path / "c.npz", 3).shape == (4, 3)


def test_what_is_no_codes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.npz"
    with pytest.raises(DataError, match="no file or folder"):
        explore.read_codes(file, 3)
    np.savez(file, a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(DataError, match="holds no codes: it has a, b"):
        explore.read_codes(file, 3)
    np.savez(file, mean=np.zeros((2, 4)))
    with pytest.raises(ShapeError, match=r"expected \(n, 3\)"):
        explore.read_codes(file, 3)


def test_a_sheet_has_a_label_for_each_row_and_its_images_unchanged() -> None:
    images = torch.rand(2, 3, 1, 8, 8)
    plain = explore.sheet(images, [], at_least=40)
    labelled = explore.sheet(images, ["one", "two"], ["-1", "", "1"], at_least=40)
    height, width = plain.shape[:2]
    assert np.array_equal(labelled[-height:, -width:], plain)
    margin = labelled[-height:, :-width]
    assert (margin < 255).any() and (labelled[:-height] < 255).any()
