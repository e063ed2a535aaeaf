"""Training data scored by what carries out the calls of a search."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.black_box.executors import FuturesExecutor, ScoreExecutor, SerialExecutor
from lso.black_box.runner import SearchCallback
from lso.black_box.workers import Workers
from lso.decoders.decoder import Decoder
from lso.objectives.failures import ScoreError
from lso.objectives.latent_objective import LatentObjective
from lso.tasks.retraining.labelled_data import LabelledData, save_labelled
from lso.tasks.retraining.labelling import MAX_INITIAL_FAILURES, LabellingStopped, label_data
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import take_batch
from lso.vae.errors import RunError
from lso.vae.vocabulary import END, SPECIALS, START, Vocabulary
from tests.lso.scorers import hanging
from tests.vae.small import digits, sentences

TEXTS = [sentences().vocabulary.text(row) for row in take_batch(sentences().train, slice(0, 60)).tolist()]  # type: ignore[union-attr]


def length(texts: Sequence[str]) -> list[float | None]:
    """Letters; none of a text with an h."""
    return [None if "h" in text else float(len(text)) for text in texts]


def late(texts: Sequence[str]) -> list[float | None]:
    """`length`, the earlier the datum the later its value."""
    time.sleep(0.02 if texts[0] == TEXTS[0] else 0)
    return length(texts)


def broken(texts: Sequence[str]) -> list[float | None]:
    raise OSError("no licence")


def threads(score: Callable[..., Any]) -> Callable[[], ScoreExecutor]:
    return lambda: FuturesExecutor(score, "objects", lambda: ThreadPoolExecutor(4))


def scored(path: Path, caller: Callable[[], ScoreExecutor], count: int = 60, **options: Any) -> torch.Tensor:
    x = sentences().train[slice(0, count)]
    return label_data(path, x, caller, "objects", sentences().vocabulary, **options).value.nan_to_num(-1)


def truth(count: int = 60) -> torch.Tensor:
    return torch.tensor([-1 if value is None else value for value in length(TEXTS[:count])], dtype=torch.float64)


def test_values_are_in_the_order_of_the_data_and_read_back(tmp_path: Path) -> None:
    def never() -> ScoreExecutor:
        pytest.fail("scored again")

    assert torch.equal(scored(tmp_path / "d", threads(late), at_once=3), truth())
    assert torch.equal(scored(tmp_path / "d", never), truth())


class Killed(BaseException):
    """Stands for a process that ends without a word."""


class Told(SearchCallback):
    """What is said of calls."""

    def __init__(self) -> None:
        self.again: list[int] = []
        self.awaited: list[int] = []

    def repeated(self, calls: int) -> None:
        self.again.append(calls)

    def finishing(self, calls: int) -> None:
        self.awaited.append(calls)


def counting(asked: list[str], die: int = 0) -> Callable[[Sequence[str]], list[float | None]]:
    """`length`, each text written down; the process dies in the call of that number."""

    def score(texts: Sequence[str]) -> list[float | None]:
        asked.extend(texts)
        if die and len(asked) >= die:
            raise Killed
        return length(texts)

    return score


def at_25(done: int, total: int) -> str | None:
    return "time limit" if done == 25 else None


def here(score: Callable[..., Any]) -> Callable[[], ScoreExecutor]:
    return lambda: SerialExecutor(
        LatentObjective(Decoder(lambda z: z, latent_dim=1), score, on="objects", maximize=True)
    )


@pytest.mark.parametrize("die", [1, 2, 27, 60])
def test_killed_in_any_call_no_value_that_was_told_is_asked_for_again(tmp_path: Path, die: int) -> None:
    asked: list[str] = []
    told = Told()
    with pytest.raises(Killed):
        scored(tmp_path / "d", here(counting(asked, die)), at_once=1)
    assert torch.equal(scored(tmp_path / "d", here(counting(asked)), at_once=1, callback=told), truth())
    assert len(asked) == 60 + 1 and told.again == [1] * (die > 1)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_cut_it_waits_for_the_calls_that_have_begun_and_keeps_them(tmp_path: Path) -> None:
    asked: list[str] = []
    told = Told()
    gate = threading.Event()

    def held(texts: Sequence[str]) -> list[float | None]:
        asked.extend(texts)
        if len(asked) > 25:  # under way when it is cut
            gate.wait(10)
        return length(texts)

    def stop(done: int, total: int) -> str | None:
        threading.Timer(0.2, gate.set).start()
        return at_25(done, total)

    with pytest.raises(LabellingStopped, match=r"time limit after 2[6-9] of 60 training data"):
        scored(tmp_path / "d", threads(held), at_once=8, tell=stop, callback=told)
    assert told.awaited == [len(asked) - 25] and told.awaited[0] > 0
    assert torch.equal(scored(tmp_path / "d", threads(counting(asked)), at_once=8, callback=told), truth())
    assert len(asked) == 60 and told.again == []


def test_tensors_are_scored_again_in_the_company_in_which_they_were(tmp_path: Path) -> None:
    """Killed between two values of one batch, as last digits depend on its size."""
    x, sizes = take_batch(digits().train, slice(0, 11)), []

    def uneven(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch.flatten(1).sum(1) + 1e-5 * len(batch)

    objective = LatentObjective(Decoder(lambda z: z, latent_dim=1), uneven, maximize=True)
    whole = label_data(tmp_path / "whole", x, lambda: SerialExecutor(objective, 4), "tensors", at_once=4)

    def die(done: int, total: int) -> str | None:
        raise Killed

    with pytest.raises(Killed):
        label_data(tmp_path / "d", x, lambda: SerialExecutor(objective, 4), "tensors", at_once=4, tell=die)
    lines = (tmp_path / "d.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "d.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:9])  # within the third value
    again = label_data(tmp_path / "d", x, lambda: SerialExecutor(objective, 4), "tensors", at_once=4)
    assert torch.equal(again.value, whole.value) and sizes == [4, 4, 3, 4, 4, 4, 3]


def test_values_that_an_earlier_version_kept_are_taken(tmp_path: Path) -> None:
    asked: list[str] = []
    x = sentences().train[slice(0, 60)]
    save_labelled(LabelledData(x=x[slice(0, 40)], value=truth(40)), tmp_path / "d.part")
    assert torch.equal(scored(tmp_path / "d", here(counting(asked))), truth())
    assert len(asked) == 20 and [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_score_that_was_mended_is_asked_anew(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="failed on 8 training objects"):
        scored(tmp_path / "d", here(broken), at_once=1)
    assert torch.equal(scored(tmp_path / "d", here(length), at_once=1), truth())


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    row = {"datum": 0, "value": 1.0, "outcome": "evaluated", "reason": "", "fault": ""}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + '\n{"datum": "x"}\n')
    with pytest.raises(RunError, match="line 2 is damaged"):
        scored(tmp_path / "d", here(length))


def test_a_call_that_hangs_is_killed_and_gives_no_value(tmp_path: Path) -> None:
    numbers, first = Vocabulary.of(("3", "-1")), len(SPECIALS)
    x = Corpus.of([[START, first + (i == 1), END] for i in range(4)])
    found = label_data(
        tmp_path / "d",
        x,
        lambda: FuturesExecutor(hanging, "objects", lambda: Workers(2, 0.5)),
        "objects",
        numbers,
        at_once=2,
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
    with pytest.raises(
        ScoreError, match=f"failed on the first {MAX_INITIAL_FAILURES} training data: OSError: no licence"
    ):
        scored(tmp_path / "d", threads(broken), max_failures=100)
    with pytest.raises(ScoreError, match="failed on the first 3"):
        scored(tmp_path / "d", threads(broken), 3)


def test_pictures_are_scored_as_tensors_or_arrays(tmp_path: Path) -> None:
    x = take_batch(digits().train, slice(0, 9))
    caller = {
        "tensors": lambda batch: batch.flatten(1).sum(1),
        "objects": lambda arrays: [float(array.sum()) for array in arrays],
    }
    for on, score in caller.items():

        def away(score: Callable[..., Any] = score, on: str = on) -> ScoreExecutor:
            return FuturesExecutor(score, on, lambda: ThreadPoolExecutor(1))

        found = label_data(tmp_path / on, x, away, on)
        assert torch.allclose(found.value, x.flatten(1).sum(1).double())
