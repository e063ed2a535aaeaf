import re

import pytest
import torch

from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Result, status_of
from tests.lso.example_decoders import draws, planted, reconstruction


@pytest.mark.parametrize(
    ("reasons", "interrupted", "status"),
    [
        (["tolerance"] * 2, None, "converged"),
        (["tolerance", "line_search"], None, "converged"),
        (["max_steps"] * 2, None, "max_steps"),
        (["not_finite"] * 2, None, "failed"),
        (["tolerance", "max_steps"], None, "mixed"),
        (["tolerance", "stopped"], "time is up", "stopped"),
    ],
)
def test_the_status_sums_up_the_reasons(reasons: list[str], interrupted: str | None, status: str) -> None:
    found, sentence = status_of(reasons, interrupted)
    assert found == status and "Of 2 searches" in sentence and (interrupted or "") in sentence


def searched(maximize: bool = False) -> Result:
    objective = LatentObjective(planted(), lambda x: x.flatten(1).square().sum(1), maximize=maximize)
    return minimize(objective, draws(5, 4), max_steps=3)


@pytest.mark.parametrize("maximize", [False, True])
def test_best_is_the_best_in_the_objectives_sense(maximize: bool) -> None:
    result = searched(maximize)
    order = result.value[0].argsort(descending=maximize)
    assert int(result.best) == int(order[0])
    assert torch.equal(result.best_z[0], result.z[0, order[0]]) and float(result.best_value) == float(
        result.value[0, order[0]]
    )


def test_a_result_of_targets_has_a_row_for_each() -> None:
    result = minimize(reconstruction(3), draws(3, 2, 4), max_steps=3, start_names=["mean", "prior"])
    assert result.best.shape == result.best_typical.shape == result.best_value.shape == (3,)
    assert result.best_z.shape == (3, 4) and result.start_names == ["mean", "prior"]
    assert [len(row) for row in result.stopped] == [2, 2, 2] and len(result.evaluations()) == 6


def test_a_result_says_in_one_line_what_it_is() -> None:
    name = r"lambda \((.*/)?test_result\.py, line \d+\)"
    found = rf"Result\({name}, adam, 1 x 5 searches in 4 dimensions, max_steps: Of 5 searches .*\)"
    assert re.fullmatch(found, repr(searched()))
