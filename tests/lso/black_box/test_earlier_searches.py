"""A search with the memory of earlier ones: objects met again are answered and not counted, also after a cut."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lso.black_box.journal import EVALUATIONS
from lso.black_box.loop import optimize
from lso.black_box.runner import EARLIER_CALL
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective


class Counting:
    """The first letter's number; a letter x is invalid."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        self.asked += texts
        return [None if text == "x" else float(ord(text) - ord("a")) for text in texts]


def letters(score: Any) -> LatentObjective:
    """Codes to one of 26 letters, by their first coordinate."""

    def decode(z: torch.Tensor) -> list[str]:
        return [chr(ord("a") + int(25.99 * torch.special.ndtr(row[0]))) for row in z]

    return LatentObjective(Decoder(decode, latent_dim=2), score, on="objects", remember=False)


def test_objects_of_earlier_searches_are_not_scored_or_counted_again() -> None:
    score = Counting()
    first = optimize(letters(score), "random", budget=8)
    second = optimize(letters(score), "random", budget=8, seed=1, scored=first.records)
    assert len(score.asked) == len(set(score.asked))
    again = [record for record in second.records if record.duplicate_of == EARLIER_CALL]
    before = {record.decoded: record.value for record in first.records if record.valid}
    assert again and all(before[record.decoded] == record.value for record in again if record.valid)
    assert second.counters["unique"] == 8 and second.counters["duplicate"] >= len(again)


def test_the_memory_outlives_a_cut(tmp_path: Path) -> None:
    first = optimize(letters(Counting()), "random", budget=8)
    known = (first.z, first.value.tolist())
    given: dict[str, Any] = {"budget": 8, "seed": 1, "known": known}
    whole = optimize(letters(Counting()), "random", **given, scored=first.records, out=tmp_path / "whole")
    lines = (tmp_path / "whole" / EVALUATIONS).read_bytes().splitlines(keepends=True)
    for kept in (0, 1, 2, 3, 8):  # nothing, what was known, the memory, an ask, evaluations
        shutil.copytree(tmp_path / "whole", tmp_path / str(kept))
        (tmp_path / str(kept) / EVALUATIONS).write_bytes(b"".join(lines[:kept]))
        score = Counting()
        found = optimize(letters(score), "random", **given, scored=first.records, out=tmp_path / str(kept), resume=True)
        assert found.value.nan_to_num(-1).tolist() == whole.value.nan_to_num(-1).tolist()
        assert torch.equal(found.known, whole.known) and not set(score.asked) & {r.decoded for r in first.records}
