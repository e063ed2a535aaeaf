"""The task `ehrlich`: Ehrlich functions (Stanton et al. 2024), scores of sequences with known optimum 1.

A sequence scores by how much it contains of several hidden motifs, and must avoid the banned transitions of a chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.random import RandomState

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.line_reader import TextLines
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.datasets.splits import UNSPLIT
from lso.tasks.datasets.text_dataset import RawTexts
from lso.tasks.goals import Goal
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, UsageError
from lso.vae.runs import Run
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import require

TRAINING_SEQUENCES = 10_000  # sequences to learn from
BANNED_SHARE = 0.4  # share of the steps from each word that are forbidden
TEMPERATURE = 0.5  # of the softmax over Gaussian numbers that gives the probabilities of the other steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Ehrlich:
    """A score of sequences whose best is exactly 1 and is known by construction.

        f(x) = prod over motifs i of max over places l of floor(q h_i(x, l)) / q
        h_i(x, l) = share of the k words a_ij of motif i with x[l + s_ij] = a_ij

    A sequence is feasible, and else has no value, if it has L words and none of its steps is banned by the transition
    matrix. Every function of the same fields is the same. Source: Stanton et al. (2024), arXiv:2407.00236, sec. 4.
    Deviations: written anew, so that a seed's function is not that of the authors' package; a motif has no word twice
    in a row; its span is uniform among those of at most L // c words.

    Args:
        words: V, the size of the alphabet.
        length: L, of all sequences.
        motifs: c.
        motif_length: k.
        levels: q, of each motif's share.
        seed: of matrix, motifs and spacings.
        fill: take a shorter sequence as filled up with its last word, a step that is never banned, instead of having no
            value: a decoder that ends a word early would else fail for its counting alone.
    Raises:
        UsageError: if the motifs do not fit into the length, or a size is out of range.
    """

    words: int = 32
    length: int = 32
    motifs: int = 4
    motif_length: int = 4
    levels: int = 4
    seed: int = 0
    fill: bool = False

    def __post_init__(self) -> None:
        require(self.words >= 4, "words >= 4", self.words, "32 is the default.")
        require(self.motifs >= 1 and self.motif_length >= 1, "a motif of a word", self.motif_length, "4 of 4 is usual.")
        require(1 <= self.levels <= self.motif_length, "1 <= levels <= motif_length", self.levels, "Take motif_length.")
        if self.motifs * self.motif_length > self.length:
            raise UsageError(
                f"{self.motifs} motifs of {self.motif_length} words do not fit into {self.length}", "Take a longer one."
            )

    def __call__(self, sequences: Sequence[Any]) -> list[float | None]:
        """Values of sequences, to be maximized; None for an infeasible one."""
        return [self._value(text) for text in sequences]

    def _value(self, text: Any) -> float | None:
        x = self._read(text)
        if x is None:
            return None
        hidden, value = build_structure(self), 1.0
        for motif, offsets in zip(hidden.motifs, hidden.offsets, strict=True):
            places = self.length - offsets[-1]
            hits = sum((x[o : o + places] == word).astype(int) for word, o in zip(motif, offsets, strict=True))
            value *= int(np.max(hits)) * self.levels // self.motif_length / self.levels
        return value

    def _read(self, text: Any) -> Int[ndarray, " length"] | None:
        """The words of a sequence as numbers; None if it is infeasible."""
        tokens = text.split() if isinstance(text, str) else []
        tokens += tokens[-1:] * (self.length - len(tokens)) if self.fill else []
        names = _word_numbers(self.words)
        if len(tokens) != self.length or not all(token in names for token in tokens):
            return None
        x = np.array([names[token] for token in tokens])
        return x if (build_structure(self).transition[x[:-1], x[1:]] > 0).all() else None

    def optimum(self) -> str:
        """A feasible sequence of value 1: one motif after the other, each word repeated until the next one's place."""
        hidden, x = build_structure(self), list[int]()
        for motif, offsets in zip(hidden.motifs, hidden.offsets, strict=True):
            ends = [*offsets[1:], offsets[-1] + 1]
            for word, start, end in zip(motif, offsets, ends, strict=True):
                x += [word] * (end - start)
        return _join_words(x + x[-1:] * (self.length - len(x)))

    def sample(self, count: int, seed: int) -> list[str]:
        """Draw sequences from the chain, all feasible: the first word uniform, the others by the transition matrix."""
        stream, total = _stream(seed, "sample"), build_structure(self).transition.cumsum(1)
        x = [stream.randint(self.words, size=count)]
        for _ in range(self.length - 1):
            reach = stream.random_sample(count) * total[x[-1], -1]
            x.append((total[x[-1]] <= reach[:, None]).sum(1))
        return [_join_words(row) for row in np.stack(x, 1).tolist()]


TASK_FUNCTION = Ehrlich(fill=True)  # 32 words, sequences of 32, four motifs of four


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HiddenStructure:
    """The hidden parts of an Ehrlich function."""

    transition: Float[ndarray, "words words"]  # probability of each step; 0 where banned, which repeating never is
    motifs: list[list[int]]  # k words of each of c motifs
    offsets: list[list[int]]  # the positions of a motif's words relative to its first


@cache
def build_structure(function: Ehrlich) -> HiddenStructure:
    """Draw the transition matrix, motifs and spacings of a function from its seed."""
    # The motifs one after the other are one path of the chain without repeated words, so that a sequence with all of
    # them is feasible.
    stream = _stream(function.seed, "structure")
    transition = _random_transition(function.words, stream)
    moves = transition * (1 - np.eye(function.words))
    path = [int(stream.randint(function.words))]
    while len(path) < function.motifs * function.motif_length:
        path.append(int(stream.choice(function.words, p=moves[path[-1]] / moves[path[-1]].sum())))
    size, span = function.motif_length, function.length // function.motifs
    motifs = [path[start : start + size] for start in range(0, len(path), size)]
    inner = [np.sort(stream.permutation(span - 1)[: size - 1]) + 1 for _ in motifs]
    return HiddenStructure(transition=transition, motifs=motifs, offsets=[[0, *places.tolist()] for places in inner])


def _random_transition(words: int, stream: RandomState) -> Float[ndarray, "words words"]:
    """A random ergodic matrix: a cycle through all words and the steps to themselves are never banned."""
    weights = np.exp(stream.standard_normal((words, words)) / TEMPERATURE)
    cycle = stream.permutation(words)
    following = dict(zip(cycle.tolist(), np.roll(cycle, -1).tolist(), strict=True))
    for word in range(words):
        others = [other for other in range(words) if other not in (word, following[word])]
        weights[word, stream.permutation(others)[: int(BANNED_SHARE * words)]] = 0
    total: Float[ndarray, "words words"] = weights / weights.sum(1, keepdims=True)
    return total


def _stream(seed: int, purpose: str) -> RandomState:
    return RandomState(mix_seed(seed, f"ehrlich/{purpose}") & 0xFFFFFFFF)


@cache
def _word_numbers(words: int) -> dict[str, int]:
    return {str(word): word for word in range(words)}


def _join_words(words: Sequence[int]) -> str:
    return " ".join(map(str, words))


def load(data: DataConfig, progress: Progress | None = None) -> RawTexts:
    """Generate 10,000 feasible sequences from the default function's chain, to be split 80/10/10."""
    if data.path:
        raise UsageError(f"task ehrlich is generated and reads no path, got {data.path}", "Leave --data out.")
    function = TASK_FUNCTION
    note = f"Generated: {TRAINING_SEQUENCES:,} sequences of the chain of {function}, its first word uniform."
    part = TextLines(name="ehrlich", texts=function.sample(TRAINING_SEQUENCES, seed=0))
    words = [str(word) for word in range(function.words)]
    return RawTexts(parts={UNSPLIT: part}, words=words, provenance={"source": "generated", "notes": [note]})


def goal(run: Run) -> Goal:
    """The goal of maximizing the default Ehrlich function; initial data are training sequences."""
    data = run.config.data
    return Goal(
        name="ehrlich",
        score=TASK_FUNCTION,
        maximize=True,
        best=1.0,
        known=lambda count, seed: known(count, seed, load_dataset(data, "none", 0, trust=run.trust)),
        summary="product over four motifs of the share that is present, of feasible sequences",
    )


def known(count: int, seed: int, dataset: Dataset) -> tuple[list[str], list[float]]:
    """Initial data of a search: random training sequences with their values."""
    if dataset.vocabulary is None:
        raise DataError("expected a dataset of sequences, got images", "Give a run of the task ehrlich.")
    rows = torch.randperm(len(dataset.train), generator=generator(seed, "ehrlich/known"))[:count]
    texts = [dataset.vocabulary.text(row) for row in dataset.corpus("train")[rows].padded().tolist()]
    values = TASK_FUNCTION(texts)
    return texts, [value for value in values if value is not None]
