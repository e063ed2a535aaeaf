"""Leave-one-out calibration against refits without the point, lengthscales against what matters, and flatness."""

import math

import pytest
import torch
from scipy.stats import spearmanr

from lso._botorch import importing_botorch
from lso.analysis.rank_correlation import spearman
from lso.analysis.surrogate_calibration import Calibration, measure_calibration
from lso.black_box.ask_tell import History, make_optimizer
from lso.black_box.bayesopt.surrogates import SURROGATES, fit, isolated_botorch
from lso.space import LatentSpace
from tests.lso.black_boxes import told


def first_matters(z: torch.Tensor) -> torch.Tensor:
    return 5 + 100 * torch.sin(2 * z[:, 0])


def calibrate(history: History, kind: str = "gp") -> Calibration:
    with isolated_botorch(0):
        return measure_calibration(fit(history.space.to_unit(history.z), history.gain, kind), history.space)


@pytest.mark.parametrize("kind", list(SURROGATES))
def test_the_dimension_that_matters_has_the_short_lengthscale_and_held_out_gains_are_predicted(kind: str) -> None:
    space = LatentSpace(3, bounds=2.0)
    found = calibrate(told("random", space, 40, first_matters).history(), kind)
    assert not found.flat
    assert int(found.lengthscales.argmin()) == 0 and float(found.lengthscales[0]) < 4
    assert found.rank_correlation > 0.9 and found.coverage_95 > 0.8
    torch.testing.assert_close(found.observed, first_matters(told("random", space, 40).history().z))


def test_left_out_predictions_are_those_of_the_model_conditioned_on_the_others() -> None:
    history = told("random", LatentSpace(2), 12, first_matters).history()
    found = calibrate(history)
    with importing_botorch():
        from botorch.models import SingleTaskGP
    with isolated_botorch(0):
        x = history.space.to_unit(history.z)
        whole = fit(x, history.gain)
        rest = SingleTaskGP(x[1:], whole.targets[1:, None], outcome_transform=None)
        rest.load_state_dict({k: v for k, v in whole.model.state_dict().items() if "outcome_transform" not in k})
        posterior = rest.eval().posterior(x[:1], observation_noise=True)
    expected = posterior.mean.item() * whole.scale + whole.center
    assert float(found.mean[0]) == pytest.approx(expected, rel=1e-4)
    assert float(found.deviation[0]) == pytest.approx(posterior.variance.sqrt().item() * whole.scale, rel=1e-4)


@pytest.mark.parametrize("chart", ["cdf", "active"])
def test_lengthscales_are_in_latent_units_and_infinite_off_the_chart(chart: str) -> None:
    space = LatentSpace(3, bounds=2.0, chart=chart, active=torch.tensor([True, False, True]))
    found = calibrate(told("random", space, 12, first_matters).history())
    assert bool(torch.isfinite(found.lengthscales).all()) == (chart != "active")


def test_constant_values_and_pure_noise_are_flat() -> None:
    noise = torch.randn(60, generator=torch.Generator().manual_seed(0)).double()
    for size in (0.0, 1.0):
        box = make_optimizer("random", LatentSpace(4))
        box.tell(box.ask(60), size * noise + 3)
        found = calibrate(box.history())
        assert found.flat


def test_rank_correlation_is_scipys_ties_included() -> None:
    a, b = torch.tensor([1.0, 2.0, 2.0, 5.0, 0.0]).double(), torch.tensor([3.0, 1.0, 4.0, 4.0, 0.0]).double()
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(spearman(a, torch.zeros(5).double()))
