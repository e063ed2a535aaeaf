"""Ehrlich functions: the optimum is 1 and known, values are the quantized product, banned steps have none."""

import pickle
from math import prod

import numpy as np
import pytest

from lso.tasks.datasets.loading import load_dataset
from lso.tasks.problems import ehrlich
from lso.tasks.problems.ehrlich import Ehrlich, build_structure, known
from lso.tasks.training.plan import plan
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import UsageError

SIZES = (
    Ehrlich(),
    Ehrlich(words=4, length=7, motifs=1, motif_length=3, levels=2),
    Ehrlich(length=16),
    Ehrlich(words=8),
)
LONG = Ehrlich(words=20, length=128, motifs=8, motif_length=8, levels=4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("function", (*SIZES, LONG))
def test_the_constructed_solution_is_feasible_and_worth_exactly_one(function: Ehrlich, seed: int) -> None:
    sizes = {name: getattr(function, name) for name in ("words", "length", "motifs", "motif_length", "levels")}
    other = Ehrlich(**sizes, seed=seed)
    assert other([other.optimum()]) == [1.0]
    values = [value for value in other(other.sample(200, 0)) if value is not None]
    assert len(values) == 200 and max(values) <= 1


@pytest.mark.parametrize("function", (*SIZES, LONG))
def test_the_matrix_is_ergodic_with_banned_steps_and_none_to_itself(function: Ehrlich) -> None:
    p = build_structure(function).transition
    np.testing.assert_allclose(p.sum(1), 1)
    assert (np.diag(p) > 0).all() and ((p == 0).sum(1) == int(0.4 * function.words)).all()
    assert (np.linalg.matrix_power((p > 0).astype(float), function.words) > 0).all()


def test_values_are_the_product_of_quantized_shares() -> None:
    """Against the definition, written out: every place, every motif."""
    function = Ehrlich(words=6, length=24, motifs=3, motif_length=4, levels=2)
    hidden = build_structure(function)
    for text, value in zip(texts := function.sample(50, 1), function(texts), strict=True):
        x = [int(word) for word in text.split()]
        best = [
            max(
                sum(x[place + offset] == word for word, offset in zip(motif, offsets, strict=True))
                for place in range(24 - offsets[-1])
            )
            for motif, offsets in zip(hidden.motifs, hidden.offsets, strict=True)
        ]
        assert value == prod((hits * 2 // 4) / 2 for hits in best)


def test_banned_steps_other_lengths_and_strange_texts_have_no_value() -> None:
    function = Ehrlich()
    a, b = np.argwhere(build_structure(function).transition == 0)[0]
    x = function.optimum().split()
    banned = " ".join([str(a), str(b), *x[2:]])
    strange = ["", " ".join(x[:-1]), " ".join([*x, x[-1]]), " ".join(["32", *x[1:]]), " ".join(["<unk>", *x[1:]]), None]
    assert function([banned, *strange]) == [None] * 7
    assert pickle.loads(pickle.dumps(function))([function.optimum()]) == [1.0]
    assert Ehrlich(seed=1)([function.optimum()]) != [1.0]


def test_shorter_sequences_may_be_filled_up_with_their_last_word() -> None:
    strict, filled = Ehrlich(), Ehrlich(fill=True)
    x = strict.optimum().split()
    while x[-1] == x[-2]:
        x.pop()
    assert strict([" ".join(x)]) == [None] and filled([" ".join(x)]) == [1.0] and filled([strict.optimum()]) == [1.0]
    assert filled(["", "33", " ".join([*strict.optimum().split(), x[-1]])]) == [None] * 3


def test_motifs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"4 motifs of 4 words do not fit into 15"):
        Ehrlich(length=15)
    with pytest.raises(UsageError, match=r"1 <= levels <= motif_length"):
        Ehrlich(levels=5)


def test_a_search_starts_from_feasible_training_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ehrlich, "TRAINING_SEQUENCES", 300)
    config = plan({"data": {"task": "ehrlich"}})
    dataset = load_dataset(config.data, "none", 0)
    texts, values = known(50, 0, dataset)
    assert len(dataset.train) == 240 and dataset.shape == (34, 36)
    assert Ehrlich()(texts) == values and len(values) == 50 and texts != known(50, 1, dataset)[0]
    with pytest.raises(UsageError, match="reads no path"):
        ehrlich.load(DataConfig(task="ehrlich", path="x"))
