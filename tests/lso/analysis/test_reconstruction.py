"""What a decoder can do against what targets ask for."""

import pytest
import torch

from lso.analysis.reconstruction import share_explained
from lso.analysis.reproduction import Reproduction
from lso.analysis.summary import search_summary
from lso.analysis.verdict import FIT
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.vae.metrics.verdict import judge
from tests.lso.example_decoders import draws, planted
from tests.lso.searched import evidence


def test_the_share_is_one_for_the_target_and_zero_for_the_mean() -> None:
    prior, target = draws(50, 3, 2, seed=1), draws(4, 3, 2, seed=2)
    mean = prior.mean(0).expand(4, 3, 2)
    for decoded, share in ((target, 1.0), (mean, 0.0), (mean + 0.5 * (target - mean), 0.75), (2 * mean - target, -3.0)):
        found = share_explained(target, decoded, prior)
        torch.testing.assert_close(found, torch.full((4,), share, dtype=torch.float64))
    assert share_explained(None, mean, prior) is None and share_explained(target, target[:, 0], prior) is None


@pytest.mark.parametrize(("share", "level"), [(0.9, "fine"), (0.2, "care"), (0.1, "doubt"), (float("nan"), "doubt")])
def test_a_search_that_misses_its_targets_is_not_believed(share: float, level: str) -> None:
    found = Reproduction(share=torch.tensor([share, share, share]))
    assert judge([FIT], evidence(reproduction=found)).level == level


def test_targets_out_of_reach_are_told_though_all_starts_agree() -> None:
    decoder: Decoder = planted()
    with torch.no_grad():
        reachable = decoder(draws(3, decoder.latent_dim, seed=5))
    for targets, believed in ((reachable, True), (5 + 0 * reachable, False)):
        objective = LatentObjective.reconstruct(decoder, targets, prior_weight=0.1)
        result = minimize(objective, draws(3, 4, decoder.latent_dim), "lbfgs", tol=1e-9)
        verdict = search_summary(result).verdict
        fit = verdict.check("fit")
        assert (fit.level == "fine") == believed, fit.found
