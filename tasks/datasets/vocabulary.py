"""Which tokens a model knows: those of a file, or the commonest of the training data."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from lso.tasks.datasets.line_reader import content, decode
from lso.tasks.datasets.packing import Types
from lso.vae.errors import DataError
from lso.vae.vocabulary import SPECIALS

ONE_A_LINE = "Give a UTF-8 file with one token a line."


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a file.

    Args:
        path: one token a line, packed with gzip or not; blank lines and repeated tokens do not count.
    Returns:
        The tokens in their order, those that are `SPECIALS` left out.
    Raises:
        DataError: if it cannot be read, holds several words a line, or no token.
    """
    return parse_vocabulary(content(path), path.name)


def parse_vocabulary(raw: bytes, name: str) -> list[str]:
    """The tokens of a file's content."""
    lines = decode(raw, name).replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            raise DataError(f"line {number:,} of {name} has several words, expected one token", ONE_A_LINE)
    # A character may be white space; around a longer token it is none of it.
    tokens = [line if len(line) <= 1 else line.strip() for line in lines]
    found = [token for token in dict.fromkeys(tokens) if token and token not in SPECIALS]
    if not found:
        raise DataError(f"{name} has no tokens", ONE_A_LINE)
    return found


def commonest(types: Types, counts: Int[Tensor, " types"], size: int = 0, min_count: int = 1) -> Sequence[str]:
    """Tokens by how often they occur, then by first appearance.

    Args:
        types: distinct tokens.
        counts: of each number, those of the specials included.
        size: tokens to keep at most, the specials not counted; 0 keeps all.
        min_count: occurrences of a token that is kept; at least 1.
    Returns:
        The tokens, those that are `SPECIALS` left out.
    Raises:
        DataError: if none occurs so often.
    """
    tokens = list(types.numbers)
    own = counts[len(SPECIALS) :]
    order = torch.sort(own, descending=True, stable=True).indices
    kept = [tokens[i] for i in order[own[order] >= min_count].tolist() if tokens[i] not in SPECIALS]
    if not kept:
        most = int(own.max()) if len(own) else 0
        raise DataError(
            f"no token occurs {min_count:,} times in training, the commonest {most:,}", "Lower --min-count."
        )
    return kept[:size] if size else kept
