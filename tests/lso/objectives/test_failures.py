"""A broken score costs a few calls; mended, it is asked again about what it failed on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lso.black_box.runner import SearchCallback
from lso.black_box.workers import Workers
from lso.objectives.failures import MAX_FAILURES, ScoreError
from lso.results.export import read_evaluations
from lso.vae.runs import Run
from tests.lso import scorers
from tests.lso.clusters import Cluster
from tests.lso.searches import lines, objects, rows, run, tensors

PLACE = r"\(tests/lso/scorers.py, line \d+, in raising\)"


class Seen:
    """A score that counts its calls and the objects of which it was given the last."""

    def __init__(self, score: Callable[..., Any], name: str = "seen") -> None:
        self.score, self.calls, self.objects = score, 0, set()  # type: ignore[var-annotated]
        self.__name__ = name

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        self.objects |= {str(item) for item in batch}
        return self.score(batch)


def column(batch: Any) -> Any:
    return np.zeros((len(batch), 1))


BROKEN = {
    "error": (scorers.raising, rf"KeyError: 'no assay for 1 words' {PLACE}"),
    "column": (column, r"the score gave ndarray of shape \(\d+, 1\), expected"),
    "number": (lambda words: 1.0, "the score gave float 1.0, expected"),
    "words": (lambda words: words, "the score gave str '.*', expected a number"),
    "nothing": (lambda words: None, "the score gave NoneType None, expected"),
}


@pytest.mark.parametrize("options", [{}, {"batch": 4}, {"batch": 10}, {"batch": 4, "asynchronous": True}])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_score_broken_from_the_start_ends_the_search_within_ten_objects(kind: str, options: dict[str, Any]) -> None:
    broken, words = BROKEN[kind]
    score = Seen(broken)
    with pytest.raises(ScoreError, match=words) as error:
        run(objects(score), 16, **options)
    assert score.calls <= 10 and len(score.objects) <= 10
    message, hint = str(error.value).splitlines()
    assert "8 objects in a row" in message or "10 objects in a row" in message
    assert hint.startswith("Fix the score, and resume.") and "--max-failures" in hint


def test_so_does_one_on_tensors() -> None:
    score = Seen(lambda x: x.sum(1, keepdim=True))
    with pytest.raises(ScoreError, match=r"Tensor of shape \(4, 1\)"):
        run(tensors(score), 16, batch=4)
    assert score.calls == 2


def test_so_does_one_in_processes() -> None:
    with Workers(2) as workers, pytest.raises(ScoreError, match=PLACE):
        run(objects(scorers.raising), 16, batch=4, executor=workers)


def test_so_does_one_that_never_answers() -> None:
    cluster = Cluster(looks=10**9)
    with pytest.raises(ScoreError, match=r"8 objects in a row .* no answer within 0\.05 s") as error:
        run(objects(), 16, batch=4, executor=cluster, timeout=0.05)
    assert error.value.hint.startswith("Raise the timeout") and len(cluster.jobs) == 8


def test_messages_that_name_the_object_are_of_one_failure_and_other_lines_are_of_others() -> None:
    def by_name(words: list[str]) -> list[float]:
        raise ValueError(f"cannot read {words[0]}")

    with pytest.raises(ScoreError, match="8 objects in a row"):
        run(objects(by_name), 16)

    def by_turns(words: list[str]) -> list[float]:
        if len(turns := [*turn, 1]) % 2:
            turn[:] = turns
            raise ValueError("odd")
        turn[:] = turns
        raise ValueError("even")

    turn: list[int] = []
    assert run(objects(by_turns), 3).status == "failed"  # all 30 calls


def test_none_is_no_failure_and_neither_is_a_failure_after_a_value() -> None:
    result = run(objects(lambda words: [None] * len(words)), 3, patience=40)
    assert result.status == "invalid" and len(result.records) == 30
    seen: list[str] = []

    def once(words: list[str]) -> list[float]:
        seen.extend(words)
        if len(seen) > 1:
            raise KeyError("licence")
        return [1.0]

    result = run(objects(once), 3)
    assert result.status == "failed" and len(result.records) == 30 and result.counters["failed"] == 29


def test_none_between_failures_hides_nothing() -> None:
    def some(words: list[str]) -> list[float | None]:
        return [scorers.raising([word])[0] if scorers.first([word])[0] > 0 else None for word in words]

    score = Seen(some)
    with pytest.raises(ScoreError, match=f"{MAX_FAILURES} objects in a row"):
        run(objects(score), 16)
    assert 8 < score.calls < 40


def test_who_knows_better_bears_more() -> None:
    def late(words: list[str]) -> list[float]:
        seen.extend(words)
        return scorers.first(words) if len(seen) > 20 else scorers.raising(words)

    seen: list[str] = []
    result = run(objects(late), 5, max_failures=21)
    assert result.status == "finished" and result.counters["failed"] == 20


# --- mended -----------------------------------------------------------------------------------------------------------


def test_objects_that_a_broken_score_failed_on_are_asked_again(tmp_path: Path) -> None:
    """And what the search proposes is what it would have, had the score been whole: here of the first two batches."""
    out = tmp_path / "run"
    with pytest.raises(ScoreError):
        run(objects(scorers.raising), 12, batch=4, out=out)
    assert Run(out).info["status"] == "failed" and "in a row" in Run(out).info["sentence"]
    before, score = lines(out), Seen(scorers.first, "raising")
    assert len(read_evaluations(out)) == 8
    mended = run(objects(score), 12, batch=4, out=out, resume=True)
    assert rows(mended) == rows(run(objects(), 12, batch=4)) and len(score.objects) == 12
    assert mended.counters["failed"] == 0 and mended.counters["calls"] == 12
    assert lines(out)[: len(before)] == before  # nothing was taken out of the journal
    assert sorted(record.call or 0 for record in read_evaluations(out)) == list(range(12))
    again = run(objects(score), 16, batch=4, out=out, resume=True)
    assert rows(again) == rows(run(objects(), 16, batch=4)) and len(score.objects) == 16


@pytest.mark.parametrize("after", [3, 10])
def test_a_mended_search_that_is_cut_goes_on_as_the_uncut_one(tmp_path: Path, after: int) -> None:
    class Cut(SearchCallback):
        calls = 0

        def called(self, *_: Any) -> None:
            self.calls += 1

        def stop(self) -> str | None:
            return "cut" if self.calls >= after else None

    with pytest.raises(ScoreError):
        run(objects(scorers.raising), 12, batch=2, out=tmp_path / "run")
    score = Seen(scorers.first, "raising")
    assert run(objects(score), 12, batch=2, out=tmp_path / "run", resume=True, callback=Cut()).status == "stopped"
    result = run(objects(score), 12, batch=2, out=tmp_path / "run", resume=True)
    assert rows(result) == rows(run(objects(), 12, batch=2)) and score.calls == 6  # none was paid for twice


def test_still_broken_it_ends_again_and_with_other_limits_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ScoreError):
        run(objects(scorers.raising), 16, out=tmp_path / "run")
    with pytest.raises(ScoreError):
        run(objects(scorers.raising), 16, out=tmp_path / "run", resume=True)
    assert len(read_evaluations(tmp_path / "run")) == 8
    score = Seen(scorers.first, "raising")
    result = run(objects(score), 4, out=tmp_path / "run", resume=True, max_failures=9)  # these are the objects' fault
    assert result.counters["failed"] == 8 and result.counters["unique"] == 4


def test_failures_that_ended_a_search_with_values_are_asked_again_where_there_is_budget(tmp_path: Path) -> None:
    """A licence that ran out in the middle."""
    valid = [4]

    def licensed(words: list[str]) -> list[float]:
        valid[0] -= len(words)
        return scorers.first(words) if valid[0] >= 0 else scorers.raising(words)

    first = run(objects(licensed), 10, out=tmp_path / "run", patience=20)
    assert first.status == "failed" and len(first.records) == 24
    valid[0] = 100
    result = run(objects(licensed), 10, out=tmp_path / "run", patience=20, resume=True)
    assert result.status == "finished" and rows(result)[:10] == rows(run(objects(), 10))
    assert result.counters["failed"] == 14 and torch.isfinite(result.value[:10]).all()


def test_duplicates_of_what_is_asked_again_follow_it(tmp_path: Path) -> None:
    with pytest.raises(ScoreError):
        run(objects(scorers.raising, digits=0), 12, batch=4, out=tmp_path / "run")
    score = Seen(scorers.first, "raising")
    result = run(objects(score, digits=0), 12, batch=4, out=tmp_path / "run", resume=True)
    assert {record.outcome for record in result.records} == {"evaluated"} and score.calls <= 20
    assert result.counters["unique"] == 12
