"""Small searches with known answers, for the tests of analysis and reports."""

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lso.analysis.latent_dimensions import Dimensions
from lso.analysis.summary import SearchSummary, search_summary
from lso.analysis.verdict import ModelEvidence
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Result
from lso.vae.checkpoint import Codes
from tests.lso.example_decoders import Planted, draws

SCALES = (1.0, 0.9, 0.0, 0.8, 1e-3, 1.1, 0.7)
DEAD, WEAK, ACTIVE = 2, 4, [0, 1, 3, 5, 6]


def planted_search(targets: int = 3, starts: int = 3, *, optimizer: str = "adam", maximize: bool = False) -> Result:
    """Targets that the decoder can make exactly, searched for from prior draws; a copy that a test may change."""
    return deepcopy(_planted_search(targets, starts, optimizer, maximize))


@cache
def _planted_search(targets: int, starts: int, optimizer: str, maximize: bool) -> Result:
    decoder = Decoder(Planted(SCALES))
    with torch.no_grad():
        aims = decoder(0.7 * draws(targets, len(SCALES), seed=5))
    objective = LatentObjective.reconstruct(decoder, aims)
    if maximize:
        objective = _maximized(decoder, aims)
    z0 = draws(targets, starts, len(SCALES), seed=6)
    names = ["mean", *[f"prior {i}" for i in range(1, starts)]]
    steps = 40 if optimizer == "lbfgs" else 300
    return minimize(objective, z0, optimizer, tol=1e-12, max_steps=steps, start_names=names)


def _maximized(decoder: Decoder, aims: Tensor) -> LatentObjective:
    objective = LatentObjective.reconstruct(decoder, aims, loss=lambda x, y: -((x - y) ** 2).flatten(1).sum(1))
    objective.maximize = True
    return objective


def codes(n: int = 50) -> Codes:
    """Codes of a model that uses the active dimensions alone."""
    mean = 0.9 * draws(n, len(SCALES), seed=7)
    mean[:, [DEAD, WEAK]] *= 1e-3
    log_var = torch.full_like(mean, -1.5)
    log_var[:, [DEAD, WEAK]] = 0.0
    return Codes(mean, log_var, torch.tensor(SCALES).square().double())


def evidence(**known: Any) -> ModelEvidence:
    """What rules on the model judge; where nothing else is said, of a decoder that reacts to all of its dimensions."""
    dims = Dimensions(sensitivity=torch.ones(4).double(), how="planted", moved=torch.zeros(4).double())
    return ModelEvidence(**{"dimensions": dims, **known})


@cache
def summary() -> SearchSummary:
    """All numbers of a planted search with codes and a control."""
    return search_summary(planted_search(), codes=codes(), control=planted_search(optimizer="lbfgs"))
