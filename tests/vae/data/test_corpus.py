"""The packed corpus and its batches."""

import pytest
import torch

from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import count_batches, epoch_batches, split_passes, take_batch
from lso.vae.errors import DataError
from lso.vae.utils.random import generator
from lso.vae.vocabulary import PAD
from tests.vae.sequence_models import mixed, padded

SEQUENCES = mixed(70, longest=12)


def plain(corpus: Corpus) -> list[list[int]]:
    """The sequences, from the padded matrix."""
    return [row[:size] for row, size in zip(corpus.padded().tolist(), corpus.lengths.tolist(), strict=True)]


def test_what_is_packed_comes_out_again() -> None:
    corpus = Corpus.of(SEQUENCES)
    assert plain(corpus) == SEQUENCES and torch.equal(corpus.padded(), padded(SEQUENCES))
    assert corpus.tokens.dtype == torch.int32 and len(corpus.tokens) == sum(map(len, SEQUENCES))
    assert corpus.shape == (70, max(map(len, SEQUENCES))) and corpus.padded().dtype == torch.int64
    assert plain(Corpus.of(iter(SEQUENCES))) == SEQUENCES


def test_views_choose_and_copy_no_token() -> None:
    corpus, rows = Corpus.of(SEQUENCES), torch.tensor([5, 0, 69, 5])
    view = corpus[rows]
    assert plain(view) == [SEQUENCES[i] for i in rows] and view.tokens is corpus.tokens
    assert plain(corpus[3:9][torch.tensor([1, 2])]) == SEQUENCES[4:6]
    assert view.shape[1] == max(len(SEQUENCES[i]) for i in rows)  # not that of the whole
    assert plain(corpus[-2:].packed()) == SEQUENCES[-2:] and len(corpus[-2:].packed().tokens) < len(corpus.tokens)
    empty = corpus[5:5]
    assert len(empty) == 0 and empty.shape == (0, 0) and empty.padded().shape == (0, 0)
    assert torch.equal(take_batch(corpus, rows), view.padded())


def test_one_sequence_is_its_tokens_and_a_corpus_says_what_it_is() -> None:
    corpus = Corpus.of([[2, 5, 3], [2, 3], [2, 6, 7, 3]])[torch.tensor([2, 0])]
    assert corpus[0].tolist() == [2, 6, 7, 3] and corpus[-1].tolist() == [2, 5, 3]
    assert repr(corpus) == "Corpus(2 sequences of at most 4 tokens, on cpu)"
    with pytest.raises(IndexError):
        corpus[2]


def test_the_hash_is_of_the_sequences_alone() -> None:
    corpus = Corpus.of(SEQUENCES)
    assert corpus[3:9].hash() == Corpus.of(SEQUENCES[3:9]).hash() == corpus[3:9].packed().hash()
    assert corpus[torch.tensor([4, 3])].hash() == Corpus.of([SEQUENCES[4], SEQUENCES[3]]).hash()
    others = [SEQUENCES[:-1], SEQUENCES[::-1], [[*SEQUENCES[0], 2], *SEQUENCES[1:]]]
    assert len({corpus.hash(), *(Corpus.of(other).hash() for other in others)}) == 4
    assert Corpus.of([[1, 2], [1, 4, 2]]).hash() != Corpus.of([[1, 2, 1], [4, 2]]).hash()  # same tokens, cut elsewhere


@pytest.mark.parametrize("lengths", ["equal", "near"])
@pytest.mark.parametrize("size", [1, 8, 100])
def test_groups_cover_all_data_once(lengths: str, size: int) -> None:
    corpus = Corpus.of(SEQUENCES)
    for stream in (None, generator(0, "groups")):
        groups = corpus.groups(size, lengths, stream)  # type: ignore[arg-type]
        assert torch.equal(torch.cat(groups).sort().values, torch.arange(70))
        assert max(map(len, groups)) <= size
        if lengths == "equal":
            assert all(len(set(corpus.lengths[group].tolist())) == 1 for group in groups)
            assert not any(bool((take_batch(corpus, group) == PAD).any()) for group in groups)
        else:
            assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
            assert torch.equal(corpus.lengths[torch.cat(groups)], corpus.lengths.sort().values)
    assert count_batches(corpus, size, lengths) == len(corpus.groups(size, lengths))  # type: ignore[arg-type]


def test_equal_batches_are_fixed_and_near_ones_are_not() -> None:
    corpus = Corpus.of(SEQUENCES)

    def made(lengths: str, seed: int) -> list[list[int]]:
        return [rows.tolist() for rows in epoch_batches(corpus, 8, generator(seed, "x"), lengths)]  # type: ignore[arg-type]

    assert made("equal", 0) != made("equal", 1) and sorted(made("equal", 0)) == sorted(made("equal", 1))
    assert {frozenset(rows) for rows in made("near", 0)} != {frozenset(rows) for rows in made("near", 1)}
    assert made("near", 2) == made("near", 2)
    # They are made once: aggressive training asks for them at each inner step.
    one, other = corpus.groups(8), corpus.groups(8)
    assert one is not other and all(a is b for a, b in zip(one, other, strict=True))
    assert [rows.tolist() for rows in split_passes(corpus, 8)] == [rows.tolist() for rows in split_passes(corpus, 8)]  # type: ignore[union-attr]


def test_nothing_is_no_corpus() -> None:
    nothings: list[list[list[int]]] = [[], [[]]]
    for nothing in nothings:
        with pytest.raises(DataError, match="at least one sequence, got none"):
            Corpus.of(nothing)


@pytest.mark.gpu
def test_a_corpus_on_a_gpu_is_the_same() -> None:
    corpus = Corpus.of(SEQUENCES)
    there, rows = corpus.to("cuda"), torch.tensor([5, 0, 69])
    assert there[rows].padded().is_cuda and torch.equal(there[rows].padded().cpu(), corpus[rows].padded())
    assert there[rows].hash() == corpus[rows].hash() and there.device.type == "cuda"


@pytest.mark.gpu
def test_a_batch_is_taken_without_waiting_for_the_gpu() -> None:
    there, rows = Corpus.of(SEQUENCES).to("cuda"), torch.tensor([5, 0, 69])
    wanted = take_batch(there, rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = take_batch(there, rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, wanted)
