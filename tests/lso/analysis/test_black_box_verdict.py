"""Whether a black-box search found more than draws would have."""

import pytest
import torch
from torch import Tensor

import lso
from lso.analysis.black_box_summary import black_box_summary
from lso.analysis.black_box_verdict import median_best_of_draws
from lso.black_box.ask_tell import BlackBox, History, Proposal
from lso.black_box.result import SearchResult
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from tests.lso.black_box_cases import objective, unfitted

__all__ = ["unfitted"]
DESIGN, BUDGET = 10, 40


def level_of(results: list[SearchResult], best_possible: float | None = None) -> tuple[str, str]:
    found = black_box_summary(results, best_possible=best_possible)
    check = found.verdict.check("drawing")
    return check.level, check.found


def after_design(toward: float) -> Proposal:
    """Prior draws, then steps from the best (1) or from the worst (-1) so far."""

    def propose(history: History, n: int, seed: int) -> Tensor:
        stream = torch.Generator().manual_seed(seed % 2**31)
        step = torch.randn(n, history.space.dim, generator=stream, dtype=torch.float64)
        if len(history.z) < DESIGN:
            return step
        return history.space.clip(history.z[int((toward * history.gain).argmax())] + 0.3 * step)

    return propose


def searched(toward: float, maximize: bool = True) -> list[SearchResult]:
    def score(x: Tensor) -> Tensor:
        value = -(x - 0.3).square().flatten(1).sum(1)
        return value if maximize else -value

    aim = LatentObjective(objective().decoder, score, space=LatentSpace(4), maximize=maximize)
    boxes = (BlackBox("mine", aim.space, after_design(toward), seed=seed, maximize=maximize) for seed in range(3))
    return [lso.optimize(aim, box, BUDGET, batch=5) for box in boxes]


@pytest.mark.parametrize("count", [1, 5, 40])
def test_best_of_so_many_draws_is_the_median_of_their_bests(count: int) -> None:
    pool = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.randint(2000, (4000, count), generator=torch.Generator().manual_seed(1))
    bests = pool[rows].min(1).values
    assert 0.45 < float((bests <= median_best_of_draws(pool, count)).double().mean()) < 0.55
    assert median_best_of_draws(pool[:30], 10**6) == float(pool[:30].min())


@pytest.mark.usefixtures("unfitted")
@pytest.mark.parametrize("maximize", [True, False])
def test_a_search_for_the_worst_is_not_believed_and_one_for_the_best_is(maximize: bool) -> None:
    level, found = level_of(searched(1.0, maximize))
    assert level == "fine" and not found.startswith(("0", "1"))
    level, found = level_of(searched(-1.0, maximize))
    assert level == "doubt" and "searches found better values than as many draws" in found


@pytest.mark.usefixtures("unfitted")
def test_random_search_is_never_praised() -> None:
    results = [lso.optimize(objective(), "random", 20, seed=seed) for seed in range(3)]
    assert level_of(results) == ("care", "random search draws and learns nothing: a control")


@pytest.mark.usefixtures("unfitted")
def test_who_found_the_best_attainable_value_needs_no_more_than_draws() -> None:
    results = searched(-1.0)
    best = max(result.best_value for result in results)
    assert level_of(results, best_possible=best) == ("fine", "the best attainable value was found")


@pytest.mark.usefixtures("unfitted")
def test_too_few_draws_are_not_judged_by() -> None:
    aim = objective()
    box = BlackBox("mine", aim.space, after_design(1.0), settings={"initial": 3})
    known = aim.space.sample(3, generator=torch.Generator().manual_seed(0))
    result = lso.optimize(aim, box, 12, batch=4, known=(known, aim(known)))
    assert level_of([result])[0] == "fine"
