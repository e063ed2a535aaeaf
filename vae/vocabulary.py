"""What the numbers of a sequence stand for. Torch-free.

A sequence is ``<s> token ... token </s>``; shorter ones of a batch are filled up with ``<pad>``.
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
        tokens: number -> token; the first four are `SPECIALS`.
        joiner: what stands between the tokens of a text: a space between words, nothing between characters.
    Raises:
        UsageError: if the specials do not come first, or a token stands twice.
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
        """The vocabulary of given tokens, in their order.

        Args:
            tokens: without the specials; those among them are left out, as they have their numbers.
            joiner: see the class.
        Returns:
            The vocabulary.
        """
        return cls((*SPECIALS, *(token for token in dict.fromkeys(tokens) if token not in SPECIALS)), joiner)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The numbers of a sequence, start and end included; a token that is not known is ``<unk>``."""
        known = self.numbers
        return [START, *(known.get(token, UNKNOWN) for token in tokens), END]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The tokens of numbers up to the end symbol, without start and padding."""
        found = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, START):
                found.append(self.tokens[number])
        return found

    def text(self, numbers: Iterable[int]) -> str:
        """`decode`, joined."""
        return self.joiner.join(self.decode(numbers))

    def hash(self) -> str:
        """sha256 over the tokens in their order, and the joiner."""
        return hashlib.sha256("\0".join((self.joiner, *self.tokens)).encode()).hexdigest()
