"""Tokenizers, which split a line of text into tokens, and the joiners that put it together again. Torch-free."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from lso.tasks.goals import import_function
from lso.vae.errors import LsoError, UsageError, unknown_name
from lso.vae.utils.trust import Trust, require_trust

Split = Callable[[str], Sequence[str]]
CANDIDATE_JOINERS = (" ", "")  # tried where a tokenizer states no joiner
TOKENIZER_CONTRACT = "A tokenizer takes a text and returns a list of strings."
JOINER_SAMPLE = 500  # number of lines on which the candidates are tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """A function that splits text into tokens, and the string that joins them again."""

    name: str  # as the configuration has it
    split: Split
    joiner: str | None = None  # what stands between tokens in text; None is decided by `choose_joiner`
    summary: str = "your own"  # one line for lists


TOKENIZERS: Mapping[str, Tokenizer] = {
    "words": Tokenizer(name="words", split=str.split, joiner=" ", summary="split at white space"),
    "characters": Tokenizer(name="characters", split=list, joiner="", summary="each character, spaces too"),
    "selfies": Tokenizer(
        # Text outside of brackets is split into characters, so that none is lost.
        name="selfies",
        split=re.compile(r"\[[^\]]*\]|.", re.DOTALL).findall,
        joiner="",
        summary="each [symbol] of a molecule's SELFIES",
    ),
}


def tokenizer(what: str | Split, trust: Trust = True) -> Tokenizer:
    """A built-in tokenizer by name, or one made of a user's function.

    Args:
        what: row of `TOKENIZERS`, ``"module:function"`` (imported, also from the current folder), or the function
            itself: text -> list of strings. If the function has an attribute ``joiner``, that joins its tokens.
        trust: whether a name ``module:function`` may be imported, or which names: a file must not decide what is run.
    Raises:
        UsageError: if there is no tokenizer of that name, or it is not trusted.
    """
    if isinstance(what, str):
        if what in TOKENIZERS:
            return TOKENIZERS[what]
        if ":" not in what:
            raise unknown_name("tokenizer", what, [*TOKENIZERS, "module:function"])
        require_trust(what, "tokenizer", trust)
        return Tokenizer(name=what, split=(found := import_function(what, "tokenizer")), joiner=_stated_joiner(found))
    module, name = getattr(what, "__module__", None), getattr(what, "__qualname__", type(what).__qualname__)
    return Tokenizer(name=f"{module or type(what).__module__}:{name}", split=what, joiner=_stated_joiner(what))


def _stated_joiner(split: Split) -> str | None:
    joiner = getattr(split, "joiner", None)
    return joiner if isinstance(joiner, str) else None


def tokenize_lines(lines: Sequence[str], chosen: Tokenizer) -> list[Sequence[str]]:
    """Split each line into tokens, and check that the tokenizer gives lists of strings."""
    try:
        tokens = list(map(chosen.split, lines))
    except LsoError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise UsageError(
            f"the tokenizer {chosen.name} failed: {type(error).__name__}: {error}", TOKENIZER_CONTRACT
        ) from None
    if set(map(type, tokens)) - {list, tuple} or set(map(type, chain.from_iterable(tokens))) - {str}:
        raise UsageError(
            f"the tokenizer {chosen.name} returned something else than lists of strings", TOKENIZER_CONTRACT
        )
    return tokens


def choose_joiner(chosen: Tokenizer, lines: Sequence[str]) -> tuple[str, bool]:
    """Decide what to put between tokens so that decoded text reads like the original.

    That is the tokenizer's own joiner, else a space or nothing, whichever reproduces more of the first 500 lines. The
    second value says whether it reproduces all of them, apart from spaces at their ends.
    """
    sample = [line.strip() for line in lines[:JOINER_SAMPLE]]
    tokens = tokenize_lines(sample, chosen)
    tried = CANDIDATE_JOINERS if chosen.joiner is None else (chosen.joiner,)
    right = {
        joiner: sum(joiner.join(found).strip() == line for found, line in zip(tokens, sample, strict=True))
        for joiner in tried
    }
    best = max(right, key=lambda joiner: right[joiner])
    return best, right[best] == len(sample)
