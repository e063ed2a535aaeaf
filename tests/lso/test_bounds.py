"""Quantities of searches with mathematical bounds keep them over all inputs: seeded sweeps over extremes."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from lso import space
from lso.analysis import reconstruction
from lso.analysis.plausibility import decoded_scale, distance_from_codes
from lso.analysis.rank_correlation import rank_order, spearman
from lso.analysis.start_sensitivity import pairwise
from lso.analysis.statistics import normalized_edit_distance
from lso.black_box.bayesopt.guard import make_guard, typical_radius
from lso.decoders.probing import correlations
from lso.space import MAX_TYPICAL_PERCENTILE, LatentSpace
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.utils.random import generator

DTYPES = (torch.float32, torch.float64)
SCALES = (0.0, 1e-20, 1e-8, 1.0, 30.0, 1e4, 1e8, 1e30)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "bounds"), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 32, 4096])
def test_norm_percentiles_are_probabilities_from_0_at_the_origin_to_1_far_out(d: int, dtype: torch.dtype) -> None:
    direction = normal(d, 3, d, dtype=dtype)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    before = torch.zeros(3, dtype=dtype)
    for scale in SCALES:
        z = (scale * direction).requires_grad_()
        found = space.norm_percentile(z)
        assert bool(((found >= 0) & (found <= 1) & (found >= before)).all()), scale
        assert bool(torch.isfinite(torch.autograd.grad(found.sum(), z)[0]).all())
        before = found.detach()
        log_density = space.log_typicality(z)
        assert bool(torch.isfinite(log_density).all()), scale
        assert bool(torch.isfinite(torch.autograd.grad(log_density.sum(), z)[0]).all())
    assert bool((before == 1).all())
    assert space.norm_percentile(torch.zeros(d, dtype=dtype)).item() == 0


def clouds(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Codes with dead dimensions, strong correlations, offsets and no spread at all, and their posterior variances."""
    found = []
    for number, (offset, d) in enumerate(product((0.0, 1e4), (1, 6, 32))):
        mean = normal(number, 80, d)
        mean[:, d // 2 :] *= 1e-6  # dead
        mean = mean + 5 * mean[:, :1]  # all along one direction
        for codes in (mean + offset, torch.full((80, d), offset, dtype=torch.float64)):
            for variance in (1.0, 1e-8):
                found.append((codes.to(dtype), torch.full((80, d), variance, dtype=dtype)))
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_mahalanobis_distances_are_0_at_the_mean_alone_and_those_of_an_inverse_covariance(dtype: torch.dtype) -> None:
    for number, (mean, variance) in enumerate(clouds(dtype)):
        center, white = mean.mean(0), space.whitening_matrix(mean, variance)
        assert space.mahalanobis(center, center, white).item() == 0
        steps = normal(number, 200, mean.shape[1], dtype=dtype)
        steps[:100] = 5 * normal(number + 50, 100, 1, dtype=dtype)  # along what the codes vary most in
        found = space.mahalanobis(center + steps, center, white)
        assert bool((found > 0).all())
        taken = ((center + steps) - center).double()
        away = mean.double() - mean.double().mean(0)
        covariance = away.T @ away / 79 + torch.diag(variance.double().mean(0))
        covariance += (1e-6 * covariance.diagonal().mean() + 1e-12) * torch.eye(len(covariance), dtype=torch.float64)
        expected = (taken * torch.linalg.solve(covariance, taken.T).T).sum(-1).sqrt()
        torch.testing.assert_close(found.double(), expected, rtol=1e-2 if dtype == torch.float32 else 1e-6, atol=0)


def test_distances_from_codes_have_a_gradient_of_0_at_their_mean_and_codes_that_are_not_finite_give_nan() -> None:
    mean = normal(0, 20, 3)
    z = mean.mean(0).clone().requires_grad_()
    distance = distance_from_codes(z, mean, torch.ones_like(mean))
    assert distance.item() == 0 and not torch.autograd.grad(distance, z)[0].any()
    assert bool(distance_from_codes(mean, torch.full_like(mean, torch.nan), mean).isnan().all())


def test_a_space_measures_codes_in_single_precision_as_the_same_codes_in_double() -> None:
    """Codes on a line, 5 long, have an inverse covariance whose quadratic form cancels: it was 0 far from the mean."""
    for number, (d, offset) in enumerate(product((6, 32), (0.0, 1e4))):
        line = normal(number, d)
        mean = offset + 5 * normal(number + 10, 80, 1) * line + 1e-6 * normal(number + 20, 80, d)
        space = LatentSpace(d, codes=DiagonalGaussian(mean, torch.full_like(mean, math.log(1e-8))))
        z = (mean.mean(0) + 5 * normal(number + 30, 500, 1) * line).float()
        found = space.mahalanobis(z)
        assert found.dtype == torch.float32 and float(found.min()) > 1e-4
        torch.testing.assert_close(found, space.mahalanobis(z.double()).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ball_holds_every_code_whatever_the_box(dtype: torch.dtype) -> None:
    room = 1e-6 if dtype == torch.float32 else 1e-12
    for number, (d, corner) in enumerate(product((1, 2, 32), (-9.0, -1.0, 0.0, 0.5, 0.999, 1 - 1e-9))):
        edge = corner * typical_radius(LatentSpace(d)) / math.sqrt(d) if corner > 0 else corner
        bounds = torch.tensor([edge, max(edge, 0.0) + 50.0], dtype=torch.float64)[:, None].expand(2, d).clone()
        space = LatentSpace(d, bounds=bounds)
        guard = make_guard(space, "ball")
        u = torch.rand(400, d, generator=generator(number, "bounds"), dtype=torch.float64) ** 3
        z = space.from_unit(u).to(dtype)
        inside = guard.pull_inside(z)
        assert bool(torch.isfinite(inside).all())
        assert float(inside.double().norm(dim=-1).max()) <= typical_radius(space) * (1 + room), (d, corner)
        if dtype == torch.float64:
            assert bool((space.norm_percentile(inside) <= MAX_TYPICAL_PERCENTILE).all())
            assert bool((inside >= bounds[0] - 1e-12).all()) and bool((inside <= bounds[1] + 1e-12).all())


@pytest.mark.parametrize("chart", ["box", "active"])
def test_the_chart_leads_nowhere_outside_the_bounds(chart: str) -> None:
    """A strict objective would refuse a code a unit in the last place beyond them."""
    for seed, dtype in product(range(40), DTYPES):
        sides = normal(seed, 2, 50).sort(0).values
        space = LatentSpace(50, bounds=sides, chart=chart)
        u = torch.rand(20, 50, generator=generator(seed, "unit"), dtype=dtype)
        u[0], u[1] = 1.0, torch.nextafter(torch.ones(50, dtype=dtype), torch.zeros(50, dtype=dtype))
        lower, upper = sides.to(dtype)
        z = space.from_unit(u.requires_grad_())
        assert bool(((z >= lower) & (z <= upper)).all())
        slope = torch.autograd.grad(z.sum(), u)[0]
        torch.testing.assert_close(slope[0], upper - lower, rtol=1e-6, atol=1e-6)  # not halved at the bound


def test_correlations_are_between_minus_1_and_1_whatever_the_scale() -> None:
    for number, (scale, other, n) in enumerate(product((1e-170, 1.0, 1e100), (1e-170, 1e8), (1, 2, 3, 50))):
        a = normal(number, n, 4)
        b = normal(number + 500, n, 4)
        for x, y in ((a, a), (a, -a), (a, b), (a, torch.ones_like(a))):
            found = correlations(scale * x, other * y)
            assert bool((found.abs() <= 1).all())
            expected = correlations(x, y)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        if n > 2:
            wanted = [torch.corrcoef(torch.stack([a[:, i], b[:, i]]))[0, 1].item() for i in range(4)]
            torch.testing.assert_close(correlations(a, b), torch.tensor(wanted, dtype=torch.float64))
            torch.testing.assert_close(correlations(a, a), torch.ones(4, dtype=torch.float64))


def test_rank_correlations_are_between_minus_1_and_1_and_reach_both() -> None:
    for number in range(30):
        n = 2 + number
        a, b = normal(number, n), normal(number + 1000, n).round()
        for x, y in ((a, a), (a, -a), (a, b), (b, b), (a, a.exp())):
            found, order = spearman(x, y), rank_order(x.tolist(), y.tolist())
            assert math.isnan(found) or -1 <= found <= 1
            for value in (order.spearman, order.kendall):
                assert value is None or -1 <= value <= 1
        assert spearman(a, a) == pytest.approx(1, abs=1e-12)
        assert rank_order(a.tolist(), (-a).tolist()).kendall == pytest.approx(-1, abs=1e-12)


def test_decoded_distances_are_0_between_equal_results_alone_however_large_they_are() -> None:
    for number, (offset, values) in enumerate(product((0.0, 1e4, 1e8), (1, 784))):
        x = offset + normal(number, 2, 40, values)
        x[:, 1] = x[:, 0]
        x[:, 2] = x[:, 0] + 1e-3
        found = pairwise(x)
        assert bool((found >= 0).all()) and not found[:, 0, 1].any() and not found.diagonal(dim1=1, dim2=2).any()
        gap = (x[:, 2] - x[:, 0]).square().mean(-1).sqrt()
        torch.testing.assert_close(found[:, 0, 2], gap, rtol=1e-9, atol=0)
        assert decoded_scale(x[0, :1]) == 0 and decoded_scale(x[0, :1].expand(9, -1)) == 0
        assert decoded_scale(x[0]) == pytest.approx(math.sqrt(2), rel=0.1 if values > 1 else 0.6)


def test_shares_of_targets_that_are_reproduced_are_at_most_1_and_1_for_the_target_itself() -> None:
    for number, offset in enumerate((0.0, 1e4, 1e8)):
        targets, prior = offset + normal(number, 5, 9), offset + normal(number + 9, 30, 9)
        found = reconstruction.share_explained(targets, targets + normal(number + 20, 5, 9), prior)
        assert found is not None and float(found.max()) <= 1
        same = reconstruction.share_explained(targets, targets, prior)
        assert same is not None and same.tolist() == [1.0] * 5
        mean = prior.mean(0, keepdim=True)
        known = reconstruction.share_explained(mean, mean, prior)
        assert known is not None and known.tolist() == [1.0]
    tokens = torch.randint(0, 8, (60, 9), generator=generator(0, "tokens"))
    found = normalized_edit_distance(tokens, tokens.flip(0))
    assert bool(((found >= 0) & (found <= 1)).all()) and not normalized_edit_distance(tokens, tokens).any()
