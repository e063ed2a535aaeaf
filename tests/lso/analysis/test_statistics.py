"""Distance between token sequences."""

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from lso.analysis import statistics
from lso.analysis.reconstruction import SEQUENCES
from lso.vae.utils.random import generator
from lso.vae.vocabulary import END, PAD, START


def sequences(n: int, longest: int, seed: int) -> Tensor:
    """Random ones over three words, the empty one among them."""
    stream = generator(seed, "edits")
    words = torch.randint(4, 7, (n, longest), generator=stream)
    length = torch.randint(0, longest + 1, (n, 1), generator=stream)
    at = torch.arange(longest)
    body = torch.where(at < length, words, torch.where(at == length, END, PAD))
    end = torch.where(length == longest, END, PAD)
    return torch.cat([torch.full((n, 1), START), body, end], 1)


def words(row: Tensor) -> tuple[int, ...]:
    return tuple(word for word in row.tolist() if word > END)


@cache
def textbook(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """The recursion itself."""
    if not a or not b:
        return len(a) + len(b)
    return min(textbook(a[1:], b) + 1, textbook(a, b[1:]) + 1, textbook(a[1:], b[1:]) + (a[0] != b[0]))


def test_the_edit_distance_is_that_of_the_textbook(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = sequences(60, 5, 0), sequences(60, 7, 1)
    wanted = [textbook(words(x), words(y)) for x, y in zip(a, b, strict=True)]
    assert statistics.edit_distance(a, b).tolist() == wanted
    assert statistics.edit_distance(b.double(), pad(a, (0, 3))).tolist() == wanted
    monkeypatch.setattr(statistics, "MAX_PAIRS", 7)
    assert statistics.edit_distance(a, b).tolist() == wanted


def test_a_share_is_of_the_longer_sequence() -> None:
    a = torch.tensor([[START, 4, 5, END], [START, END, PAD, PAD], [START, 4, 5, END]])
    b = torch.tensor([[START, 4, 6, 5, END], [START, END, PAD, PAD, PAD], [START, END, PAD, PAD, PAD]])
    assert statistics.normalized_edit_distance(a, b).tolist() == pytest.approx([1 / 3, 0, 1])
    assert statistics.token_counts(b).tolist() == [3, 0, 0]


def test_what_is_reproduced_is_measured_against_prior_draws() -> None:
    target = torch.tensor([[START, 4, 5, END]] * 3)
    found = torch.tensor([[START, 4, 5, END], [START, 4, 6, END], [START, 6, 6, END]])
    prior = torch.tensor([[START, 6, 6, END], [START, 7, 7, END]]).double()
    explained = SEQUENCES.explained(target, found, prior)
    assert explained is not None and explained.tolist() == pytest.approx([1, 0.5, 0])
    assert SEQUENCES.explained(None, found, prior) is None
    assert SEQUENCES.reaction(target, prior, SEQUENCES.scale(prior)) == pytest.approx(1)
    assert SEQUENCES.reaction(target, prior[[0, 0]], SEQUENCES.scale(prior[[0, 0]])) == 0
    assert SEQUENCES.pairwise(found[None])[0].tolist() == [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
