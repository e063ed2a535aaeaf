"""Distance between token sequences: the fewest tokens to insert, delete or replace."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.vocabulary import END, PAD

PAIRS = 50_000  # compared at once


def edits(a: Tensor, b: Tensor) -> Int[Tensor, " n"]:
    """Token edit distance (Levenshtein) of pairs of sequences; start, end and padding are no tokens of it.

    Args:
        a: ``(n, length)`` token numbers: start, tokens, end, padding.
        b: ``(n, length)``, of a length of its own.
    Returns:
        ``(n,)``, on the device of ``a``.
    """
    chunks = zip(torch.split(_bodies(a), PAIRS), torch.split(_bodies(b.to(a.device)), PAIRS), strict=True)
    found = [_edits(*pair) for pair in chunks]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=a.device)


def sizes(x: Tensor) -> Int[Tensor, " n"]:
    """Tokens of sequences, without start, end and padding.

    Args:
        x: ``(n, length)``.
    Returns:
        ``(n,)``.
    """
    return (_bodies(x) != PAD).sum(1)


def share(a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
    """Edit distance as a share of the longer sequence.

    Args:
        a: ``(n, length)``.
        b: ``(n, length)``, of a length of its own.
    Returns:
        ``(n,)`` in [0, 1], double; 0 for equal sequences, empty ones too.
    """
    longer = torch.maximum(sizes(a), sizes(b.to(a.device)))
    return edits(a, b).double() / longer.clamp(min=1)


def _bodies(x: Tensor) -> Tensor:
    """Without the start, the end as padding."""
    body = x.long()[:, 1:]
    return torch.where(body == END, PAD, body)


def _edits(a: Tensor, b: Tensor) -> Tensor:
    """Wagner and Fischer (1974) row by row; that a row depends on itself from left to right is a running minimum."""
    sizes_a, sizes_b = (a != PAD).sum(1), (b != PAD).sum(1)
    columns = torch.arange(b.shape[1] + 1, device=a.device)
    row = columns.expand(len(a), -1)
    for i in range(a.shape[1]):
        replaced = row[:, :-1] + (a[:, i : i + 1] != b)
        above = torch.cat([row[:, :1] + 1, torch.minimum(row[:, 1:] + 1, replaced)], 1)
        following = (above - columns).cummin(1).values + columns
        row = torch.where((i < sizes_a)[:, None], following, row)
    return row.gather(1, sizes_b[:, None])[:, 0]
