"""Expressions: scores are the published ones, the worse half is kept, a search may start from its own data."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lso.tasks.datasets.line_reader import read_text_lines
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.problems import expressions
from lso.tasks.problems.expression_grammar import parse
from lso.tasks.problems.expressions import FILE_STEM, TARGET, known, load, score
from lso.tasks.training.plan import plan
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError

FILE = "expr/equation2_15_dataset.txt.gz"


@pytest.fixture
def small(tmp_path: Path) -> DataConfig:
    """64 lines: for each c in 1, 2, 3 and k to 21, c + x ... + x; those of k >= 7 reach the cap."""
    lines = [" + ".join([c, *["x"] * k]) for c in "123" for k in range(1, 22)] + [TARGET]
    (tmp_path / "equation2_15_dataset.txt").write_text("\n".join(lines) + "\n")
    return DataConfig(task="expressions", path=str(tmp_path))


def test_scores_are_the_published_ones(data_path: Callable[[str], Path]) -> None:
    rows = np.random.RandomState(0).permutation(100_000)[:2000]
    lines = np.array(list(read_text_lines(data_path(FILE)).texts))[rows].tolist()
    with np.load(data_path("expr/scores.npz")) as file:
        published = file["scores"][rows]
    np.testing.assert_allclose(np.array(score(lines), dtype=float), published, rtol=0, atol=1e-12)


def test_the_target_is_perfect_overflow_the_worst_and_what_has_no_value_invalid() -> None:
    assert score([TARGET, "1/3+x+sin(x*x)", "exp( exp( exp( x ) ) )"]) == [0.0, 0.0, 7.0]
    assert score(["x + ", "", "sin( exp( exp( exp( x ) ) ) )", None, 3.0, "(" * 9999]) == [None] * 6
    assert pickle.loads(pickle.dumps(score)) is score


@pytest.mark.slow
def test_all_scores_are_the_published_ones(data_path: Callable[[str], Path]) -> None:
    with np.load(data_path("expr/scores.npz")) as file:
        published = file["scores"]
    found = np.array(score(list(read_text_lines(data_path(FILE)).texts)), dtype=float)
    np.testing.assert_allclose(found, published, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_the_published_file_gives_its_worse_half(data_path: Callable[[str], Path]) -> None:
    texts = load(DataConfig(task="expressions", path=str(data_path(FILE).parent)))
    kept = texts.parts["all"].texts
    assert len(kept) == 50_111 and TARGET not in kept and texts.provenance["exact"]
    assert "4.7364" in texts.provenance["notes"][-1]


def test_other_files_are_taken_for_others(small: DataConfig) -> None:
    texts = load(small)
    kept = texts.parts["all"].texts
    assert kept == [
        line for line in read_text_lines(Path(small.path) / f"{FILE_STEM}.txt").texts if line.count("x") >= 7
    ]
    assert not texts.provenance["exact"]
    assert "NOT the published" in texts.provenance["notes"][0]
    file = Path(small.path) / "equation2_15_dataset.txt"
    file.write_text("x\nx + y\n")
    assert load(small).parts["all"].texts == ["x"] and "Left out: 1 lines" in load(small).provenance["notes"][-1]
    file.write_text("a sentence\n")
    with pytest.raises(DataError, match="holds no expressions"):
        load(small)


def test_without_the_file_expressions_are_drawn_from_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> Path:
        raise DataError("no connection", "Get one.")

    monkeypatch.setattr(expressions, "fetch", nothing)
    monkeypatch.setattr(expressions, "EXPRESSIONS", 500)
    texts, again = load(DataConfig(task="expressions")), load(DataConfig(task="expressions"))
    assert texts.parts["all"].texts == again.parts["all"].texts and len(texts.parts["all"].texts) >= 250
    assert all(parse(text) is not None for text in texts.parts["all"].texts)
    assert texts.provenance["source"] == "generated" and "NOT the published" in texts.provenance["notes"][0]


def test_a_search_starts_from_training_data_a_fifth_of_them_the_best(small: DataConfig) -> None:
    config = plan({"data": {"task": "expressions", "path": small.path}})
    dataset = load_dataset(config.data, "none", 0)
    texts, values = known(10, 0, dataset)
    all_texts, all_values = known(100, 0, dataset)
    assert len(texts) == 10 and values == score(texts) and len(all_texts) == len(dataset.train)
    assert sorted(values[:2]) == sorted(all_values)[:2] and texts != known(10, 1, dataset)[0]
