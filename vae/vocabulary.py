"""Vocabularies: the tokens that the numbers of a sequence stand for. Torch-free.

A sequence is ``<s> token ... token </s>``; the shorter ones of a batch are padded with ``<pad>``.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lso.vae.errors import UsageError

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END, UNKNOWN = range(4)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens and their numbers.

    Args:
        tokens: number -> token; the first four are `SPECIALS`, and all are distinct.
        joiner: text between the tokens of a sequence: a space between words, nothing between characters.
    """

    tokens: tuple[str, ...]
    joiner: str = " "
    numbers: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {token: number for number, token in enumerate(self.tokens)}
        if self.tokens[: len(SPECIALS)] != SPECIALS or len(numbers) != len(self.tokens):
            raise UsageError(
                f"expected a vocabulary of distinct tokens that begins with {' '.join(SPECIALS)}",
                "Build it with Vocabulary.of(tokens).",
            )
        object.__setattr__(self, "numbers", numbers)

    @classmethod
    def of(cls, tokens: Iterable[str], joiner: str = " ") -> "Vocabulary":
        """The vocabulary of the specials and then these tokens in order, each once."""
        return cls((*SPECIALS, *(token for token in dict.fromkeys(tokens) if token not in SPECIALS)), joiner)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The numbers of a sequence, start and end included; an unknown token becomes ``<unk>``."""
        known = self.numbers
        return [START, *(known.get(token, UNKNOWN) for token in tokens), END]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The tokens of numbers up to the end symbol, without start and padding."""
        tokens = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, START):
                tokens.append(self.tokens[number])
        return tokens

    def text(self, numbers: Iterable[int]) -> str:
        """The tokens of `decode`, joined to a text."""
        return self.joiner.join(self.decode(numbers))

    def hash(self) -> str:
        """sha256 over the joiner and the tokens in their order."""
        return hashlib.sha256("\0".join((self.joiner, *self.tokens)).encode()).hexdigest()
