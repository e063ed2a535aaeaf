"""Leave-one-out calibration agrees with refitting, and tells what can be foretold from what cannot."""

import pytest
import torch
from torch import Tensor

from lso.calibration import calibrate
from lso.space import LatentSpace
from lso.surrogate import fit, isolated
from tests.lso.decoders import draws


def smooth(z: Tensor) -> Tensor:
    return torch.sin(z[:, 0]) + 0.5 * z[:, 1]


def test_a_smooth_function_is_foretold_and_its_idle_dimension_has_the_longest_lengthscale() -> None:
    z = draws(40, 3)
    found = calibrate(LatentSpace(3), z, smooth(z))
    assert found is not None and not found.flat and found.rank_correlation > 0.95
    assert int(found.lengthscale.argmax()) == 2
    assert found.coverage(0.95) >= 0.85 and found.coverage(0.5) <= found.coverage(0.8) <= found.coverage(0.95)


def test_noise_and_a_constant_are_flat() -> None:
    z = draws(40, 3)
    noise, constant = (calibrate(LatentSpace(3), z, value) for value in (draws(40, seed=9), torch.ones(40)))
    assert noise is not None and noise.flat and not noise.equal
    assert constant is not None and constant.flat and constant.equal and constant.rank_correlation == 0


def test_what_is_left_out_is_predicted_by_the_rest_alone() -> None:
    """The closed form against conditioning on the other points with the same hyperparameters."""
    space, z = LatentSpace(2), draws(12, 2)
    value = smooth(z)
    found = calibrate(space, z, value)
    assert found is not None
    with isolated(0):
        whole = fit(space.to_unit(z), value)
        model, noise = whole.model, whole.model.likelihood.noise.detach()
        kernel = model.covar_module(space.to_unit(z)).to_dense().detach() + noise * torch.eye(12, dtype=z.dtype)
        constant = model.mean_module(space.to_unit(z)).detach()
    rest = torch.arange(12) != 5
    scale, center = value.std(), value.mean()
    y = (value - center) / scale
    inner = model.outcome_transform(y.unsqueeze(-1))[0].squeeze(-1) if hasattr(model, "outcome_transform") else y
    weights = torch.linalg.solve(kernel[rest][:, rest], kernel[rest][:, 5])
    mean = constant[5] + weights @ (inner - constant)[rest]
    assert float(found.mean[5]) == pytest.approx(float(mean * scale + center), abs=1e-5)


def test_lengthscales_are_in_the_unit_of_the_code() -> None:
    z = draws(30, 3)
    narrow, wide = (calibrate(LatentSpace(3, bounds=b), z, smooth(z)) for b in (3.0, 4.0))
    assert narrow is not None and wide is not None
    assert float(wide.lengthscale[0] / narrow.lengthscale[0]) == pytest.approx(1, abs=0.35)  # the prior is on the cube
    mask = torch.tensor([True, True, False])
    active = calibrate(LatentSpace(3, active=mask, chart="active"), z, smooth(z))
    assert active is not None and active.lengthscale.isnan().tolist() == [False, False, True]


def test_nothing_is_said_of_a_few_values_or_of_those_that_are_none() -> None:
    z = draws(10, 3)
    value = smooth(z)
    assert calibrate(LatentSpace(3), z[:5], value[:5]) is None
    value[:5] = torch.nan
    assert calibrate(LatentSpace(3), z, value) is None
    assert calibrate(LatentSpace(3), z, smooth(z), torch.arange(10) < 5) is None
