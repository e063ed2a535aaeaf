"""Turns lines of text into a corpus of packed token numbers, with no Python loop over tokens.

The vocabulary is known only after the training data are counted. So tokens are first numbered as token types, in the
order in which they appear, and renumbered by the vocabulary afterwards.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lso.tasks.datasets.tokenizers import Tokenizer, tokenize_lines
from lso.vae.data.corpus import Corpus
from lso.vae.vocabulary import END, SPECIALS, START, UNKNOWN, Vocabulary

CHUNK_LINES = 10_000  # lines whose tokens exist as strings at a time


class TokenTypes:
    """Numbers for the distinct tokens met so far, in the order of their first appearance.

    Numbers begin after those of the special tokens. Text that is written like a special token, such as ``<pad>``, is a
    type of its own, so that no text can end or pad a sequence.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def number(self, tokens: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Number tokens, adding those that are new."""
        known = self.numbers
        for token in dict.fromkeys(tokens):
            known.setdefault(token, len(known) + len(SPECIALS))
        return np.fromiter(map(known.__getitem__, tokens), dtype=np.int32, count=len(tokens))

    def table(self, vocabulary: Vocabulary) -> Int[Tensor, " types"]:
        """``(specials + types,)`` map from the number of a type to its number in a vocabulary.

        Types that the vocabulary lacks, or that are written like a special token, become ``<unk>``.
        """
        known = vocabulary.numbers
        found = [UNKNOWN if token in SPECIALS else known.get(token, UNKNOWN) for token in self.numbers]
        return torch.tensor([*range(len(SPECIALS)), *found], dtype=torch.int32)


def pack(lines: Sequence[str], chosen: Tokenizer, types: TokenTypes) -> Corpus:
    """Tokenize lines into a corpus of type numbers with start and end symbols; ``types`` is extended in place.

    Each line is one sequence, also an empty one.
    """
    numbers: list[Int[np.ndarray, " n"]] = []
    sizes: list[int] = []
    for first in range(0, len(lines), CHUNK_LINES):
        tokens = tokenize_lines(lines[first : first + CHUNK_LINES], chosen)
        flat = list(chain.from_iterable(tokens))
        numbers.append(types.number(flat))
        sizes += map(len, tokens)
    return _add_start_and_end(
        np.concatenate(numbers) if numbers else np.zeros(0, np.int32), np.array(sizes, dtype=np.int64)
    )


def _add_start_and_end(numbers: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " lines"]) -> Corpus:
    """Put the start and end symbols around each of the packed sequences."""
    lengths = sizes + 2
    starts = lengths.cumsum() - lengths
    inside = np.ones(int(lengths.sum()), dtype=bool)
    inside[starts] = inside[starts + lengths - 1] = False
    packed = np.empty(len(inside), dtype=np.int32)
    packed[inside] = numbers
    packed[starts], packed[starts + lengths - 1] = START, END
    return Corpus(torch.from_numpy(packed), torch.from_numpy(starts), torch.from_numpy(lengths))


def _without_gaps(corpus: Corpus) -> Corpus:
    """The corpus without tokens that belong to no sequence, as rows chosen from a larger corpus leave them.

    It is packed anew only where there are such tokens.
    """
    first = corpus.lengths.cumsum(0) - corpus.lengths
    total = int(corpus.lengths.sum())
    return corpus if total == len(corpus.tokens) and torch.equal(first, corpus.starts) else corpus.packed()


def renumber(corpus: Corpus, table: Int[Tensor, " types"]) -> Corpus:
    """Replace the tokens of a corpus by their entries in a table."""
    own = _without_gaps(corpus)
    return Corpus(table[own.tokens.long()], own.starts, own.lengths)


def token_frequencies(corpus: Corpus, size: int) -> Int[Tensor, " size"]:
    """How often each token number below ``size`` occurs in a corpus."""
    return torch.bincount(_without_gaps(corpus).tokens, minlength=size)


def count_unknown(corpus: Corpus) -> Int[Tensor, " n"]:
    """Number of unknown tokens in each sequence."""
    own = _without_gaps(corpus)
    row = torch.repeat_interleave(torch.arange(len(own)), own.lengths)
    return torch.bincount(row[own.tokens == UNKNOWN], minlength=len(own))


def encode_lines(lines: Sequence[str], vocabulary: Vocabulary, chosen: Tokenizer) -> tuple[Corpus, Int[Tensor, " n"]]:
    """Encode lines with the vocabulary and tokenizer of a trained model; also the number of unknown tokens of each."""
    types = TokenTypes()
    corpus = renumber(pack(lines, chosen, types), types.table(vocabulary))
    return corpus, count_unknown(corpus)
