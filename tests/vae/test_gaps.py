"""Gaps in a linear-Gaussian world, where the posterior, its mean-field twin and the evidence are known."""

import math

import pytest
import torch
from torch import Tensor

from lso.vae.axes import Refinement, SemiAmortized, Svi
from lso.vae.errors import UsageError
from lso.vae.gaps import best_gaussian, gaps, whitened
from lso.vae.gaussian import DiagonalGaussian
from lso.vae.inference import draws, infer
from lso.vae.methods import method
from lso.vae.seeds import generator
from tests.vae.linear_gaussian import SCALE, SHAPE, LinearDecoder, World, linear_gaussian
from tests.vae.small import small_model

NATS = [0.2, 0.7, 1.5]


def correlated() -> tuple[World, Tensor]:
    """A world whose decoder columns are not orthogonal, and the precision of its exact posterior."""
    world = linear_gaussian(NATS)
    mix = torch.tensor([[1.0, 0.5, 0.2], [0.0, 1.0, -0.6], [0.3, 0.0, 1.0]], dtype=torch.float64)
    weight = world.weight @ mix
    world.model.decoder = LinearDecoder(weight, world.bias)
    twin = World(world.model, weight, world.bias, world.information, 0.0, 1.0)
    return twin, torch.eye(3, dtype=torch.float64) + weight.T @ weight / SCALE**2


def exact_mean(world: World, precision: Tensor, x: Tensor) -> Tensor:
    found: Tensor = torch.linalg.solve(precision, world.weight.T @ (x.flatten(1) - world.bias).T / SCALE**2)
    return found.T


def test_refinement_finds_the_mean_field_optimum() -> None:
    """Exact mean and variances 1/L_ii, L the precision of the posterior; with orthogonal columns it is exact."""
    for world, precision in (correlated(), (linear_gaussian(NATS), None)):
        if precision is None:
            precision = torch.diag(torch.exp(2 * world.information))
        x = world.data(6, generator(0, "x"))
        start = DiagonalGaussian(*torch.zeros(2, 6, 3, dtype=torch.float64))
        q, moved = best_gaussian(world.model, x, start, generator(0, "g"), steps=600, samples=6)
        torch.testing.assert_close(q.mean, exact_mean(world, precision, x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(q.log_var, -precision.diagonal().log().expand(6, 3), rtol=1e-4, atol=1e-4)
        assert moved.abs().max() < 1e-4


def test_approximation_gap_is_that_of_the_correlations() -> None:
    """1/2 (sum log L_ii - log det L)."""
    world, precision = correlated()
    x = world.data(8, generator(0, "x"))
    found = gaps(world.model, x, steps=400, samples=6, iw_samples=1000)
    expected = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    assert expected > 0.3 and found.nll == pytest.approx(-world.log_evidence(x).mean().item(), abs=0.03)
    assert found.refined.neg_elbo + world.log_evidence(x).mean().item() == pytest.approx(expected, abs=1e-4)
    assert found.approximation == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("shift", "inflate"), [(0.0, 1.0), (0.7, 1.0), (0.3, 2.0)])
def test_orthogonal_columns_leave_the_amortization_gap_alone(shift: float, inflate: float) -> None:
    """0 for the optimal encoder, KL(q || posterior) for a spoiled one; no approximation gap."""
    world = linear_gaussian(NATS, shift=shift, inflate=inflate)
    found = gaps(world.model, world.data(8, generator(0, "x")), steps=400, samples=6, iw_samples=1000)
    assert found.approximation == pytest.approx(0, abs=1e-4)
    assert found.amortization == pytest.approx(world.gap(), abs=1e-4)
    assert found.inference == pytest.approx(found.approximation + found.amortization, abs=1e-12)
    assert found.refined.iw_nll == pytest.approx(found.refined.neg_elbo, abs=1e-4)  # every weight is p(x)
    assert found.own.neg_elbo == pytest.approx(found.nll + world.gap(), abs=1e-3)


def test_svi_of_training_approaches_the_same_optimum() -> None:
    world, precision = correlated()
    x = world.data(4, generator(0, "x"))
    chosen = Svi(refinement=Refinement(steps=1500, step_size=0.006, momentum=0.5, clip=0.0, batch=1))
    noise = torch.randn(draws(chosen), 4, 3, generator=generator(0, "noise"), dtype=torch.float64)
    q = infer(chosen, world.model, x, noise, 1.0)
    torch.testing.assert_close(q.mean, exact_mean(world, precision, x), rtol=0, atol=0.15)
    torch.testing.assert_close(q.log_var, -precision.diagonal().log().expand(4, 3), rtol=0, atol=0.25)


def test_draws_are_whitened_where_there_are_enough() -> None:
    like = torch.zeros(4, 3, dtype=torch.float64)
    noise = whitened(8, like, generator(0, "g"))
    assert noise.shape == (8, 4, 3) and noise.mean(0).abs().max() < 1e-15
    second = torch.einsum("sbi,sbj->bij", noise, noise) / 8
    torch.testing.assert_close(second, torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    assert whitened(4, like, generator(0, "g")).std() > 0.3


def test_weights_modes_and_flags_are_left_alone_and_blocks_do_not_matter() -> None:
    model = small_model(method("vae"), "he2019-small", 3, width=4).double()
    model.decoder.requires_grad_(False)
    x = (torch.rand(52, *SHAPE, generator=generator(0, "x"), dtype=torch.float64) < 0.4).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = gaps(model, x, steps=3, samples=2, iw_samples=4)
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.encoder.parameters())
    assert not any(p.requires_grad for p in model.decoder.parameters())
    assert found.n == 52 and math.isfinite(found.inference) and "amortization" in found.to_json()
    with pytest.raises(UsageError, match="has no gaps"):
        gaps(small_model(method("pixelcnn")), x.float())


def test_another_inference_is_reported_beside_its_encoder() -> None:
    world = linear_gaussian(NATS, shift=0.7)
    world.model.inference = SemiAmortized(
        refinement=Refinement(steps=100, step_size=0.01, momentum=0.5, clip=0.0, batch=1)
    )
    found = gaps(world.model, world.data(8, generator(0, "x")), steps=300, samples=6, iw_samples=200)
    assert found.encoder is not None
    assert found.refined.neg_elbo < found.own.neg_elbo < found.encoder.neg_elbo
    assert found.encoder.neg_elbo - found.refined.neg_elbo == pytest.approx(world.gap(), abs=1e-3)
