"""Arithmetic expressions: what is of the grammar, what it is worth, and uniform draws of them."""

from collections import Counter

import numpy as np
import pytest

from lso.tasks.problems.expression_grammar import WORDS, Evaluator, count_expressions, draw_expressions, parse
from lso.vae.errors import UsageError

POINTS = np.array([-2.0, 0.5, 3.0])
evaluate = Evaluator(POINTS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", POINTS),
        ("1 + 2 * x", 1 + 2 * POINTS),
        ("( 1 + 2 ) * x", 3 * POINTS),
        ("1 / 2 / x", 0.5 / POINTS),
        ("3 / ( 2 / x )", 3 / (2 / POINTS)),
        ("sin( exp( x ) + 1 )", np.sin(np.exp(POINTS) + 1)),
        ("sin((x*x))/3", np.sin(POINTS * POINTS) / 3),
        ("2 * 3 / 3", 2.0),
    ],
)
def test_values_follow_the_usual_precedence(text: str, value: object) -> None:
    np.testing.assert_array_equal(evaluate(parse(text)), value)


STRANGE = ("<unk>", "x; import os", "__import__('os')", "\0", "\u0661", "x**2", "12", "4", "cos( x )")
TORN = ("", " ", "x x", "x +", "+ x", "- x", "( x", "x )", "()", "sin", "sin x", "sin ( )", "sin x ( x )")
HUGE = ("(" * 100_000, "(" * 60 + "x" + ")" * 60, "x+" * 400 + "x")


@pytest.mark.parametrize("text", (*STRANGE, *TORN, *HUGE))
def test_what_is_not_of_the_grammar_is_unreadable_and_never_raises(text: str) -> None:
    assert parse(text) is None


def test_overflow_is_infinite_and_undefined_is_nan_without_a_warning() -> None:
    assert evaluate(parse("exp( exp( exp( 3 ) ) )")) == np.inf
    assert np.isnan(evaluate(parse("sin( exp( exp( exp( 3 ) ) ) )")))


def test_small_expressions_are_counted_as_written_out() -> None:
    """Two productions: the four leaves. Four: three brackets around a leaf, and 4 x 3 x 4 of two leaves."""
    assert [count_expressions("S", size) for size in (1, 2, 3, 4)] == [0, 4, 0, 3 * 4 + 4 * 3 * 4]


def test_draws_are_distinct_and_readable() -> None:
    found = draw_expressions(400, 6, np.random.RandomState(0))
    assert len(set(found)) == 400 and all(parse(text) is not None for text in found)
    assert {token for text in found for token in text.split()} == set(WORDS)
    with pytest.raises(UsageError, match=r"600 distinct expressions of 1,108"):
        draw_expressions(600, 6, np.random.RandomState(0))


def test_draws_are_uniform() -> None:
    """3,200 draws of the 64 expressions of at most four productions: chi squared of 63 degrees, 0.001 quantile."""
    stream = np.random.RandomState(0)
    counts = Counter(draw_expressions(1, 4, stream)[0] for _ in range(3200))
    assert len(counts) == 64 and sum((seen - 50) ** 2 / 50 for seen in counts.values()) < 103.4
