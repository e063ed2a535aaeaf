"""What splits a line of text into tokens, and what puts it together again. Torch-free."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from lso.tasks.goals import imported
from lso.vae.errors import LsoError, UsageError, unknown_name
from lso.vae.utils.trust import Trust, require_trust

Split = Callable[[str], Sequence[str]]
JOINERS = (" ", "")  # those tried where a tokenizer states none
EXPECTED = "It takes a text and gives a list of strings."
SAMPLE = 500  # lines that they are tried on


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """A way to split text.

    Args:
        name: what the configuration says.
        split: text -> tokens.
        joiner: what stands between tokens in text; None is found by trying, see `joiner_for`.
        summary: one line for lists.
    """

    name: str
    split: Split
    joiner: str | None = None
    summary: str = "your own"


TOKENIZERS: Mapping[str, Tokenizer] = {
    "words": Tokenizer(name="words", split=str.split, joiner=" ", summary="split at white space"),
    "characters": Tokenizer(name="characters", split=list, joiner="", summary="each character, spaces too"),
    "selfies": Tokenizer(
        # What stands outside of brackets is split into characters, so that no text is lost.
        name="selfies",
        split=re.compile(r"\[[^\]]*\]|.", re.DOTALL).findall,
        joiner="",
        summary="each [symbol] of a molecule's SELFIES",
    ),
}


def tokenizer(what: str | Split, trust: Trust = True) -> Tokenizer:
    """A tokenizer by name, or one of the user's.

    Args:
        what: row of `TOKENIZERS`, ``"module:function"`` (imported, also from the current folder), or the function
            itself: text -> list of strings. Its attribute ``joiner``, if it has one, is what stands between tokens.
        trust: which of such names may be imported; one that a file gives needs the user's word.
    Returns:
        The tokenizer.
    Raises:
        UsageError: if there is none of that name, or it is not to be trusted.
    """
    if isinstance(what, str):
        if what in TOKENIZERS:
            return TOKENIZERS[what]
        if ":" not in what:
            raise unknown_name("tokenizer", what, [*TOKENIZERS, "module:function"])
        require_trust(what, "tokenizer", trust)
        return Tokenizer(name=what, split=(found := imported(what, "tokenizer")), joiner=_stated(found))
    module, name = getattr(what, "__module__", None), getattr(what, "__qualname__", type(what).__qualname__)
    return Tokenizer(name=f"{module or type(what).__module__}:{name}", split=what, joiner=_stated(what))


def _stated(split: Split) -> str | None:
    joiner = getattr(split, "joiner", None)
    return joiner if isinstance(joiner, str) else None


def split_all(lines: Sequence[str], chosen: Tokenizer) -> list[Sequence[str]]:
    """The tokens of each line."""
    try:
        found = list(map(chosen.split, lines))
    except LsoError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise UsageError(f"the tokenizer {chosen.name} failed: {type(error).__name__}: {error}", EXPECTED) from None
    if set(map(type, found)) - {list, tuple} or set(map(type, chain.from_iterable(found))) - {str}:
        raise UsageError(f"the tokenizer {chosen.name} gives other than lists of strings", EXPECTED)
    return found


def joiner_for(chosen: Tokenizer, lines: Sequence[str]) -> tuple[str, bool]:
    """What to put between tokens so that decoded text reads as the original.

    Args:
        chosen: tokenizer.
        lines: text to try it on; the first 500 are.
    Returns:
        The joiner: the tokenizer's own, else a space or nothing, whichever gives more of the lines back; and whether
        it gives all of them back, but for spaces at their ends.
    """
    sample = [line.strip() for line in lines[:SAMPLE]]
    tokens = split_all(sample, chosen)
    tried = JOINERS if chosen.joiner is None else (chosen.joiner,)
    right = {
        joiner: sum(joiner.join(found).strip() == line for found, line in zip(tokens, sample, strict=True))
        for joiner in tried
    }
    best = max(right, key=lambda joiner: right[joiner])
    return best, right[best] == len(sample)
