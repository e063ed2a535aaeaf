"""What scores are called, and optimizers with options in their names."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.black_box.ask_tell import make_optimizer
from lso.black_box.loop import optimize
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.function_names import display_name, plain_name, stable_name
from lso.objectives.latent_objective import LatentObjective
from lso.optimizers import merge_options
from lso.space import LatentSpace
from lso.tasks.retraining.options import RetrainingConfig
from lso.tasks.search.options import BlackBoxConfig
from lso.vae.errors import UsageError
from lso.vae.runs import Run
from tests.lso import scorers
from tests.lso.example_decoders import draws
from tests.lso.searches import objects, rows, run, tensors


class Assay:
    def score(self, words: list[str], power: int = 1) -> list[float]:
        return [value**power for value in scorers.first(words)]

    @classmethod
    def made(cls, words: list[str]) -> list[float]:
        return scorers.first(words)

    __call__ = score


HERE = r"tests/lso/objectives/test_function_names\.py, line \d+"
NAMES: list[tuple[Any, str, str]] = [
    (scorers.first, r"first", "first"),
    (lambda words: scorers.first(words), rf"lambda \({HERE}\)", "<lambda>"),
    (Assay(), r"Assay", "Assay"),
    (Assay().score, r"Assay\.score", "score"),
    (Assay.made, r"Assay\.made", "made"),
    (functools.partial(Assay().score, power=3), r"Assay\.score\(power=3\)", "partial"),
    (functools.partial(lambda k, words: words, Assay()), rf"lambda \({HERE}\)\(<[\w.]+Assay object>\)", "partial"),
]


@pytest.mark.parametrize(("score", "told", "plain"), NAMES, ids=[name[2] for name in NAMES])
def test_a_score_has_a_name_that_a_reader_knows_again(score: Any, told: str, plain: str) -> None:
    import re

    name = LatentObjective(objects().decoder, score, on="objects").name
    assert re.fullmatch(told, name) and display_name(score) == name
    assert plain_name(score) == plain == stable_name(name, score)
    assert "0x" not in name and "<lambda>" not in name


def test_a_long_name_is_cut() -> None:
    assert len(display_name(functools.partial(scorers.first, ["word"] * 1000))) < 80


def test_the_report_says_where_an_unnamed_score_stands_and_an_edit_does_not_make_it_another(tmp_path: Path) -> None:
    """Folders written before say ``<lambda>``."""
    one = objects(lambda words: scorers.first(words))
    other = objects(lambda words: scorers.first(words))  # on another line
    whole = run(one, 4, out=tmp_path / "run")
    assert "lambda (tests/lso/objectives/test_function_names.py, line" in repr(whole) and one.name != other.name
    assert Run(tmp_path / "run").info["search"]["objective"] == "<lambda>"
    again = run(other, 6, out=tmp_path / "run", resume=True)
    assert rows(again)[:4] == rows(whole)


def test_losses_of_ones_own_are_named_alike() -> None:
    decoder = Decoder(torch.sin, latent_dim=3)
    objective = LatentObjective.reconstruct(decoder, decoder(draws(1, 3)), lambda x, t: ((x - t) ** 2).sum(1))
    assert objective.name.startswith("reconstruct/lambda (tests/lso/objectives/test_function_names.py, line ")
    assert stable_name(objective.name, objective.score) == "reconstruct/<lambda>"


# --- optimizers -------------------------------------------------------------------------------------------------------


def test_options_may_stand_in_the_name_as_on_the_command_line(tmp_path: Path) -> None:
    space = LatentSpace(3)
    box = make_optimizer("turbo:guard=none,initial=7", space)
    assert box.name == "turbo" and box.settings == {"guard": None, "initial": 7}
    mixed = make_optimizer("turbo:guard=none", space, initial=7)
    assert mixed.settings == box.settings
    found = optimize(tensors(), "turbo:guard=none", 2, out=tmp_path / "run")
    assert found.optimizer == "turbo" and found.settings["options"] == {"guard": "None"}
    optimize(tensors(), "turbo", 3, guard=None, out=tmp_path / "run", resume=True)
    for config in (BlackBoxConfig, RetrainingConfig):
        told = config(optimizer="gp:guard=ball", options={"initial": 4})
        assert (told.optimizer, told.options) == ("gp", {"guard": "ball", "initial": 4})


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("turbo:guard=none", {"guard": "ball"}, "guard is given twice"),
        ("turbo:guard", {}, "cannot read 'guard'"),
        ("turbo:colour=red", {}, "has no option colour"),
        ("turboo:guard=none", {}, "Did you mean 'turbo'"),
        ("adam:lr=1", {}, "adam needs gradients"),
    ],
)
def test_wrong_options_in_the_name_are_refused(text: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_optimizer(text, LatentSpace(3), **options)


def test_with_options_leaves_plain_names_alone() -> None:
    assert merge_options("turbo", {"initial": 3}) == ("turbo", {"initial": 3})


def test_gradient_optimizers_take_options_in_the_name_too() -> None:
    quick: dict[str, Any] = {"max_steps": 5}
    told = minimize(tensors(), draws(2, 3), "sgd:momentum=0.5,lr=0.02", **quick)
    same = minimize(tensors(), draws(2, 3), "sgd", lr=0.02, options={"momentum": 0.5}, **quick)
    assert torch.equal(told.z, same.z) and told.optimizer == "sgd"
    among = minimize(tensors(), draws(2, 3), "sgd", options={"momentum": 0.5, "lr": 0.02}, **quick)
    assert torch.equal(among.z, same.z)  # it was left for the default
    with pytest.raises(UsageError, match="learning rate is given twice"):
        minimize(tensors(), draws(2, 3), "sgd:lr=0.1", lr=0.2)
