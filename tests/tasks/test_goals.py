"""Goals by name: a task's own, and functions of the user's."""

from pathlib import Path

import pytest
import torch

from lso.decoders.decoder import Decoder
from lso.tasks.goals import Goal, SearchTarget, goal_from_function, task_goal
from lso.tasks.search.initial_data import goal_objective, known_codes
from lso.tasks.task import TASKS
from lso.vae.errors import UsageError
from lso.vae.runs import Run


def write(text: str) -> None:
    Path("my_scores.py").write_text(text)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_task_with_a_goal_names_a_function_of_the_run() -> None:
    import importlib
    import inspect

    having = {name: row.goal for name, row in TASKS.items() if row.goal}
    assert {"expressions", "squares", "ehrlich", "digits-preference", "molecules"} <= having.keys()
    for goal in having.values():
        module, _, function = goal.partition(":")
        inspect.signature(getattr(importlib.import_module(module), function)).bind(None)


def test_a_task_without_a_goal_or_of_another_kind_is_refused_with_what_to_do(trained: Run) -> None:
    with pytest.raises(UsageError, match="nothing to optimize but reconstruction") as caught:
        task_goal("mnist", trained)
    assert "expressions" in caught.value.hint
    with pytest.raises(UsageError, match="is about sequences"):
        task_goal("expressions", trained)


def test_a_goal_of_a_task_may_be_chosen_after_a_colon(trained: Run) -> None:
    assert task_goal("digits-preference", trained).maximize
    with pytest.raises(UsageError, match="unknown goal"):
        task_goal("digits-preference:nothing", trained)


def test_a_function_of_ones_own_says_its_sense_or_is_told() -> None:
    write("def ink(xs):\n    return [float(x.sum()) for x in xs]\n")
    with pytest.raises(UsageError, match="more is better"):
        goal_from_function("my_scores:ink", None)
    goal = goal_from_function("my_scores:ink", maximize=True)
    assert goal.maximize and goal.on == "objects" and goal.score([torch.ones(3).numpy()]) == [3.0]


def test_a_functions_own_attributes_are_taken() -> None:
    write("def ink(x):\n    return x.flatten(1).sum(1)\nink.maximize, ink.on = False, 'tensors'\n")
    goal = goal_from_function("my_scores:ink", None)
    assert not goal.maximize and goal.on == "tensors"


@pytest.mark.parametrize("text", ["def ink():\n    return []\n", "ink = 3\n", "import nothing_of_that_name\n"])
def test_what_cannot_score_is_refused(text: str) -> None:
    write(text)
    with pytest.raises(UsageError, match="objective"):
        goal_from_function("my_scores:ink", maximize=True)


def test_exactly_one_thing_is_sought() -> None:
    with pytest.raises(UsageError, match="got none"):
        SearchTarget()
    with pytest.raises(UsageError, match="task and target"):
        SearchTarget(task="squares", target="images/")


def test_known_data_come_with_the_codes_of_their_encoder(trained: Run) -> None:
    images = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    goal = Goal(
        name="ink",
        score=lambda xs: [float(x.sum()) for x in xs],
        maximize=True,
        known=lambda count, seed: (images[:count], [float(x.sum()) for x in images[:count]]),
    )
    decoder = Decoder(trained.model())
    z, value = known_codes(trained, goal, decoder, 5, seed=0)
    means = decoder.code_means(images[:5])
    assert means is not None
    torch.testing.assert_close(z.float(), means)
    assert value == pytest.approx([float(x.sum()) for x in images[:5]])
    objective = goal_objective(goal, decoder)
    assert objective.name == "ink" and objective.maximize


def test_known_data_of_a_goal_that_knows_none_are_refused(trained: Run) -> None:
    goal = Goal(name="ink", score=len, maximize=True)
    with pytest.raises(UsageError, match="there are no data with known values"):
        known_codes(trained, goal, Decoder(trained.model()), 5, seed=0)
