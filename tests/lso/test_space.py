import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from lso import space
from lso.space import LatentSpace
from lso.vae.errors import LsoError
from tests.lso.example_decoders import draws

DIMS = [1, 2, 3, 32, 256]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("d", DIMS)
def test_norm_percentile_is_the_chi_distribution(d: int) -> None:
    z = draws(50, d)
    torch.testing.assert_close(
        space.norm_percentile(z), torch.from_numpy(stats.chi(d).cdf(z.norm(dim=-1))), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("d", DIMS)
def test_log_typicality_is_the_chi_density(d: int) -> None:
    z = draws(50, d) + 0.1
    expected = torch.from_numpy(stats.chi(d).logpdf(z.norm(dim=-1)))
    # The softening 1e-6 inside the logarithm is d/2 * 1e-6 / |z|^2 at most.
    assert float((space.log_typicality(z) - expected).abs().max()) < 1e-3


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_typicalities_are_finite_with_gradients_at_the_origin(d: int, dtype: torch.dtype) -> None:
    space = LatentSpace(d, codes=draws(600, d))
    for measure in (space.norm_percentile, space.log_typicality, space.mahalanobis):
        for point in (torch.zeros(2, d, dtype=dtype), torch.full((2, d), 1e-20, dtype=dtype)):
            z = point.clone().requires_grad_()
            value = measure(z)
            (grad,) = torch.autograd.grad(value.sum(), z)
            assert value.shape == (2,) and bool(value.isfinite().all()) and bool(grad.isfinite().all())


@pytest.mark.parametrize("active", [False, True])
def test_typicality_gradients_match_finite_differences(active: bool) -> None:
    space = LatentSpace(4, codes=draws(100, 4), active=torch.tensor([True, True, False, True]))
    z = draws(5, 4, seed=2).requires_grad_()
    for measure in (space.norm_percentile, space.log_typicality, space.mahalanobis):
        assert torch.autograd.gradcheck(lambda z, m=measure: m(z, active=active), z)


def test_mahalanobis_is_in_units_of_the_codes() -> None:
    codes = draws(4000, 3) * torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64) + 1
    space = LatentSpace(3, codes=codes)
    away = torch.eye(3, dtype=torch.float64) * torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    # Standard deviations are estimated to 1 / sqrt(2 n) = 1.1 %; three of those.
    torch.testing.assert_close(
        space.mahalanobis(codes.mean(0) + away), torch.ones(3, dtype=torch.float64), rtol=0.034, atol=0
    )


def test_dead_dimensions_count_only_outside_the_active_ones() -> None:
    codes = draws(500, 3) * torch.tensor([1.0, 1.0, 1e-4], dtype=torch.float64)
    space = LatentSpace(3, codes=codes)
    z = torch.tensor([0.3, 0.3, 2.0], dtype=torch.float64)
    assert space.active.tolist() == [True, True, False]
    assert float(space.mahalanobis(z)) > 1000 > 1 > float(space.mahalanobis(z, active=True))
    assert float(space.norm_percentile(z, active=True)) < float(space.norm_percentile(z))


def test_a_collapsed_model_has_no_dead_side_to_split() -> None:
    assert LatentSpace(3, codes=1e-5 * draws(50, 3)).active.all()


@pytest.mark.parametrize("bounds", [2.0, torch.tensor([[-2.0, -2.0], [2.0, 2.0]]), "codes"])
def test_bounds_clip_and_tell(bounds: float | Tensor | str) -> None:
    codes = torch.linspace(-2, 2, 401, dtype=torch.float64)[:, None].expand(401, 2)
    space = LatentSpace(2, bounds=bounds, codes=codes)
    z = torch.tensor([[5.0, -5.0], [0.5, -0.5]], dtype=torch.float64)
    assert space.bounds.shape == (2, 2) and space.bounds.dtype == torch.float64
    torch.testing.assert_close(space.clip(z)[0], torch.tensor([2.0, -2.0], dtype=torch.float64), rtol=0.002, atol=0)
    assert space.at_bound(z).tolist() == [[True, True], [False, False]]


def test_bounds_from_codes_of_a_dead_dimension_have_a_width() -> None:
    codes = torch.cat([draws(100, 1), torch.zeros(100, 1, dtype=torch.float64)], 1)
    lower, upper = LatentSpace(2, bounds="codes", codes=codes).bounds
    assert float(upper[1] - lower[1]) == pytest.approx(0.2)


def test_charts_invert_themselves_inside_the_box() -> None:
    z = draws(20, 5).clamp(-2.9, 2.9)
    for chart in ("box", "cdf"):
        space = LatentSpace(5, chart=chart)
        torch.testing.assert_close(space.from_unit(space.to_unit(z)), z)
    active = LatentSpace(5, chart="active", active=torch.tensor([True, False, True, True, False]))
    back = active.from_unit(active.to_unit(z))
    assert active.unit_dim == 3 and torch.equal(back[:, ~active.active], torch.zeros(20, 2, dtype=torch.float64))
    torch.testing.assert_close(back[:, active.active], z[:, active.active])


def test_sobol_through_the_cdf_chart_lies_on_the_shell_and_through_the_box_does_not() -> None:
    shell, box = (
        LatentSpace(32, chart=chart).sample(512, "sobol", seeded()).norm(dim=-1).mean() for chart in ("cdf", "box")
    )
    # The prior's mean norm is 5.61, a uniform point of +-3 has 9.8 (reference page, section 3.4).
    assert float(shell) == pytest.approx(5.61, rel=0.02) and float(box) == pytest.approx(9.8, rel=0.02)


def test_sampling_follows_the_generator_and_the_kind() -> None:
    space = LatentSpace(3, codes=torch.arange(12.0).reshape(4, 3))
    for kind in ("prior", "codes", "sobol"):
        first, again = (space.sample(6, kind, seeded(5)) for _ in range(2))
        assert torch.equal(first, again) and first.shape == (6, 3) and first.dtype == torch.float64
    assert space.codes is not None
    assert all(any(torch.equal(row, code) for code in space.codes) for row in space.sample(6, "codes"))


def test_typical_codes_are_on_the_shell_or_inside() -> None:
    space = LatentSpace(32)
    shell = math.sqrt(31) * torch.nn.functional.normalize(draws(1, 32), dim=-1)
    assert space.typical(torch.cat([0 * shell, shell, 2 * shell])).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LatentSpace(0), "latent size >= 1"),
        (lambda: LatentSpace(2, bounds=-1.0), "lower < upper"),
        (lambda: LatentSpace(2, bounds=torch.zeros(3, 2)), r"expected bounds \(2, 2\)"),
        (lambda: LatentSpace(2, bounds="codes"), "without codes"),
        (lambda: LatentSpace(2, codes=torch.zeros(4, 3)), r"codes \(n, 2\), got \(4, 3\)"),
        (lambda: LatentSpace(2, active=torch.zeros(2, dtype=torch.bool)), "active dimension"),
        (lambda: LatentSpace(2).sample(3, "codes"), "needs the codes"),
        (lambda: LatentSpace(2).mahalanobis(torch.zeros(2)), "needs the codes"),
        (lambda: LatentSpace(2, chart="cube"), "unknown chart"),
    ],
)
def test_wrong_use_is_told(make: object, text: str) -> None:
    with pytest.raises(LsoError, match=text):
        make()  # type: ignore[operator]
