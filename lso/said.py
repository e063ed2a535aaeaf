"""What a search over sequences has to say: each target and its best decode as texts, and how many tokens differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain
from typing import TYPE_CHECKING

from jaxtyping import Bool, Int
from torch import Tensor

from lso import edits

if TYPE_CHECKING:
    from lso.decoder import Decoder

Marked = list[tuple[str, bool]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """Targets beside what the best ends decode to.

    Args:
        target: texts.
        best: texts.
        edits: ``(T,)`` tokens to insert, delete or replace.
        tokens: ``(T,)`` of the targets.
    """

    target: list[str]
    best: list[str]
    edits: Int[Tensor, " target"]
    tokens: Int[Tensor, " target"]

    @property
    def exact(self) -> Bool[Tensor, " target"]:
        """``(T,)`` whether the target was reproduced token for token."""
        return self.edits == 0


def said(decoder: "Decoder", targets: Tensor | None, decoded: Tensor) -> Said | None:
    """Targets beside the best ends, where they are sequences.

    Args:
        decoder: of the search.
        targets: ``(T, length)`` token numbers, or None.
        decoded: ``(T, longest)`` of the best ends.
    Returns:
        None for other data, and without targets.
    """
    if decoder.vocabulary is None or targets is None:
        return None
    return Said(
        target=decoder.texts(targets),
        best=decoder.texts(decoded),
        edits=edits.edits(targets.cpu(), decoded.cpu()),
        tokens=edits.sizes(targets.cpu()),
    )


def marked(decoder: "Decoder", decoded: Tensor, target: Tensor | None) -> Marked:
    """A decode as pieces of text, each with whether the target has it too.

    Args:
        decoder: of the search.
        decoded: ``(longest,)`` token numbers.
        target: ``(length,)``; None marks nothing.
    Returns:
        Pieces that make the text, and whether each is not the target's.
    """
    assert decoder.vocabulary is not None
    joiner, tokens = decoder.vocabulary.joiner, decoder.vocabulary.decode(decoded.long().tolist())
    if target is None:
        return [(joiner.join(tokens), False)]
    wanted = decoder.vocabulary.decode(target.long().tolist())
    same = SequenceMatcher(None, wanted, tokens, autojunk=False).get_matching_blocks()
    shared = set(chain.from_iterable(range(block.b, block.b + block.size) for block in same))
    return _pieces(tokens, [i not in shared for i in range(len(tokens))], joiner)


def _pieces(tokens: Sequence[str], off: Sequence[bool], joiner: str) -> Marked:
    """Runs of tokens that are alike."""
    found: Marked = []
    for token, different in zip(tokens, off, strict=True):
        if found and found[-1][1] == different:
            found[-1] = (found[-1][0] + joiner + token, different)
        else:
            found.append(((joiner if found else "") + token, different))
    return found
