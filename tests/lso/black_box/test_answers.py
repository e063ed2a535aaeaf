"""What a score answers, of every kind, is recorded with its reason."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.black_box.ask_tell import BlackBox, History
from lso.decoders.decoder import Decoder
from lso.objectives.failures import ScoreError
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.score_calls import parse_answer
from lso.space import LatentSpace
from tests.lso.searches import run

ANSWERS: list[tuple[Any, str, str]] = [
    (lambda n: [0.5] * n, "evaluated", ""),
    (lambda n: [True] * n, "evaluated", ""),
    (lambda n: [np.float32(0.5)] * n, "evaluated", ""),
    (lambda n: np.full(n, 0.5), "evaluated", ""),
    (lambda n: [torch.tensor(0.5)] * n, "evaluated", ""),
    (lambda n: torch.full((n,), 0.5, dtype=torch.float16), "evaluated", ""),
    (lambda n: [10**30] * n, "evaluated", ""),
    (lambda n: [10**400] * n, "failed", "too large"),
    (lambda n: [float("nan")] * n, "invalid", "the score gave nan"),
    (lambda n: torch.full((n,), torch.inf), "invalid", "the score gave inf"),
    (lambda n: [None] * n, "invalid", "the score gave None"),
    (lambda n: None, "failed", "the score gave NoneType None"),
    (lambda n: "high", "failed", "the score gave str 'high'"),
    (lambda n: ["0.5"] * n, "failed", "the score gave str '0.5', expected a number"),
    (lambda n: np.array(["0.5"] * n), "failed", "expected a number"),
    (lambda n: True, "failed", "the score gave bool True"),
    (lambda n: 0.5, "failed", "the score gave float 0.5"),
    (lambda n: torch.tensor(0.5), "failed", "the score gave Tensor of shape ()"),
    (lambda n: np.zeros((n, 2)), "failed", "the score gave ndarray of shape"),
    (lambda n: [0.5] * (n + 1), "failed", "values, expected"),
    (lambda n: [], "failed", "the score gave 0 values"),
    (lambda n: [[0.5]] * n, "failed", "expected a number"),
    (lambda n: [np.zeros(1)] * n, "failed", "the score gave ndarray of shape (1,), expected a number"),
    (lambda n: [1j] * n, "failed", "the score gave complex"),
    (lambda n: {0: 0.5}, "failed", "the score gave dict"),
    (lambda n: 1 / 0, "failed", "ZeroDivisionError: division by zero"),
    (lambda n: exit(), "failed", "SystemExit"),
]
OTHER_LENGTHS = ("values, expected", "the score gave 0 values")


def number(datum: str | Tensor) -> int:
    """Of the ask that the datum comes from, see `numbered`."""
    return int(datum.split()[0]) if isinstance(datum, str) else int(datum[0])


def numbered(on: str, score: Callable[[int, int], Any]) -> LatentObjective:
    """Codes that begin with a number, decoded as they are; the score has the number and how many data there are."""

    def decode(z: Tensor) -> Any:
        return [f"{row[0]:.0f} {row[1]:.0f}" for row in z] if on == "objects" else z + 0

    decoder = Decoder(decode, latent_dim=2, differentiable=False)
    return LatentObjective(decoder, lambda data: score(number(data[0]), len(data)), on=on, maximize=True)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("on", ["objects", "tensors"])
@pytest.mark.parametrize("outcome", ["evaluated", "invalid", "failed"])
def test_every_answer_is_recorded_with_its_reason(outcome: str, on: str, batch: int) -> None:
    """Each ask is for codes of another answer, given to all of them."""
    answers = [(give, reason) for give, kind, reason in ANSWERS if kind == outcome]
    if batch > 1:  # a list of another length ends the search: which value is whose cannot be told
        for give, _ in [answer for answer in answers if answer[1] in OTHER_LENGTHS]:
            with pytest.raises(ScoreError, match=f"gave {len(give(batch))} values for {batch} data"):
                parse_answer(give(batch), batch)
        answers = [answer for answer in answers if answer[1] not in OTHER_LENGTHS]

    def each(history: History, n: int, seed: int) -> Tensor:
        return torch.tensor([[history.number, i] for i in range(n)], dtype=torch.float64)

    objective = numbered(on, lambda which, count: answers[which][0](count))
    box = BlackBox("each", LatentSpace(2, bounds=99.0), each, maximize=True)
    calls = len(answers) * batch
    result = run(objective, calls, optimizer=box, batch=batch, max_calls=calls, max_failures=calls + 1)
    assert len(result.records) == calls and result.status == {"evaluated": "finished"}.get(outcome, outcome)
    assert {record.outcome for record in result.records} == {outcome}
    for record in result.records:
        assert answers[record.ask or 0][1] in record.reason and len(record.reason) < 400
        assert record.valid == math.isfinite(record.value) == (outcome == "evaluated")
