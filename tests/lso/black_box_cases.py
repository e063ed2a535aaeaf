"""Small black-box searches with known answers."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lso
from lso.analysis import black_box_summary as black_box_analysis
from lso.analysis.black_box_summary import BlackBoxSummary, black_box_summary
from lso.analysis.surrogate_calibration import calibrate_evaluations
from lso.black_box.ask_tell import BlackBox, History
from lso.black_box.result import SearchResult
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.reports.black_box_report import black_box_numbers
from lso.space import LatentSpace
from tests.charts import leave_charts_out
from tests.lso.example_decoders import Planted

SCALES = (1.0, 0.8, 0.0, 0.9)  # the third dimension is dead
DEAD = 2
BEST = 0.5  # of each active coordinate, where the value is greatest


def near(x: Tensor) -> Tensor:
    """Minus the squared distance from the decode of (0.5, 0.5, ., 0.5)."""
    target = Planted(SCALES).decode(torch.full((1, 4), BEST, dtype=torch.float64))
    distance: Tensor = (x - target).square().flatten(1).sum(1)
    return -distance


@pytest.fixture
def unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the surrogates out: each takes a second to fit."""
    monkeypatch.setattr(black_box_analysis, "calibrate_evaluations", lambda *_: None)


@pytest.fixture
def fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surrogates of the same tensors are fitted once: those of `seeds`."""
    monkeypatch.setattr(black_box_analysis, "calibrate_evaluations", fitted)


_FITTED: dict[tuple[Any, ...], Any] = {}


def fitted(space: LatentSpace, z: Tensor, value: Tensor, counts: Tensor) -> Any:
    """`calibrate_evaluations`, remembered."""
    key = tuple(tuple(one.flatten().tolist()) for one in (space.bounds, z, value, counts))
    if key not in _FITTED:
        _FITTED[key] = calibrate_evaluations(space, z, value, counts)
    return _FITTED[key]


@pytest.fixture
def uncharted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts out: together they take half a second."""
    leave_charts_out(monkeypatch)


def objective(score: Callable[[Tensor], Any] = near, bounds: float = 3.0) -> LatentObjective:
    return LatentObjective(Decoder(Planted(SCALES)), score, space=LatentSpace(4, bounds=bounds), maximize=True)


def far(x: Tensor) -> Tensor:
    """Greater the farther out the code is."""
    return x.square().flatten(1).sum(1)


def uniform(history: History, n: int, seed: int) -> Tensor:
    """Points all over the box, which is no prior."""
    lower, upper = history.space.bounds[0], history.space.bounds[1]
    unit = torch.rand(n, history.space.dim, generator=torch.Generator().manual_seed(seed % 2**31), dtype=torch.float64)
    return lower + unit * (upper - lower)


def search(proposal: Any = None, budget: int = 24, seed: int = 0, **options: Any) -> SearchResult:
    """By random draws, or by a proposal that goes under the name of the Gaussian-process search."""
    aim = objective(**options)
    if proposal is None:
        return lso.optimize(aim, "random", budget, seed=seed)
    return lso.optimize(aim, BlackBox("gp", aim.space, proposal, seed=seed), budget)


def noted(results: Sequence[SearchResult], folder: Path) -> None:
    """report.json without the page, whose charts take a second."""
    numbers = black_box_numbers(black_box_summary(results), {"0": dict(results[0].settings)})
    (folder / "report.json").write_text(json.dumps(numbers, allow_nan=False))


@cache
def seeds() -> tuple[SearchResult, ...]:
    """Three random searches."""
    return tuple(search(seed=seed) for seed in range(3))


def summary() -> BlackBoxSummary:
    """The numbers of these; not kept, as they may be without surrogates."""
    return black_box_summary(seeds())
