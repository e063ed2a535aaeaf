"""Chooses the tokens of a vocabulary: those of a file, or the most frequent ones of the training data."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from lso.tasks.datasets.line_reader import decode_utf8, read_unpacked
from lso.tasks.datasets.packing import TokenTypes
from lso.vae.errors import DataError
from lso.vae.vocabulary import SPECIALS

ONE_TOKEN_A_LINE = "Give a UTF-8 file with one token a line."


def read_vocabulary(path: Path) -> list[str]:
    """Read the tokens of a file with one token a line, gzipped or not, see `parse_vocabulary`."""
    return parse_vocabulary(read_unpacked(path), path.name)


def parse_vocabulary(raw: bytes, name: str) -> list[str]:
    """The tokens of a file's content in their order, without blank lines, repeated tokens and `SPECIALS`."""
    lines = decode_utf8(raw, name).replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            raise DataError(f"line {number:,} of {name} has several words, expected one token", ONE_TOKEN_A_LINE)
    # A single character may itself be white space; around a longer token white space is no part of it.
    tokens = [line if len(line) <= 1 else line.strip() for line in lines]
    kept = [token for token in dict.fromkeys(tokens) if token and token not in SPECIALS]
    if not kept:
        raise DataError(f"{name} has no tokens", ONE_TOKEN_A_LINE)
    return kept


def commonest_tokens(
    types: TokenTypes, counts: Int[Tensor, " types"], size: int = 0, min_count: int = 1
) -> Sequence[str]:
    """The most frequent tokens, by falling frequency and then by first appearance, without `SPECIALS`.

    Args:
        types: the distinct tokens.
        counts: how often each of their numbers occurs; the specials have the first entries.
        size: largest number of tokens, the specials not counted; 0 keeps all.
        min_count: fewest occurrences of a token that is kept, at least 1.
    """
    tokens = list(types.numbers)
    own = counts[len(SPECIALS) :]
    order = torch.sort(own, descending=True, stable=True).indices
    kept = [tokens[i] for i in order[own[order] >= min_count].tolist() if tokens[i] not in SPECIALS]
    if not kept:
        most = int(own.max()) if len(own) else 0
        raise DataError(
            f"no token occurs {min_count:,} times in the training data; the most frequent one occurs {most:,} times",
            "Lower --min-count.",
        )
    return kept[:size] if size else kept
