"""Predictions of left-out values, over one search or several."""

import pytest
import torch

from lso.analysis.surrogate_calibration import LEVELS, all_equal, calibrate_evaluations, coverage, pool
from lso.space import LatentSpace
from tests.lso.example_decoders import draws


def smooth(z: torch.Tensor) -> torch.Tensor:
    return torch.sin(z[:, 0]) + 0.5 * z[:, 1]


def test_a_smooth_function_is_predicted_and_covered() -> None:
    z = draws(40, 3)
    found = calibrate_evaluations(LatentSpace(3), z, smooth(z), torch.ones(40, dtype=torch.bool))
    assert found is not None and not found.flat and not all_equal(found) and found.rank_correlation > 0.95
    assert coverage(found, LEVELS[0]) <= coverage(found, LEVELS[1]) <= coverage(found, LEVELS[2]) == found.coverage_95


def test_pooling_keeps_all_predictions_and_averages_lengthscales_geometrically() -> None:
    z = draws(24, 2)
    every = torch.ones(12, dtype=torch.bool)
    halves = [calibrate_evaluations(LatentSpace(2), part, smooth(part), every) for part in (z[:12], z[12:])]
    one, two = halves
    both = pool([half for half in halves if half is not None])
    assert one is not None and two is not None and both is not None and pool([]) is None
    torch.testing.assert_close(both.lengthscales, (one.lengthscales * two.lengthscales).sqrt())
    assert both.observed.tolist() == [*one.observed.tolist(), *two.observed.tolist()]
    assert both.coverage_95 == pytest.approx((one.coverage_95 + two.coverage_95) / 2)


def test_only_chosen_finite_values_count_and_a_few_are_too_few() -> None:
    z, every = draws(10, 3), torch.ones(10, dtype=torch.bool)
    value = smooth(z)
    assert calibrate_evaluations(LatentSpace(3), z, value, torch.arange(10) < 5) is None
    value[:3] = torch.nan
    found = calibrate_evaluations(LatentSpace(3), z, value, every)
    assert found is not None and len(found.observed) == 7
    assert calibrate_evaluations(LatentSpace(3), z, value, every, points=5) is None
