"""Likelihoods against torch.distributions, normalisation, and what happens at the extremes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from lso.vae.distributions.pixels import (
    LEVELS,
    LIKELIHOODS,
    MIN_LOG_SCALE,
    Bernoulli,
    DiscretizedLogistic,
    Gaussian,
    Head,
    per_datum,
)
from lso.vae.errors import UsageError
from lso.vae.protocols import Likelihood

SHAPE = (2, 3, 4, 5)
GRID = torch.arange(LEVELS, dtype=torch.float64) / (LEVELS - 1)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def logistic_over_levels(mean: float, log_scale: float) -> DiscretizedLogistic:
    """One pixel's likelihood, a row for each level."""
    return DiscretizedLogistic(
        torch.full((LEVELS, 1, 1, 1), mean, dtype=torch.float64), torch.full((1, 1, 1), log_scale, dtype=torch.float64)
    )


def test_bernoulli_is_that_of_torch() -> None:
    logits, x = 8 * uniform(*SHAPE) - 4, uniform(*SHAPE, seed=1).round()
    expected = TorchBernoulli(logits=logits).log_prob(x).flatten(1).sum(1)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(Bernoulli(logits).log_prob(x), expected)


def test_bernoulli_of_grey_values_is_the_cross_entropy() -> None:
    logits, x = 8 * uniform(*SHAPE) - 4, uniform(*SHAPE, seed=1)
    p = torch.sigmoid(logits)
    torch.testing.assert_close(Bernoulli(logits).log_prob(x), per_datum(x * p.log() + (1 - x) * (1 - p).log()))


def test_gaussian_is_that_of_torch() -> None:
    mean, x, log_scale = uniform(*SHAPE), uniform(*SHAPE, seed=1), uniform(3, 1, 1) - 1
    expected = Normal(mean, log_scale.exp()).log_prob(x).flatten(1).sum(1)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(Gaussian(mean, log_scale).log_prob(x), expected)


@pytest.mark.parametrize("mean", [0.0, 0.3337, 1.0])
@pytest.mark.parametrize("log_scale", [MIN_LOG_SCALE, -2.3, 3.0])
def test_logistic_masses_sum_to_one_over_the_levels(mean: float, log_scale: float) -> None:
    mass = logistic_over_levels(mean, log_scale).log_prob(GRID[:, None, None, None]).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)


def test_logistic_mass_is_the_difference_of_the_distribution_function() -> None:
    mean, scale = 0.4, 0.05
    edge = 0.5 / (LEVELS - 1)
    upper, lower = (torch.sigmoid((GRID + sign * edge - mean) / scale) for sign in (1, -1))
    upper[-1], lower[0] = 1, 0  # the end bins take the tails
    mass = logistic_over_levels(mean, math.log(scale)).log_prob(GRID[:, None, None, None]).exp()
    torch.testing.assert_close(mass, upper - lower)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("logit", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_values_and_gradients_are_finite_at_the_extremes(name: str, logit: float) -> None:
    head = Head(name, 1)
    raw = torch.full((4, 1, 1, 1), logit, requires_grad=True)
    value = head(raw).log_prob(torch.tensor([0.0, 0.2, 0.8, 1.0])[:, None, None, None])
    value.sum().backward()
    assert value.isfinite().all() and raw.grad is not None and raw.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_bernoulli_gradient_does_not_saturate() -> None:
    """Where log(p + 1e-12) has no gradient left (seeds page, 1.3), logits still pull with x - p = 1."""
    logits = torch.full((1, 1, 1, 1), -50.0, requires_grad=True)
    Bernoulli(logits).log_prob(torch.ones(1, 1, 1, 1)).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and logits.grad.item() == pytest.approx(1)


SAMPLED: list[tuple[Callable[[Tensor], Likelihood], float]] = [
    (Bernoulli, 0.0),
    (lambda raw: Gaussian(torch.sigmoid(raw), torch.full((1, 1, 1), -1.0)), 0.0),
    # rounding to levels and clipping at [0, 1] bias the mean a little
    (lambda raw: DiscretizedLogistic(torch.sigmoid(raw), torch.full((1, 1, 1), -3.5)), 2e-3),
]


@pytest.mark.parametrize(("make", "bias"), SAMPLED, ids=["bernoulli", "gaussian", "logistic"])
def test_draws_have_the_mean_within_four_standard_errors(make: Callable[[Tensor], Likelihood], bias: float) -> None:
    likelihood = make(torch.full((20_000, 1, 1, 1), 0.3))
    draws = likelihood.sample(uniform(20_000, 1, 1, 1).float())
    error = draws.std().item() / math.sqrt(len(draws))
    assert abs(draws.mean() - likelihood.mean.mean()).item() < 4 * error + bias


def test_draws_lie_where_the_likelihood_has_mass() -> None:
    uniforms = torch.tensor([0.0, 1e-9, 0.5, 1 - 2**-24])[:, None, None, None]
    for name in LIKELIHOODS:
        draws = Head(name, 1)(torch.zeros(4, 1, 1, 1)).sample(uniforms)
        assert draws.isfinite().all()
        if name == "logistic":
            torch.testing.assert_close(draws * 255, (draws * 255).round())
        if name != "gaussian":
            assert ((draws >= 0) & (draws <= 1)).all()


@pytest.mark.parametrize("name", ["gaussian", "logistic"])
def test_learned_scale_keeps_a_floor_and_its_gradient(name: str) -> None:
    head = Head(name, 3)
    torch.nn.init.constant_(head.log_scale, -12.0)
    head(torch.zeros(2, 3, 4, 4)).log_prob(torch.rand(2, 3, 4, 4)).sum().backward()
    assert (head(torch.zeros(1, 3, 1, 1)).log_scale >= MIN_LOG_SCALE).all()
    assert head.log_scale.grad is not None and (head.log_scale.grad != 0).all()


def test_unknown_likelihood_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown likelihood 'gausian'\nDid you mean 'gaussian'"):
        Head("gausian", 1)
