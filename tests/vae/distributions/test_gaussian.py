"""Diagonal Gaussians against torch.distributions and hand values."""

import math

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from lso.vae.distributions.families import concatenate_posteriors
from lso.vae.distributions.gaussian import DiagonalGaussian, normal_log_prob, prior_log_prob


@pytest.fixture
def q() -> DiagonalGaussian:
    draw = Generator().manual_seed(0)
    mean, log_var = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
    return DiagonalGaussian(2 * mean, 1.5 * log_var)


def reference(q: DiagonalGaussian) -> Normal:
    return Normal(q.mean, torch.exp(0.5 * q.log_var))


def codes(*shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (4,), (2, 4)])
def test_log_prob_is_that_of_torch(q: DiagonalGaussian, lead: tuple[int, ...]) -> None:
    z = codes(*lead, 5, 3)
    torch.testing.assert_close(q.log_prob(z), reference(q).log_prob(z).sum(-1))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(prior_log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))  # type: ignore[no-untyped-call]


def test_entropy_and_kl_are_those_of_torch(q: DiagonalGaussian) -> None:
    torch.testing.assert_close(q.entropy(), reference(q).entropy().sum(-1))  # type: ignore[no-untyped-call]
    prior = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    torch.testing.assert_close(q.kl(), kl_divergence(reference(q), prior))


def test_kl_of_hand_values() -> None:
    q = DiagonalGaussian(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, math.log(4.0)]]))
    torch.testing.assert_close(q.kl(), torch.tensor([[0.0, 0.5, 0.5 * (4 - 1 - math.log(4.0))]]))


def test_kl_is_the_mean_log_ratio_within_four_standard_errors(q: DiagonalGaussian) -> None:
    z = q.sample(codes(20_000, 5, 3))
    ratio = q.log_prob(z) - prior_log_prob(z)  # (sample, batch)
    error = ratio.std(0) / math.sqrt(len(z))
    assert ((ratio.mean(0) - q.kl().sum(-1)).abs() < 4 * error).all()


def test_sample_is_mean_plus_sigma_noise_with_gradients() -> None:
    mean, log_var = torch.zeros(1, 2, requires_grad=True), torch.full((1, 2), math.log(9.0), requires_grad=True)
    z = DiagonalGaussian(mean, log_var).sample(torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(z, torch.tensor([[3.0, -6.0]]))
    z.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mean.grad, torch.ones(1, 2))
    torch.testing.assert_close(log_var.grad, torch.tensor([[1.5, -3.0]]))  # 1/2 sigma noise


@pytest.mark.parametrize("log_var", [-150.0, -60.0, 0.0, 60.0])
def test_log_prob_of_own_draws_is_finite_in_single_precision(log_var: float) -> None:
    wide = torch.full((1, 2), log_var, requires_grad=True)
    mean = torch.zeros(1, 2, requires_grad=True)
    value = normal_log_prob((torch.exp(0.5 * wide) * 1.5).detach(), mean, wide)
    value.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(value, torch.full_like(value, -0.5 * (math.log(2 * math.pi) + log_var + 2.25)))
    assert wide.grad is not None and wide.grad.isfinite().all()


def test_rows_and_cat_are_inverse(q: DiagonalGaussian) -> None:
    again = concatenate_posteriors([q[:2], q[2:4], q[torch.tensor([4])]])
    assert len(again) == len(q) == 5
    assert torch.equal(again.mean, q.mean) and torch.equal(again.log_var, q.log_var)
