"""Training data scored by what carries out the calls of a search."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.calling import Away, Caller
from lso.failures import ScoreError
from lso.tasks.labelling import GIVEN_UP, Cut, labelled
from lso.vae.corpus import Corpus
from lso.vae.data import take
from lso.vae.errors import UsageError
from lso.vae.vocabulary import END, SPECIALS, START, Vocabulary
from lso.workers import Workers
from tests.lso.scorers import hanging
from tests.vae.small import digits, sentences

TEXTS = [sentences().vocabulary.text(row) for row in take(sentences().train, slice(0, 60)).tolist()]  # type: ignore[union-attr]


def length(texts: Sequence[str]) -> list[float | None]:
    """Letters; none of a text with an h."""
    return [None if "h" in text else float(len(text)) for text in texts]


def late(texts: Sequence[str]) -> list[float | None]:
    """`length`, the earlier the datum the later its value."""
    time.sleep(0.02 if texts[0] == TEXTS[0] else 0)
    return length(texts)


def broken(texts: Sequence[str]) -> list[float | None]:
    raise OSError("no licence")


def threads(score: Callable[..., Any]) -> Callable[[], Caller]:
    return lambda: Away(score, "objects", lambda: ThreadPoolExecutor(4))


def scored(path: Path, caller: Callable[[], Caller], count: int = 60, **options: Any) -> torch.Tensor:
    x = sentences().train[slice(0, count)]
    return labelled(path, x, caller, "objects", sentences().vocabulary, **options).value.nan_to_num(-1)


def truth(count: int = 60) -> torch.Tensor:
    return torch.tensor([-1 if value is None else value for value in length(TEXTS[:count])], dtype=torch.float64)


def test_values_are_in_the_order_of_the_data_and_read_back(tmp_path: Path) -> None:
    def never() -> Caller:
        pytest.fail("scored again")

    assert torch.equal(scored(tmp_path / "d", threads(late), at_once=3), truth())
    assert torch.equal(scored(tmp_path / "d", never), truth())


def test_cut_it_keeps_what_was_scored_and_goes_on(tmp_path: Path) -> None:
    asked: list[str] = []

    def counting(texts: Sequence[str]) -> list[float | None]:
        asked.extend(texts)
        return length(texts)

    def stop(done: int, total: int) -> str | None:
        return "time limit" if done == 25 else None

    with pytest.raises(Cut, match="time limit after 25 of 60 training data"):
        scored(tmp_path / "d", threads(counting), at_once=1, tell=stop)
    assert torch.equal(scored(tmp_path / "d", threads(counting), at_once=1), truth())
    assert len(asked) <= 61 and [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_call_that_hangs_is_killed_and_gives_no_value(tmp_path: Path) -> None:
    numbers, first = Vocabulary.of(("3", "-1")), len(SPECIALS)
    x = Corpus.of([[START, first + (i == 1), END] for i in range(4)])
    found = labelled(
        tmp_path / "d", x, lambda: Away(hanging, "objects", lambda: Workers(2, 0.5)), "objects", numbers, at_once=2
    )
    assert found.value.nan_to_num(7).tolist() == [3, 7, 3, 3]


def test_a_score_that_only_fails_is_given_up(tmp_path: Path) -> None:
    seen: list[str] = []

    def counted(texts: Sequence[str]) -> list[float | None]:
        seen.extend(texts)
        return broken(texts)

    with pytest.raises(ScoreError, match=r"on 8 training objects in a row .* OSError: no licence .*, in broken"):
        scored(tmp_path / "d", threads(counted), at_once=2)
    assert len(seen) <= 10
    with pytest.raises(UsageError, match=f"failed on the first {GIVEN_UP} training data: OSError: no licence"):
        scored(tmp_path / "d", threads(broken), max_failures=100)
    with pytest.raises(UsageError, match="failed on the first 3"):
        scored(tmp_path / "d", threads(broken), 3)


def test_pictures_are_scored_as_tensors_or_arrays(tmp_path: Path) -> None:
    x = take(digits().train, slice(0, 9))
    caller = {
        "tensors": lambda batch: batch.flatten(1).sum(1),
        "objects": lambda arrays: [float(array.sum()) for array in arrays],
    }
    for on, score in caller.items():

        def away(score: Callable[..., Any] = score, on: str = on) -> Caller:
            return Away(score, on, lambda: ThreadPoolExecutor(1))

        found = labelled(tmp_path / on, x, away, on)
        assert torch.allclose(found.value, x.flatten(1).sum(1).double())
