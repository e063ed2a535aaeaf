"""Sequences of one split as one packed tensor, and the batches that they make."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Literal, overload

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from lso.vae.errors import DataError
from lso.vae.vocabulary import PAD

Lengths = Literal["equal", "near"]


class Corpus:
    """Sequences of token numbers, packed: no padding is stored, and choosing some of them copies no token.

    Args:
        tokens: ``(total,)`` int32, one sequence after another, each with its start and end symbol.
        starts: ``(n,)`` where each begins.
        lengths: ``(n,)`` tokens of each, on the CPU, so that the shape of a batch is known without asking a GPU.
    """

    def __init__(self, tokens: Int[Tensor, " total"], starts: Int[Tensor, " n"], lengths: Int[Tensor, " n"]) -> None:
        self.tokens, self.starts, self.lengths = tokens, starts.to(tokens.device), lengths.cpu()
        self._sizes = self.lengths.to(tokens.device, non_blocking=True)
        self._equal: dict[int, list[Tensor]] = {}  # batches of equal length, which aggressive training asks for often

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> "Corpus":
        """Pack sequences."""
        flat, lengths = array("i"), []
        for sequence in sequences:
            flat.extend(sequence)
            lengths.append(len(sequence))
        if not flat:
            raise DataError("expected at least one sequence, got none", "Give a file with one sequence a line.")
        sizes = torch.tensor(lengths)
        return cls(torch.frombuffer(flat, dtype=torch.int32), sizes.cumsum(0) - sizes, sizes)

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"Corpus({len(self):,} sequences of at most {self.shape[1]} tokens, on {self.device})"

    @overload
    def __getitem__(self, rows: int) -> Tensor: ...

    @overload
    def __getitem__(self, rows: slice | Tensor) -> "Corpus": ...

    def __getitem__(self, rows: int | slice | Tensor) -> "Corpus | Tensor":
        """Some of the sequences, in the order of ``rows``, no token copied; or one, ``(length,)`` int64."""
        if isinstance(rows, int):
            begin, length = int(self.starts[rows]), int(self.lengths[rows])
            return self.tokens[begin : begin + length].long()
        here = rows if isinstance(rows, slice) else rows.cpu()
        there = here if isinstance(here, slice) else here.to(self.device, non_blocking=True)  # no wait for a GPU
        return Corpus(self.tokens, self.starts[there], self.lengths[here])

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, longest)``, that of `padded`."""
        return len(self), int(self.lengths.max()) if len(self) else 0

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return self.tokens.device

    def to(self, device: torch.device | str) -> "Corpus":
        """The same on a device."""
        return Corpus(self.tokens.to(device), self.starts.to(device), self.lengths)

    def padded(self) -> Int[Tensor, "n longest"]:
        """All sequences as one matrix, filled up with ``<pad>``."""
        column = torch.arange(self.shape[1], device=self.device)
        inside = column < self._sizes[:, None]
        # Past its end a sequence reads a token of another, or the last one: any that exists, as it is masked.
        where = (self.starts[:, None] + column).clamp(max=len(self.tokens) - 1)
        return torch.where(inside, self.tokens[where].long(), PAD)

    def packed(self) -> "Corpus":
        """The same with the tokens of the chosen sequences alone, in order."""
        row = torch.repeat_interleave(torch.arange(len(self), device=self.device), self._sizes)
        first = (self._sizes.cumsum(0) - self._sizes).to(self.device)
        where = self.starts[row] + torch.arange(len(row), device=self.device) - first[row]
        return Corpus(self.tokens[where], first, self.lengths)

    def hash(self) -> str:
        """sha256 over the tokens and lengths of the chosen sequences."""
        own = self.packed()
        digest = hashlib.sha256(f"corpus {len(own)}".encode())
        for part in (own.tokens, own.lengths):
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def groups(self, size: int, lengths: Lengths = "equal", stream: Generator | None = None) -> list[Tensor]:
        """Batches of sequences of like length, in the order of their lengths.

        Args:
            size: sequences in one, at most.
            lengths: ``"equal"``: of exactly one length, no padding; the batches are the same whatever the stream, as He
                et al. (2019) have them. ``"near"``: all but the last are full and padded to their longest, sequences of
                one length being shuffled among them by the stream.
            stream: of that shuffle; None keeps the order of the corpus.
        Returns:
            Row numbers, on the CPU.
        """
        if lengths == "equal":
            if size not in self._equal:
                self._equal[size] = self._of_equal_length(size)
            return list(self._equal[size])
        mixed = torch.arange(len(self)) if stream is None else torch.randperm(len(self), generator=stream)
        order = mixed[torch.sort(self.lengths[mixed], stable=True).indices]
        return list(torch.split(order, size))

    def _of_equal_length(self, size: int) -> list[Tensor]:
        order = torch.sort(self.lengths, stable=True).indices
        _, counts = torch.unique_consecutive(self.lengths[order], return_counts=True)
        return [part for group in torch.split(order, counts.tolist()) for part in torch.split(group, size)]
