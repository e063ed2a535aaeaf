"""Datasets: three splits, where they came from, and how pixels or packed sequences become what the model sees."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from lso.vae.config.architectures import Kind
from lso.vae.data.corpus import Corpus, Lengths
from lso.vae.distributions.categorical import tokens_of
from lso.vae.errors import DataError
from lso.vae.utils.random import generator
from lso.vae.vocabulary import Vocabulary

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Data = Tensor | Corpus  # of a split: images one behind the other, or packed sequences


def to_unit(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Pixels in [0, 1]: bytes are divided by 255, floats pass, and so do the numbers of tokens (``int64``)."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def binarize(x: Shaped[Tensor, "*shape"], seed: int, purpose: str) -> Float[Tensor, "*shape"]:
    """One fixed Bernoulli draw of every pixel, a function of the seed alone."""
    probability = to_unit(x).cpu()
    return (torch.rand(x.shape, generator=generator(seed, f"binarize/{purpose}")) < probability).float()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Three splits of images or sequences, ready for the model.

    Validation and test are final: where the protocol binarizes, they are binarized already. Training data stay
    real-valued under dynamic binarization, which draws anew for every batch.

    Args:
        name: for reports, e.g. ``"digits"``.
        train: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1]; or a `Corpus`.
        validation: as ``train``.
        test: as ``train``.
        provenance: where the data came from: source, checksums, counts, what was skipped or substituted.
        labels: class labels of the splits where known, ``(n,)`` integers.
        vocabulary: of sequences.
    Raises:
        DataError: if a split is empty, holds pixels outside [0, 1], or the splits differ in shape or kind.
    """

    name: str
    train: Data
    validation: Data
    test: Data
    provenance: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        for name in SPLITS:
            if self.vocabulary is None:
                self._check(name)
            elif not isinstance(self.split(name), Corpus) or len(self.split(name)) == 0:
                raise DataError(
                    f"dataset {self.name!r}: split {name} holds no sequences", "Every split needs at least one."
                )

    @property
    def kind(self) -> Kind:
        """``"sequence"`` where there is a vocabulary, else ``"image"``."""
        return "image" if self.vocabulary is None else "sequence"

    def _check(self, name: Split) -> None:
        x = self.pixels(name)
        if x.ndim != 4:
            raise DataError(
                f"dataset {self.name!r}: split {name} has shape {tuple(x.shape)}, "
                "expected images (n, channels, height, width)",
                "Grey images have one channel: x[:, None]. Sequences need a vocabulary.",
            )
        if len(x) == 0 or x.shape[1:] != self.train.shape[1:]:
            raise DataError(
                f"dataset {self.name!r}: split {name} has shape {tuple(x.shape)}, expected (n >= 1, "
                f"{', '.join(map(str, self.train.shape[1:]))})",
                "Every split needs at least one datum of one common shape.",
            )
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise DataError(
                f"dataset {self.name!r}: split {name} is {x.dtype}, expected uint8 or floating pixels in [0, 1]",
                "Convert it: bytes with .to(torch.uint8), others with .float() / largest.",
            )
        low, high = x.aminmax()
        if x.is_floating_point() and not (low >= 0 and high <= 1):
            raise DataError(
                f"dataset {self.name!r}: split {name} has pixels from {low:g} to {high:g}, expected [0, 1] and no NaN",
                "Rescale it: (x - x.min()) / (x.max() - x.min()), or give bytes.",
            )

    def split(self, name: Split) -> Data:
        """One split by name.

        Args:
            name: ``"train"``, ``"validation"`` or ``"test"``.
        Returns:
            ``(n, ...)``.
        """
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def pixels(self, name: Split) -> Tensor:
        """One split of images.

        Args:
            name: of the split.
        Returns:
            ``(n, channels, height, width)``.
        Raises:
            DataError: if the dataset holds sequences.
        """
        x = self.split(name)
        if isinstance(x, Corpus):
            raise DataError(f"dataset {self.name!r} holds sequences, expected images", "Give a dataset of images.")
        return x

    def corpus(self, name: Split) -> Corpus:
        """One split of sequences.

        Args:
            name: of the split.
        Returns:
            Packed sequences.
        Raises:
            DataError: if the dataset holds images.
        """
        x = self.split(name)
        if not isinstance(x, Corpus):
            raise DataError(f"dataset {self.name!r} holds images, expected sequences", "Give a dataset of sequences.")
        return x

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a datum: ``(channels, height, width)`` of images, ``(longest, words)`` of sequences."""
        if self.vocabulary is None:
            return tuple(self.train.shape[1:])
        return max(self.split(name).shape[1] for name in SPLITS), len(self.vocabulary)

    def hash(self) -> str:
        """sha256 over the bytes, shapes and types of the three splits, and the vocabulary.

        Returns:
            64 hexadecimal digits.
        """
        digest = hashlib.sha256()
        digest.update(self.vocabulary.hash().encode() if self.vocabulary else b"")
        for name in SPLITS:
            x = self.split(name)
            if isinstance(x, Corpus):
                digest.update(f"{name} {x.hash()}".encode())
                continue
            x = x.contiguous().cpu()
            digest.update(f"{name} {tuple(x.shape)} {x.dtype}".encode())
            digest.update(x.numpy().tobytes())
        return digest.hexdigest()


def join(first: Data, second: Data) -> Data:
    """Two lots of data, one behind the other."""
    if isinstance(first, Corpus) and isinstance(second, Corpus):
        starts = torch.cat([first.starts, second.starts + len(first.tokens)])
        lengths = torch.cat([first.lengths, second.lengths])
        return Corpus(torch.cat([first.tokens, second.tokens]), starts, lengths)
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    return torch.cat([first, second])


# --- what is taken from a split at a time -----------------------------------------------------------------------------


def take(data: Data, rows: Tensor | slice) -> Tensor:
    """Some of a split as one tensor, sequences padded to the longest of them."""
    part = data[rows]
    return part.padded() if isinstance(part, Corpus) else part


def batches(data: Data, size: int, stream: Generator, lengths: Lengths = "equal") -> list[Tensor]:
    """The training batches of an epoch, in a random order: all data once.

    Args:
        data: a split.
        size: data in a batch, at most.
        stream: of the order; an image's batch is random, those of sequences as `Corpus.groups` has them.
        lengths: of the sequences of a batch.
    Returns:
        Row numbers of each batch, where `take` needs them.
    """
    if isinstance(data, Corpus):
        groups = data.groups(size, lengths, stream)
        return [groups[i] for i in torch.randperm(len(groups), generator=stream).tolist()]
    return list(torch.split(torch.randperm(len(data), generator=stream).to(data.device), size))


def steps(data: Data, size: int, lengths: Lengths = "equal") -> int:
    """How many batches `batches` makes."""
    if isinstance(data, Corpus) and lengths == "equal":
        return len(data.groups(size, lengths))
    return -(-len(data) // size)


def draw_batch(data: Data, size: int, stream: Generator, lengths: Lengths = "equal") -> Tensor:
    """One random batch: distinct images, or one of the batches of an epoch of sequences."""
    if isinstance(data, Corpus):
        groups = data.groups(size, lengths, stream)
        return groups[int(torch.randint(len(groups), (), generator=stream))]
    return torch.randperm(len(data), generator=stream)[:size].to(data.device)


def units(data: Data, batch: Tensor) -> int | Tensor:
    """What the summed loss of a batch is divided by to be compared with that of other batches.

    Args:
        data: the split that it is from.
        batch: of it, as `take` gives.
    Returns:
        The number of images; of sequences that of the tokens that are predicted, as the batches of a corpus differ in
        length (He et al. 2019, authors' code), ``()`` on its device.
    """
    return tokens_of(batch).sum() if isinstance(data, Corpus) else len(batch)


def passes(data: Data, size: int) -> list[Tensor | slice]:
    """A split in parts for measuring: images in their order, sequences by length, so that little is padded."""
    if isinstance(data, Corpus):
        return list(data.groups(size, "near"))
    return [slice(start, start + size) for start in range(0, len(data), size)]
