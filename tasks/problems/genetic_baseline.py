"""A genetic algorithm on the sequences themselves: the baseline for a search over latents at equal numbers of calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lso.vae.errors import UsageError
from lso.vae.utils.random import mix_seed
from lso.vae.utils.validation import require

Score = Callable[[Sequence[str]], Sequence[float | None]]
Found = list[tuple[str, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneticSettings:
    """Settings of the genetic algorithm."""

    population: int = 50  # survivors of each generation, the best of all so far
    children: int = 20  # sequences scored together in one generation
    tournament: int = 3  # survivors drawn, of which the best becomes a parent
    crossover: float = 0.5  # share of the children with two parents
    mutations: float = 1.0  # expected number of tokens of a child that change
    max_calls: int = 10  # largest number of scored sequences, valid or not, as a multiple of the budget
    patience: int = 50  # the search ends after so many generations in a row without a new sequence

    def __post_init__(self) -> None:
        require(self.population >= 2, "population >= 2", self.population, "50 is the default.")
        require(self.children >= 1, "children >= 1", self.children, "20 is the default.")
        require(self.tournament >= 1, "tournament >= 1", self.tournament, "3 is the default; 1 takes any survivor.")
        require(0 <= self.crossover <= 1, "0 <= crossover <= 1", self.crossover, "0.5 is the default.")
        require(self.mutations > 0, "mutations > 0", self.mutations, "1 is the default.")


def genetic_search(
    score: Score,
    start: tuple[Sequence[str], Sequence[float]],
    budget: int,
    seed: int = 0,
    *,
    maximize: bool = True,
    alphabet: Sequence[str] | None = None,
    settings: GeneticSettings = GeneticSettings(),
) -> Found:
    """Search among sequences by mutation, crossover and survival of the best.

    Calls are counted as in a search over latents: the budget is of distinct valid sequences, those known at the start
    cost nothing, a sequence that was scored before is not scored again, invalid ones are scored and do not count.
    Where all sequences of the start have one length, so have all children: tokens are replaced, and crossover takes the
    same places. Else tokens also come and go, and the two parts of a crossover have places of their own. A function of
    its arguments.

    Args:
        score: texts to values, None for an invalid one.
        start: texts and values known beforehand, at least two, as `Goal.known` gives them.
        budget: distinct valid sequences to score.
        seed: of everything random.
        maximize: sense of the score.
        alphabet: tokens that mutation takes from; None takes those of the start.
        settings: of the algorithm.
    Returns:
        Sequences in the order scored, with values in the score's sense, None for invalid ones; fewer valid ones than
        the budget where nothing new was found, or so many were invalid that `GeneticSettings.max_calls` was reached.
    Raises:
        UsageError: if the start has fewer than two sequences or another number of values.
    """
    texts, values = list(start[0]), list(start[1])
    if len(texts) < 2 or len(texts) != len(values):
        raise UsageError(f"got {len(texts)} sequences and {len(values)} values to start from", "Give two at least.")
    sign, stream = (1.0 if maximize else -1.0), Random(mix_seed(seed, "genetic"))
    alive = _select_survivors([(sign * value, text) for text, value in zip(texts, values, strict=True)], settings)
    breed = _Breeder(stream, settings, sorted(set(alphabet or " ".join(texts).split())), _have_equal_length(texts))
    seen, found, valid, idle = set(texts), Found(), 0, 0
    while valid < budget and len(found) < settings.max_calls * budget and idle < settings.patience:
        room = min(settings.children, budget - valid, settings.max_calls * budget - len(found))
        children = [text for text in dict.fromkeys(breed(alive) for _ in range(room)) if text not in seen]
        seen.update(children)
        scored = list(zip(children, score(children) if children else [], strict=True))
        found += scored
        fresh = [(sign * value, text) for text, value in scored if value is not None]
        valid, idle = valid + len(fresh), 0 if children else idle + 1
        alive = _select_survivors([*alive, *fresh], settings)
    return found


Scored = list[tuple[float, str]]  # gain, larger is better, and text


def _select_survivors(scored: Scored, settings: GeneticSettings) -> Scored:
    """The best, ties in the order of the text so that nothing depends on the order of calls."""
    return sorted(scored, key=lambda one: (-one[0], one[1]))[: settings.population]


def _have_equal_length(texts: Sequence[str]) -> bool:
    return len({len(text.split()) for text in texts}) == 1


@dataclass(frozen=True, slots=True)
class _Breeder:
    """Makes children of survivors by crossover and mutation."""

    stream: Random
    settings: GeneticSettings
    alphabet: Sequence[str]
    equal: bool

    def __call__(self, alive: Scored) -> str:
        child = self._parent(alive)
        if self.stream.random() < self.settings.crossover:
            child = self._crossed(child, self._parent(alive))
        return " ".join(self._mutated(child))

    def _parent(self, alive: Scored) -> list[str]:
        return alive[min(self.stream.randrange(len(alive)) for _ in range(self.settings.tournament))][1].split()

    def _crossed(self, one: list[str], other: list[str]) -> list[str]:
        """Two-point crossover: a stretch of the one gives way to a stretch of the other."""
        first, last = sorted(self.stream.randrange(len(one) + 1) for _ in range(2))
        begin, end = (first, last) if self.equal else sorted(self.stream.randrange(len(other) + 1) for _ in range(2))
        return [*one[:first], *other[begin:end], *one[last:]]

    def _mutated(self, tokens: list[str]) -> list[str]:
        chance, child = self.settings.mutations / max(1, len(tokens)), list[Any]()
        for token in tokens:
            if self.stream.random() >= chance:
                child.append(token)
                continue
            kind = "replace" if self.equal else self.stream.choice(("replace", "insert", "delete"))
            child += [token] if kind == "insert" else []
            child += [] if kind == "delete" else [self.stream.choice(self.alphabet)]
        return child
