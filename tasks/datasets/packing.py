"""Lines of text as packed token numbers, without Python work for each token."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lso.tasks.datasets.tokenizers import Tokenizer, split_all
from lso.vae.data.corpus import Corpus
from lso.vae.vocabulary import END, SPECIALS, START, UNKNOWN, Vocabulary

CHUNK = 10_000  # lines whose tokens exist as strings at a time


class Types:
    """The distinct tokens met so far, in the order of their first appearance.

    They are numbered behind the specials. A token that is written as a special is a type of its own here, so that no
    text can end or pad a sequence.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def number(self, tokens: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Numbers of tokens, new ones added."""
        known = self.numbers
        for token in dict.fromkeys(tokens):
            known.setdefault(token, len(known) + len(SPECIALS))
        return np.fromiter(map(known.__getitem__, tokens), dtype=np.int32, count=len(tokens))

    def table(self, vocabulary: Vocabulary) -> Int[Tensor, " types"]:
        """Number of a type -> number in a vocabulary.

        Args:
            vocabulary: what is known.
        Returns:
            ``(specials + types,)`` int32; types that are not known, or written as a special, are ``<unk>``.
        """
        known = vocabulary.numbers
        found = [UNKNOWN if token in SPECIALS else known.get(token, UNKNOWN) for token in self.numbers]
        return torch.tensor([*range(len(SPECIALS)), *found], dtype=torch.int32)


def pack(lines: Sequence[str], chosen: Tokenizer, types: Types) -> Corpus:
    """Tokenize lines.

    Args:
        lines: of text.
        chosen: tokenizer.
        types: takes the new ones.
    Returns:
        A corpus of the numbers of types, with start and end symbols; one sequence a line, empty ones too.
    Raises:
        UsageError: if the tokenizer fails or gives other than strings.
    """
    numbers: list[Int[np.ndarray, " n"]] = []
    sizes: list[int] = []
    for first in range(0, len(lines), CHUNK):
        tokens = split_all(lines[first : first + CHUNK], chosen)
        flat = list(chain.from_iterable(tokens))
        numbers.append(types.number(flat))
        sizes += map(len, tokens)
    return _framed(np.concatenate(numbers) if numbers else np.zeros(0, np.int32), np.array(sizes, dtype=np.int64))


def _framed(numbers: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " lines"]) -> Corpus:
    """Put start and end around the sequences."""
    lengths = sizes + 2
    starts = lengths.cumsum() - lengths
    inside = np.ones(int(lengths.sum()), dtype=bool)
    inside[starts] = inside[starts + lengths - 1] = False
    packed = np.empty(len(inside), dtype=np.int32)
    packed[inside] = numbers
    packed[starts], packed[starts + lengths - 1] = START, END
    return Corpus(torch.from_numpy(packed), torch.from_numpy(starts), torch.from_numpy(lengths))


def _whole(corpus: Corpus) -> Corpus:
    """The chosen sequences with no other tokens among them: as it is, or packed anew."""
    first = corpus.lengths.cumsum(0) - corpus.lengths
    total = int(corpus.lengths.sum())
    return corpus if total == len(corpus.tokens) and torch.equal(first, corpus.starts) else corpus.packed()


def renumber(corpus: Corpus, table: Int[Tensor, " types"]) -> Corpus:
    """Other numbers for the tokens of the chosen sequences."""
    own = _whole(corpus)
    return Corpus(table[own.tokens.long()], own.starts, own.lengths)


def counts(corpus: Corpus, size: int) -> Int[Tensor, " size"]:
    """How often each number occurs in the chosen sequences."""
    return torch.bincount(_whole(corpus).tokens, minlength=size)


def unknown(corpus: Corpus) -> Int[Tensor, " n"]:
    """Unknown tokens of each sequence."""
    own = _whole(corpus)
    row = torch.repeat_interleave(torch.arange(len(own)), own.lengths)
    return torch.bincount(row[own.tokens == UNKNOWN], minlength=len(own))


def encode_lines(lines: Sequence[str], vocabulary: Vocabulary, chosen: Tokenizer) -> tuple[Corpus, Int[Tensor, " n"]]:
    """Sequences of lines as a model's vocabulary has them.

    Args:
        lines: of text, without labels; at least one.
        vocabulary: the model's.
        chosen: the tokenizer that it was trained with.
    Returns:
        One sequence a line, and how many tokens of each are unknown.
    Raises:
        UsageError: if the tokenizer fails.
    """
    types = Types()
    corpus = pack(lines, chosen, types)
    found = renumber(corpus, types.table(vocabulary))
    return found, unknown(found)
