"""Quantities of training with mathematical bounds keep them over all inputs: seeded sweeps over extremes."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.distributions.pixels import LEVELS, Bernoulli, DiscretizedLogistic
from lso.vae.metrics import information
from lso.vae.metrics.active_units import mean_variance
from lso.vae.metrics.evaluation import kl, kl_per_dimension, negative_elbo
from lso.vae.metrics.importance import log_mean
from lso.vae.metrics.information import aggregate_kl, log_mixture, log_mixture_within, mutual_information
from lso.vae.utils.random import generator
from tests.vae.importance import importance_bound

OFFSETS, SPREADS, LOG_VARS = (0.0, 1e4, 1e8), (0.0, 1e-3, 1.0, 1e4), (-20.0, -2.0, 0.0, 4.0)
SIZES = ((1, 1), (1, 3), (40, 1), (40, 5))


def posteriors(dtype: torch.dtype) -> list[tuple[DiagonalGaussian, Tensor]]:
    """Posteriors of all kinds, each with a code drawn from it."""
    found = []
    for number, (offset, spread, log_var, (n, d)) in enumerate(product(OFFSETS, SPREADS, LOG_VARS, SIZES)):
        stream = generator(number, "bounds")
        mean = (offset + spread * torch.randn(n, d, generator=stream, dtype=torch.float64)).to(dtype)
        q = DiagonalGaussian(mean, torch.full_like(mean, log_var))
        found.append((q, q.sample(torch.randn(n, d, generator=stream, dtype=torch.float64).to(dtype))))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mutual_information_is_between_its_bounds_wherever_codes_lie(dtype: torch.dtype) -> None:
    for q, z in posteriors(dtype):
        n = len(q)
        terms = mutual_information(q, z, log_mixture(q, z))
        assert bool(torch.isfinite(terms).all())
        assert float(terms.max()) <= math.log(n) + 1e-6, (q.mean[0, 0], q.log_var[0, 0], n)
        within = mutual_information(q, z, log_mixture_within(q, z, torch.split(torch.arange(n), 7)))
        assert float(within.max()) <= math.log(min(n, 7)) + 1e-6
        if bool((q.mean == q.mean[0]).all()):  # collapsed: all posteriors are one
            assert float(terms.abs().max()) <= 1e-6
        if n == 1:
            assert float(terms.abs().max()) == pytest.approx(0.0, abs=1e-6)


def by_components(q: DiagonalGaussian, z: Tensor) -> Tensor:
    """Log density of the mixture by `torch.distributions`, one normal after another."""
    mean, deviation = q.mean.double(), (0.5 * q.log_var.double()).exp()
    normals = [torch.distributions.Normal(mean[j], deviation[j]) for j in range(len(q))]
    each = [one.log_prob(z.double()).sum(1) for one in normals]  # type: ignore[no-untyped-call]
    return torch.logsumexp(torch.stack(each), 0) - math.log(len(q))


@pytest.mark.parametrize("entries", [1, 70, 2**19])
def test_the_mixture_is_that_of_its_components_one_by_one(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(information, "ENTRIES", entries)
    for q, z in posteriors(torch.float64)[:: 1 if entries == 2**19 else 7]:
        torch.testing.assert_close(log_mixture(q, z), by_components(q, z), rtol=1e-9, atol=1e-7)


def test_ordinary_posteriors_are_not_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Tensor:
        raise AssertionError("formed one by one")

    monkeypatch.setattr(information, "_log_mixture_one_by_one", refused)
    for log_var in (-9.0, -2.0, 0.0):
        q = DiagonalGaussian(3 * torch.randn(50, 32, generator=generator(0, "bounds")), torch.full((50, 32), log_var))
        log_mixture(q, q.mean)


def test_one_far_outlier_among_the_data_spoils_nothing() -> None:
    mean = torch.randn(30, 4, generator=generator(1, "bounds"), dtype=torch.float64)
    q = DiagonalGaussian(mean, torch.full_like(mean, -8.0))
    far = DiagonalGaussian(torch.cat([mean, torch.full((1, 4), 1e9)]), torch.full((31, 4), -8.0, dtype=torch.float64))
    terms = mutual_information(far, far.mean, log_mixture(far, far.mean))
    torch.testing.assert_close(terms[-1].item(), math.log(31))
    without = mutual_information(q, mean, log_mixture(q, mean)) + math.log(31 / 30)
    torch.testing.assert_close(terms[:-1], without, rtol=1e-9, atol=1e-9)
    assert bool(torch.isfinite(aggregate_kl(far.mean, log_mixture(far, far.mean))).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kl_that_is_measured_is_never_negative(dtype: torch.dtype) -> None:
    exponents = torch.linspace(-30, 2, 4001, dtype=torch.float64)
    for sign in (-1, 1):
        log_var = (sign * 10**exponents).clamp(-80, 80).to(dtype)[:, None]
        q = DiagonalGaussian(torch.zeros_like(log_var), log_var)
        found = kl(q)
        assert float(found.min()) >= 0
        large = log_var.abs() > 0.1
        torch.testing.assert_close(found[large], q.kl()[large].double(), rtol=1e-4, atol=0)
        small = log_var.abs() < 1e-3  # 1/4 lv^2 (1 + lv / 3 + ...)
        series = 0.25 * log_var.double() ** 2 * (1 + log_var.double() / 3)
        torch.testing.assert_close(found[small], series[small], rtol=1e-6, atol=1e-16)
    prior = DiagonalGaussian(torch.zeros(5, 3, dtype=dtype), torch.zeros(5, 3, dtype=dtype))
    assert kl_per_dimension(prior).tolist() == [0.0] * 3
    assert negative_elbo(torch.zeros(5, dtype=torch.float64), prior).tolist() == [0.0] * 5


def test_the_log_of_a_mean_of_exponentials_is_between_mean_and_maximum() -> None:
    for number, scale in enumerate((1e-8, 1.0, 1e3, 1e30)):
        value = scale * torch.randn(20, 9, generator=generator(number, "bounds"), dtype=torch.float64)
        found = importance_bound(value)
        room = 1e-15 + 1e-12 * scale
        assert bool((found <= value.amax(1) + room).all()) and bool((found >= value.mean(1) - room).all())
        parts = log_mean(20, value).add(value[:, :2]).add(value[:, 2:3]).add(value[:, 3:]).value()
        torch.testing.assert_close(parts, found, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_infinite_weights_give_infinite_bounds_not_nan(order: tuple[int, ...]) -> None:
    inf = torch.inf
    rows = torch.tensor([[-inf, -inf, -inf], [-inf, 0.0, -inf], [inf, 0.0, -inf], [inf, inf, 5.0]])[:, list(order)]
    state = log_mean(4, rows)
    for column in rows.T:
        state = state.add(column[:, None])
    expected = torch.tensor([-inf, -math.log(3), inf, inf])
    torch.testing.assert_close(state.value(), expected)
    torch.testing.assert_close(importance_bound(rows), expected)


def test_variances_of_means_are_nonnegative_and_0_where_nothing_varies() -> None:
    for offset, n, d in product((0.0, 1e4, 1e8), (1, 2, 50), (1, 4096)):
        flat = torch.full((n, d), offset)
        assert not mean_variance(flat).any()
        varied = offset + torch.randn(n, d, generator=generator(n, "bounds"), dtype=torch.float64)
        assert float(mean_variance(varied).min()) >= 0
        if n > 1:
            torch.testing.assert_close(mean_variance(varied), varied.var(0), rtol=1e-4, atol=0)


def test_log_probabilities_of_pixels_are_at_most_0_and_levels_sum_to_1() -> None:
    levels = (torch.arange(LEVELS) / (LEVELS - 1))[:, None, None, None]
    for log_scale, mean in product((-6.0, -3.0, 0.0, 3.0), (0.0, 0.3, 1.0)):
        likelihood = DiscretizedLogistic(torch.full_like(levels, mean), torch.full((1, 1, 1), log_scale))
        found = likelihood.log_prob(levels)
        assert float(found.max()) <= 0
        torch.testing.assert_close(found.double().exp().sum().item(), 1.0, rtol=1e-3, atol=0)
    logits = torch.linspace(-200, 200, 2001)[:, None, None, None]
    zero, one = (Bernoulli(logits).log_prob(torch.full_like(logits, x)) for x in (0.0, 1.0))
    assert float(torch.maximum(zero, one).max()) <= 0 and bool(torch.isfinite(zero + one).all())
    total = zero.double().exp() + one.double().exp()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-6, atol=0)
