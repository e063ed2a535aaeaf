"""Networks: image sizes, skip edges, initialization and what reaches what."""

import copy

import pytest
import torch
from torch import Tensor

from lso.vae.config.architectures import ARCHITECTURES, Architecture, architecture
from lso.vae.distributions.pixels import LIKELIHOODS
from lso.vae.errors import ShapeError, UsageError
from lso.vae.models.conv import resolutions
from lso.vae.models.vae import VAE, build
from lso.vae.utils.random import generator

IMAGES = [name for name, spec in ARCHITECTURES.items() if spec.kind == "image"]
FACTORISED = [name for name in IMAGES if not ARCHITECTURES[name].autoregressive]
SHAPES = [(1, 8, 8), (3, 28, 28), (1, 20, 20), (1, 9, 17), (3, 64, 64), (1, 8, 64)]


def small(name: str, skip: bool = False, shape: tuple[int, ...] = (1, 8, 8), likelihood: str = "bernoulli") -> VAE:
    return build(architecture(name, latent_dim=3, likelihood=likelihood, width=8), skip, shape)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(0, "test"))


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_image_is_encoded_and_decoded_in_its_own_shape(name: str, skip: bool, shape: tuple[int, ...]) -> None:
    for likelihood in LIKELIHOODS:
        model = small(name, skip, shape, likelihood)
        x = torch.rand(2, *shape, generator=generator(0, "x"))
        q = model.encode(x)
        found = model.decode(q.sample(draw(2, 3)), x)
        assert q.mean.shape == q.log_var.shape == (2, 3) and found.mean.shape == (2, *shape)
        assert found.log_prob(torch.zeros(2, *shape)).shape == (2,)
        assert ((found.mean >= 0) & (found.mean <= 1)).all()


@pytest.mark.parametrize("name", FACTORISED)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17), (1, 28, 28)])
def test_every_code_reaches_every_pixel(name: str, skip: bool, shape: tuple[int, ...]) -> None:
    model = small(name, skip, shape).double()
    z = draw(1, 3).double()
    for moved in z + torch.eye(3, dtype=torch.float64):
        assert (model.reconstruct(moved[None]) != model.reconstruct(z)).all()


@pytest.mark.parametrize("name", IMAGES)
def test_every_pixel_reaches_every_code(name: str) -> None:
    model = small(name, shape=(1, 9, 17)).double().eval()
    x = torch.rand(1, 1, 9, 17, generator=generator(0, "x")).double()
    jacobian = torch.autograd.functional.jacobian(lambda pixels: model.encode(pixels).mean, x)  # type: ignore[no-untyped-call]
    assert (jacobian != 0).all()


@pytest.mark.parametrize("name", FACTORISED)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17)])
def test_skip_decoder_without_its_edges_is_the_plain_one(name: str, shape: tuple[int, ...]) -> None:
    plain, skip = small(name, False, shape), small(name, True, shape)
    z = draw(4, 3)
    assert not torch.equal(plain.reconstruct(z), skip.reconstruct(z))
    for edge in skip.decoder.edges.parameters():
        torch.nn.init.zeros_(edge)
    # Not bit for bit: adding zeros may change the memory layout, and with it the order of summation.
    torch.testing.assert_close(plain.reconstruct(z), skip.reconstruct(z), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FACTORISED)
def test_every_layer_of_a_skip_decoder_hears_the_code(name: str) -> None:
    model, z = small(name, True), draw(2, 3)
    base = model.reconstruct(z)
    for edge in model.decoder.edges:
        muted = copy.deepcopy(edge.weight)
        torch.nn.init.zeros_(edge.weight)
        assert not torch.equal(model.reconstruct(z), base)
        edge.weight.data.copy_(muted)


@pytest.mark.parametrize("name", IMAGES)
def test_initialization_is_a_function_of_its_arguments_alone(name: str) -> None:
    before = torch.get_rng_state()
    one = small(name)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    two, other = small(name), build(one.architecture, False, (1, 8, 8), seed=1)
    pairs = list(zip(one.parameters(), two.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not any(torch.equal(a, c) for a, _, c in pairs if a.ndim > 1)  # norms and biases may start as constants


@pytest.mark.parametrize("name", IMAGES)
def test_a_datum_does_not_feel_its_batch(name: str) -> None:
    model, x = small(name).double().eval(), torch.rand(6, 1, 8, 8, generator=generator(0, "x")).double()
    alone = torch.cat([model.encode(x[i : i + 1]).mean for i in range(6)])
    torch.testing.assert_close(model.encode(x).mean, alone, rtol=1e-10, atol=1e-12)
    decoded = torch.cat([model.reconstruct(z[None], y[None]) for z, y in zip(alone, x, strict=True)])
    torch.testing.assert_close(model.reconstruct(alone, x), decoded, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("far", [1e2, 1e4])
def test_far_codes_have_finite_values_and_gradients(name: str, far: float) -> None:
    for likelihood in LIKELIHOODS:
        model = small(name, likelihood=likelihood)
        z = torch.full((1, 3), far, requires_grad=True)
        x = torch.zeros(1, 1, 8, 8)
        value = model.decode(z, x).log_prob(x)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        assert value.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("shape", [(8, 8), (1, 1, 8, 8)])
def test_other_shapes_are_refused_with_those_expected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"a shape \(channels, height, width\), got \("):
        small("mlp", shape=shape)
    with pytest.raises(ShapeError, match=r"a shape \(longest, words\), got \("):
        small("lstm", shape=(1, *shape), likelihood="categorical")


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 7, 8), (1, 8, 65)])
def test_other_images_are_refused_with_a_remedy(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"1 or 3 channels and 8 to 64 pixels.*\nResize them"):
        small("mlp", shape=shape)


def test_pyramid_halves_rounding_up() -> None:
    assert resolutions(9, 17) == [(9, 17), (5, 9), (3, 5), (2, 3)]
    assert resolutions(8, 64)[-1] == (1, 4) and resolutions(28, 28) == [(28, 28), (14, 14), (7, 7), (4, 4)]


def test_architecture_has_the_width_of_its_family_and_refuses_none() -> None:
    assert [architecture(name).width for name in ARCHITECTURES] == [spec.width for spec in ARCHITECTURES.values()]
    for bad, message in (
        ({"width": 0}, "width >= 1"),
        ({"latent_dim": -1}, "latent_dim >= 0"),
        ({"latent_dim": 0}, "from z alone"),
    ):
        with pytest.raises(UsageError, match=message):
            architecture("mlp", **bad)  # type: ignore[arg-type]
    assert architecture("he2019", latent_dim=0).latent_dim == 0


def test_generated_images_are_a_function_of_their_arguments() -> None:
    model, z = small("mlp"), draw(3, 3)
    assert torch.equal(model.generate(z), model.reconstruct(z))
    assert torch.equal(model.generate(z, "greedy"), (model.reconstruct(z) >= 0.5).float())
    noise = torch.rand(3, 1, 8, 8, generator=generator(0, "u"))
    assert torch.equal(model.generate(z, "sample", noise), (noise < model.reconstruct(z)).float())
    common = model.generate(z[:1].expand(3, -1), "sample", noise[0])
    assert torch.equal(common[0], common[2])
    assert torch.equal(model.generate(z, "sample"), model.generate(z, "sample"))
    with pytest.raises(UsageError, match="Did you mean 'conv'"):
        Architecture(name="convo")
    with pytest.raises(UsageError, match="likelihood: expected one of bernoulli, gaussian, logistic"):
        architecture("mlp", likelihood="poisson")
