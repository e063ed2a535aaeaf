"""The token sequences of a split, packed into one tensor, and their batches of like length."""

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
    """Sequences of token numbers, packed: no padding is stored, and a selection of them copies no tokens.

    Args:
        tokens: ``(total,)`` int32, one sequence after another, each with its start and end symbol.
        starts: ``(n,)`` index of each sequence's first token.
        lengths: ``(n,)`` number of tokens of each, on the CPU, so that a batch's shape is known without a GPU sync.
    """

    def __init__(self, tokens: Int[Tensor, " total"], starts: Int[Tensor, " n"], lengths: Int[Tensor, " n"]) -> None:
        self.tokens, self.starts, self.lengths = tokens, starts.to(tokens.device), lengths.cpu()
        self._sizes = self.lengths.to(tokens.device, non_blocking=True)
        # Batches of equal length by batch size: aggressive training draws one of them in every inner step.
        self._equal: dict[int, list[Tensor]] = {}

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> "Corpus":
        """Pack sequences of token numbers; at least one."""
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
        """One sequence, ``(length,)`` int64; or a corpus of some, in the order of ``rows``, which copies no tokens."""
        if isinstance(rows, int):
            begin, length = int(self.starts[rows]), int(self.lengths[rows])
            return self.tokens[begin : begin + length].long()
        on_cpu = rows if isinstance(rows, slice) else rows.cpu()
        on_device = on_cpu if isinstance(on_cpu, slice) else on_cpu.to(self.device, non_blocking=True)  # no GPU sync
        return Corpus(self.tokens, self.starts[on_device], self.lengths[on_cpu])

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, longest)``, the shape of `padded`."""
        return len(self), int(self.lengths.max()) if len(self) else 0

    @property
    def device(self) -> torch.device:
        """The device that holds the tokens."""
        return self.tokens.device

    def to(self, device: torch.device | str) -> "Corpus":
        """The corpus on a device."""
        return Corpus(self.tokens.to(device), self.starts.to(device), self.lengths)

    def padded(self) -> Int[Tensor, "n longest"]:
        """All sequences as one matrix, padded with ``<pad>`` to the longest."""
        column = torch.arange(self.shape[1], device=self.device)
        inside = column < self._sizes[:, None]
        # Positions past the end of a sequence may index any token that exists, as they are masked.
        index = (self.starts[:, None] + column).clamp(max=len(self.tokens) - 1)
        return torch.where(inside, self.tokens[index].long(), PAD)

    def packed(self) -> "Corpus":
        """A corpus that holds the tokens of these sequences only, in their order; a selection holds all tokens."""
        row = torch.repeat_interleave(torch.arange(len(self), device=self.device), self._sizes)
        starts = (self._sizes.cumsum(0) - self._sizes).to(self.device)
        index = self.starts[row] + torch.arange(len(row), device=self.device) - starts[row]
        return Corpus(self.tokens[index], starts, self.lengths)

    def hash(self) -> str:
        """sha256 over the tokens and lengths of these sequences."""
        packed = self.packed()
        digest = hashlib.sha256(f"corpus {len(packed)}".encode())
        for part in (packed.tokens, packed.lengths):
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def groups(self, size: int, lengths: Lengths = "equal", stream: Generator | None = None) -> list[Tensor]:
        """Batches of at most ``size`` sequences of like length, as row numbers on the CPU, the shortest first.

        Args:
            size: largest number of sequences in a batch.
            lengths: ``"equal"``: every batch has sequences of one length and no padding, and is the same whatever the
                stream, as in He et al. (2019). ``"near"``: all batches but the last are full and padded to their
                longest sequence; the stream shuffles which sequences of one length come together.
            stream: of that shuffle; None keeps the order of the corpus.
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
