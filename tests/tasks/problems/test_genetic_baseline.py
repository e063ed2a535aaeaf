"""The genetic baseline: it counts as searches over latents count, improves, and is a function of its seed."""

from collections.abc import Sequence

import pytest

from lso.tasks.problems.ehrlich import Ehrlich
from lso.tasks.problems.genetic_baseline import Found, GeneticSettings, genetic_search
from lso.vae.errors import UsageError

TEXTS = ["a b c d", "b b c c", "d c b a", "a a a a"]


def count_a(texts: Sequence[str]) -> list[float | None]:
    """How many a; what has two b side by side is invalid."""
    return [None if "b b" in text else float(text.split().count("a")) for text in texts]


def valid(found: Found) -> list[float]:
    return [value for _, value in found if value is not None]


def test_the_budget_is_of_distinct_valid_sequences_and_known_ones_are_free() -> None:
    asked: list[str] = []

    def watched(texts: Sequence[str]) -> list[float | None]:
        asked.extend(texts)
        return count_a(texts)

    found = genetic_search(watched, (TEXTS, [1.0, 0.0, 1.0, 4.0]), 60, settings=GeneticSettings(mutations=2.0))
    assert [text for text, _ in found] == asked and len(set(asked)) == len(asked)
    assert not set(asked) & set(TEXTS) and len(valid(found)) == 60 < len(found)
    assert [value for _, value in found] == count_a(asked)


@pytest.mark.parametrize("maximize", [True, False])
def test_it_improves_in_the_sense_of_the_score_and_keeps_to_the_length(maximize: bool) -> None:
    sign = 1 if maximize else -1
    start = ["b c d e f g a h", "h g f e d c b a"]
    found = genetic_search(
        lambda texts: [sign * text.split().count("a") for text in texts], (start, [sign] * 2), 300, maximize=maximize
    )
    assert max(sign * value for value in valid(found)) >= 6
    assert {len(text.split()) for text, _ in found} == {8}


def test_other_lengths_come_from_starts_of_several() -> None:
    found = genetic_search(count_a, (["a b", "a c d"], [1.0, 1.0]), 100)
    assert len({len(text.split()) for text, _ in found}) > 3 and max(valid(found)) > 4


def test_a_seed_gives_the_same_search_and_another_one_another() -> None:
    start = (["a b c d", "d c b a"], [1.0, 1.0])
    assert (
        genetic_search(count_a, start, 30, 1)
        == genetic_search(count_a, start, 30, 1)
        != genetic_search(count_a, start, 30, 2)
    )


def test_it_ends_where_nothing_is_valid_or_new() -> None:
    assert len(genetic_search(lambda texts: [None] * len(texts), (TEXTS, [0.0] * 4), 5)) == 50
    found = genetic_search(count_a, (["a b", "b a"], [1.0, 1.0]), 100)
    assert len(found) == 2  # of the four there are, b b being invalid
    with pytest.raises(UsageError, match="1 sequences and 1 values"):
        genetic_search(count_a, (["a"], [1.0]), 5)


def test_it_solves_a_small_ehrlich_function() -> None:
    function = Ehrlich(words=8, length=16, motifs=2)
    texts = function.sample(50, 0)
    values = [value for value in function(texts) if value is not None]
    found = genetic_search(function, (texts, values), 1000)
    assert max(valid(found)) == 1 > max(values)
