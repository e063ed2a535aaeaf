from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.black_box.ask_tell import UNASKED, BlackBox, History, make_optimizer
from lso.space import LatentSpace
from lso.vae.errors import ShapeError, UsageError
from tests.lso.example_decoders import draws
from tests.lso.searches import climb

SPACE = LatentSpace(2)


def climber(maximize: bool = True) -> BlackBox:
    return BlackBox("climb", SPACE, climb, seed=3, maximize=maximize)


def replayed(box: BlackBox) -> BlackBox:
    """A fresh optimizer with the same record: told and pending points, in that order."""
    other = climber(box.maximize)
    history = box.history()
    asked = {number: [] for number in range(box.asks)}  # type: ignore[var-annotated]
    for z, number in zip(history.z, history.ask.tolist(), strict=True):
        if number != UNASKED:
            asked[number].append(z)
    waiting = [z for z in history.pending if not any(torch.equal(z, done) for done in history.z)]
    asked[box.asks - 1] += waiting
    for number in range(box.asks):
        other.register_ask(torch.stack(asked[number]))
    other.tell(history.z, history.gain if box.maximize else -history.gain)
    return other


@pytest.mark.parametrize("maximize", [True, False])
def test_ask_depends_on_the_record_alone(maximize: bool) -> None:
    """Told in any order, partly; a fresh optimizer with that record asks the same, and again the same."""
    box = climber(maximize)
    z = box.ask(3)
    box.tell(z[[2, 0]], [0.5, None])
    box.tell(z[1:2], 0.25)
    last = box.ask(2)
    box.tell(last[1], -1.0)
    other = replayed(box)
    torch.rand(7)  # no draw from the global generator has a part in it
    assert torch.equal(other.pending, box.pending) and torch.equal(other.history().z, box.history().z)
    assert torch.equal(other.ask(3), box.ask(3))


def test_proposal_sees_what_was_told_in_the_sense_of_gain() -> None:
    seen: list[History] = []

    def propose(history: History, n: int, seed: int) -> Tensor:
        seen.append(history)
        return torch.full((n, 2), float(seed % 7))

    box = BlackBox("seen", SPACE, propose, maximize=False)
    first = box.ask(2)
    box.tell(draws(1, 2), [3.0])
    box.tell(first[:1], [-4.0])
    box.ask()
    history = seen[1]
    assert history.gain.tolist() == [-3.0, 4.0] and history.ask.tolist() == [UNASKED, 0]
    assert history.number == 1 and len(history.pending) == 1 and history.best() == 1
    assert box.best() is not None and box.best()[1] == -4.0  # type: ignore[index]


def test_every_outcome_settles_a_pending_point() -> None:
    box = climber()
    z = box.ask(5)
    outcomes = ["evaluated", "invalid", "failed", "timed_out", "lost"]
    box.tell(z, [1.0, 2.0, 3.0, None, float("inf")], outcomes)
    history = box.history()
    assert len(box.pending) == 0 and len(history.z) == 4  # nothing is known of a lost one
    assert history.feasible.tolist() == [True, False, False, False]


def test_point_asked_twice_is_pending_twice() -> None:
    box = BlackBox("same", SPACE, lambda history, n, seed: torch.zeros(n, 2, dtype=torch.float64))
    box.ask(2)
    box.ask(1)
    assert len(box.pending) == 3
    box.tell(torch.zeros(2, 2, dtype=torch.float64), [1.0, 1.0])
    assert len(box.pending) == 1 and box.history().ask.tolist() == [0, 0]
    box.tell(torch.zeros(2, 2, dtype=torch.float64), [1.0, 1.0])
    assert len(box.pending) == 0 and box.history().ask.tolist() == [0, 0, 1, UNASKED]


@pytest.mark.parametrize(
    "value", [1.0, 1, np.float64(1), torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float32), [1.0], [True]]
)
def test_values_of_many_kinds_are_told(value: object) -> None:
    box = climber()
    box.tell(draws(1, 2)[0], value)  # type: ignore[arg-type]
    assert box.history().gain.tolist() == [1.0]


@pytest.mark.parametrize("value", [None, [None], float("nan"), [float("-inf")]])
def test_no_value_is_an_infeasible_point(value: object) -> None:
    box = climber()
    box.tell(draws(1, 2), value)  # type: ignore[arg-type]
    assert box.history().feasible.tolist() == [False] and box.best() is None


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    box = climber()
    z = box.ask(2)
    for codes in (draws(2, 3), draws(2, 2, 2), z.clone().fill_(float("nan"))):
        with pytest.raises(ShapeError, match="codes"):
            box.tell(codes, [1.0, 2.0])
    with pytest.raises(ShapeError, match="got 2 codes, 3 values and 2 outcomes"):
        box.tell(z, [1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="got 2 codes, 2 values and 1 outcomes"):
        box.tell(z, [1.0, 2.0], ["lost"])
    with pytest.raises(UsageError, match="unknown outcome"):
        box.tell(z, [1.0, 2.0], "broken")
    assert len(box.pending) == 2 and len(box.history().z) == 0
    with pytest.raises(UsageError, match="n >= 1"):
        box.ask(0)


def test_proposal_that_is_no_code_is_refused() -> None:
    box = BlackBox("bad", SPACE, lambda history, n, seed: torch.full((n, 2), torch.nan))
    with pytest.raises(ShapeError, match="2 coordinates that are NaN or infinite"):
        box.ask()
    assert box.asks == 0


def test_history_of_an_ask_stays_as_it_was() -> None:
    box = climber()
    box.tell(draws(5, 2), [1.0] * 5)
    before = box.history()
    copy = before.z.clone()
    box.tell(draws(100, 2, seed=5), [2.0] * 100)
    assert torch.equal(before.z, copy) and len(box.history().z) == 105


def test_names_and_options_that_are_unknown_are_named() -> None:
    with pytest.raises(UsageError, match="random has no option nonsense") as error:
        make_optimizer("random", SPACE, nonsense=1)
    assert "It takes kind" in error.value.hint
    with pytest.raises(UsageError, match="unknown black-box optimizer 'randm'") as error:
        make_optimizer("randm", SPACE)
    assert "Did you mean 'random'?" in error.value.hint


@pytest.mark.parametrize(
    ("name", "options"),
    [("gp", {"initial": "ten"}), ("saas", {"guard": 3}), ("gp", {"joint": "yes"}), ("turbo", {"local": 2.5})],
)
def test_options_of_another_type_are_refused_by_name(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        make_optimizer(name, LatentSpace(3), **options)
    make_optimizer(name, LatentSpace(3), guard=None, guard_weight=1)  # a whole number is a number


def test_control_keeps_to_the_chart_as_others_do() -> None:
    space = LatentSpace(3, active=torch.tensor([True, False, True]), chart="active")
    z = make_optimizer("random", space).ask(5)
    assert bool((z[:, 1] == 0).all()) and bool(z[:, [0, 2]].all())
