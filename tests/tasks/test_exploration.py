"""Codes, paths, and how codes become images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lso.tasks import exploration
from lso.tasks.exploration import Drawing, decode_images, encode_data, image_examples
from lso.vae.config.architectures import Architecture, architecture
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, ShapeError, UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.models.vae import VAE, build
from tests.vae.small import example, small_model


@pytest.fixture(scope="module")
def model() -> VAE:
    return build(Architecture(latent_dim=3, width=16), False, (1, 8, 8)).eval()


def test_decoding_keeps_leading_axes_and_does_not_depend_on_the_batch(
    model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = exploration.draw_prior(10, 3, seed=0)
    whole = exploration.decode_images(model, z)
    monkeypatch.setattr(exploration, "CODES_PER_PASS", 3)
    assert torch.allclose(exploration.decode_images(model, z), whole, atol=1e-6)
    assert exploration.decode_images(model, z.reshape(5, 2, 3)).shape == (5, 2, 1, 8, 8)


def test_encoding_is_the_encoders(model: VAE) -> None:
    x = torch.rand(5, 1, 8, 8)
    q = exploration.encode_data(model, x)
    with torch.no_grad():
        assert torch.allclose(q.mean, model.encode(x).mean, atol=1e-6)


def test_draws_are_a_function_of_the_seed() -> None:
    assert torch.equal(exploration.draw_prior(4, 2, 7), exploration.draw_prior(4, 2, 7))
    assert not torch.equal(exploration.draw_prior(4, 2, 7), exploration.draw_prior(4, 2, 8))


def test_a_path_is_straight_and_has_both_ends() -> None:
    a, b = torch.zeros(2), torch.tensor([3.0, -6.0])
    found = exploration.interpolate_codes(a, b, 4)
    assert torch.allclose(found, torch.tensor([[0.0, 0], [1, -2], [2, -4], [3, -6]]))
    with pytest.raises(UsageError, match="at least 2 steps"):
        exploration.interpolate_codes(a, b, 1)


@pytest.mark.parametrize("key", exploration.CODE_KEYS)
def test_codes_are_read_under_their_names(tmp_path: Path, key: str) -> None:
    arrays = {key: np.arange(12.0).reshape(2, 2, 3), "value": np.zeros(2)}
    np.savez(tmp_path / "c.npz", **arrays)  # type: ignore[arg-type]
    assert exploration.read_codes(tmp_path / "c.npz", 3).shape == (4, 3)


def test_what_is_no_codes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.npz"
    with pytest.raises(DataError, match="no file or folder"):
        exploration.read_codes(file, 3)
    np.savez(file, a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(DataError, match="holds no codes: it has a, b"):
        exploration.read_codes(file, 3)
    np.savez(file, mean=np.zeros((2, 4)))
    with pytest.raises(ShapeError, match=r"expected \(n, 3\)"):
        exploration.read_codes(file, 3)


# --- how codes are drawn ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pixelcnn() -> VAE:
    """An untrained autoregressive model, whose z is made to matter."""
    model = build(architecture("he2019-small", 2, width=2), False, (1, 8, 8)).eval()
    with torch.no_grad():
        model.decoder.input.linear.weight.mul_(20)
    return model


DRAWINGS = [
    Drawing(how=how, common=common, samples=3) for how in ("mean", "sample", "greedy") for common in (True, False)
]


@pytest.mark.parametrize("drawing", DRAWINGS, ids=str)
@pytest.mark.parametrize("kind", ["model", "pixelcnn"])
def test_images_are_a_function_of_code_and_seed_whatever_the_batch(
    kind: str, drawing: Drawing, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: VAE = request.getfixturevalue(kind)
    z = exploration.draw_prior(6, model.latent_dim, seed=0)
    whole = exploration.decode_images(model, z, drawing)
    assert whole.min() >= 0 and whole.max() <= 1
    monkeypatch.setattr(exploration, "CODES_PER_PASS", 4)
    monkeypatch.setattr(exploration, "FEATURE_MAPS_PER_PASS", 4)
    assert torch.allclose(exploration.decode_images(model, z, drawing), whole, atol=1e-6)
    other = exploration.decode_images(model, z, replace(drawing, seed=1))
    random = drawing.how == "sample" or (drawing.how == "mean" and model.autoregressive)
    assert torch.allclose(other, whole, atol=1e-6) is not random


@pytest.mark.parametrize("kind", ["model", "pixelcnn"])
def test_with_common_uniforms_nothing_but_the_code_tells_images_apart(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: VAE = request.getfixturevalue(kind)
    same = torch.zeros(5, model.latent_dim)
    drawn = exploration.decode_images(model, same, Drawing(how="sample"))
    assert torch.equal(drawn, drawn[:1].expand_as(drawn))
    apart = exploration.decode_images(model, same, Drawing(how="sample", common=False))
    assert len(torch.unique(apart, dim=0)) == 5


def test_the_code_changes_an_autoregressive_draw(pixelcnn: VAE) -> None:
    z = 3 * exploration.draw_prior(4, 2, seed=0)
    assert len(torch.unique(exploration.decode_images(pixelcnn, z, Drawing(how="sample")), dim=0)) > 1


def test_the_mean_of_an_autoregressive_decoder_averages_s_draws(pixelcnn: VAE) -> None:
    z = exploration.draw_prior(3, 2, seed=0)
    mean = exploration.decode_images(pixelcnn, z, Drawing(samples=4))
    assert set((4 * mean).flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert exploration.drawing_record(pixelcnn, Drawing(samples=4)) == {
        "how": "mean",
        "uniforms": "common",
        "samples": 4,
    }
    assert "means of 4 ancestral samples" in exploration.describe_drawing(pixelcnn, Drawing(samples=4))


def test_the_default_is_the_expected_image_or_a_sample(model: VAE, pixelcnn: VAE) -> None:
    assert (exploration.default_how(model), exploration.default_how(pixelcnn)) == ("mean", "sample")
    assert (
        exploration.drawing_record(model, Drawing()) == {"how": "mean"}
        and exploration.describe_drawing(model, Drawing()) == "expected images"
    )
    with torch.no_grad():
        assert torch.equal(exploration.decode_images(model, torch.zeros(1, 3)), model.reconstruct(torch.zeros(1, 3)))


def test_a_baseline_without_latents_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(architecture("he2019-small", 0, width=2), False, (1, 8, 8)).eval()
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(exploration, "FEATURE_MAPS_PER_PASS", 2)
    z = exploration.draw_prior(3, 0, seed=0)
    drawing = Drawing(how="sample", common=False)
    images = exploration.decode_images(model, z, drawing, lambda done, total: seen.append((done, total)))
    assert images.shape == (3, 1, 8, 8) and len(torch.unique(images, dim=0)) == 3
    assert seen == [(2, 3), (3, 3)]


def test_a_mean_of_no_samples_is_refused() -> None:
    with pytest.raises(UsageError, match="samples >= 1"):
        Drawing(samples=0)


@pytest.mark.parametrize("name", ["svi", "sa-vae"])
def test_models_are_encoded_by_their_own_inference(name: str) -> None:
    model = small_model(example(name), latent_dim=3).eval()
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    q = exploration.encode_data(model, x)
    assert torch.allclose(q.mean, posterior(model, x).mean, atol=1e-6)
    if model.has_encoder:
        with torch.no_grad():
            assert not torch.allclose(q.mean, model.encode(x).mean, atol=1e-4)


def test_image_examples_are_what_the_model_makes_of_the_validation_split() -> None:
    model = build(architecture("mlp", 4, width=8), False, (1, 8, 8)).eval()
    data = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    dataset = Dataset(name="d", train=data, validation=data, test=data)
    means = torch.randn(40, 4) * torch.tensor([0.1, 2.0, 1.0, 0.01])
    found = image_examples(model, dataset, means)
    assert {key: value.shape for key, value in found.items()} == {
        "samples": (16, 1, 8, 8),
        "originals": (8, 1, 8, 8),
        "reconstructions": (8, 1, 8, 8),
        "strips": (4, 8, 1, 8, 8),
        "dims": (4,),
    }
    assert found["dims"].tolist() == [1, 2, 0, 3]
    part = data[::5]
    decoded = decode_images(model, encode_data(model, part).mean)
    assert np.array_equal(found["reconstructions"], (decoded.double() * 255).round().to(torch.uint8).numpy())
    assert np.array_equal(found["originals"], (part.double() * 255).round().to(torch.uint8).numpy())
    end = decode_images(model, torch.tensor([0.0, 3.0, 0.0, 0.0]))
    assert np.array_equal(found["strips"][0, -1], (end.double() * 255).round().to(torch.uint8).numpy())
    assert image_examples(model, dataset, None).keys() == {"samples", "originals", "reconstructions"}


def test_image_examples_of_bytes_are_those_of_the_same_pixels_in_unit_scale() -> None:
    model = build(replace(architecture("conv", 4, width=4), likelihood="gaussian"), False, (3, 8, 8)).eval()
    data = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found, expected = (
        image_examples(model, Dataset(name="d", train=x, validation=x, test=x), torch.randn(40, 4))
        for x in (data, data.float() / 255)
    )
    assert np.array_equal(found["originals"], data[::5].numpy())
    assert np.array_equal(found["originals"], expected["originals"])
    assert np.array_equal(found["reconstructions"], expected["reconstructions"])


def test_a_model_without_latents_has_samples_alone() -> None:
    model = build(architecture("he2019-small", 0, width=2), False, (1, 8, 8)).eval()
    data = torch.rand(9, 1, 8, 8).round()
    assert image_examples(model, Dataset(name="d", train=data, validation=data, test=data), None).keys() == {"samples"}
