"""Datasets of three splits with their provenance, and the batches in which models take pixels or sequences."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from lso.vae.config.architectures import Kind
from lso.vae.data.corpus import Corpus, Lengths
from lso.vae.distributions.categorical import count_tokens
from lso.vae.errors import DataError
from lso.vae.utils.random import generator
from lso.vae.vocabulary import Vocabulary

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Data = Tensor | Corpus  # of a split: images along the first axis, or packed sequences


def to_unit(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Pixels in [0, 1]: bytes are divided by 255; floats and token numbers (``int64``) are returned as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def binarize(x: Shaped[Tensor, "*shape"], seed: int, purpose: str) -> Float[Tensor, "*shape"]:
    """Binary pixels, each drawn once from the Bernoulli distribution of its grey value by a stream of the seed."""
    probability = to_unit(x).cpu()
    return (torch.rand(x.shape, generator=generator(seed, f"binarize/{purpose}")) < probability).float()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Three splits of images or sequences, ready for a model.

    Where the protocol binarizes, the validation and test splits are binarized already. Training data stay real-valued
    under dynamic binarization, which draws anew for every batch.

    Args:
        name: for reports, e.g. ``"digits"``.
        train: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1]; or a `Corpus`.
        validation: as ``train``.
        test: as ``train``.
        provenance: source of the data, checksums, counts, and what was skipped or substituted.
        labels: split name -> ``(n,)`` integer class labels, where known.
        vocabulary: the tokens of sequences; None for images.
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
            Images, ``(n, channels, height, width)``, or a `Corpus`.
        """
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def pixels(self, name: Split) -> Tensor:
        """One split of images by name.

        Args:
            name: ``"train"``, ``"validation"`` or ``"test"``.
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
        """One split of sequences by name.

        Args:
            name: ``"train"``, ``"validation"`` or ``"test"``.
        Returns:
            The packed sequences.
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


def concatenate_data(first: Data, second: Data) -> Data:
    """The images or sequences of both arguments, the second after the first."""
    if isinstance(first, Corpus) and isinstance(second, Corpus):
        starts = torch.cat([first.starts, second.starts + len(first.tokens)])
        lengths = torch.cat([first.lengths, second.lengths])
        return Corpus(torch.cat([first.tokens, second.tokens]), starts, lengths)
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    return torch.cat([first, second])


# --- batches ----------------------------------------------------------------------------------------------------------


def take_batch(data: Data, rows: Tensor | slice) -> Tensor:
    """Some rows of a split as one tensor; sequences are padded to the longest of them."""
    part = data[rows]
    return part.padded() if isinstance(part, Corpus) else part


def epoch_batches(data: Data, size: int, stream: Generator, lengths: Lengths = "equal") -> list[Tensor]:
    """The training batches of an epoch in random order, which hold all data once, as row numbers for `take_batch`.

    Images are shuffled among batches of at most ``size``; sequences are batched by length, see `Corpus.groups`.
    """
    if isinstance(data, Corpus):
        groups = data.groups(size, lengths, stream)
        return [groups[i] for i in torch.randperm(len(groups), generator=stream).tolist()]
    return list(torch.split(torch.randperm(len(data), generator=stream).to(data.device), size))


def count_batches(data: Data, size: int, lengths: Lengths = "equal") -> int:
    """The number of batches in an epoch, see `epoch_batches`."""
    if isinstance(data, Corpus) and lengths == "equal":
        return len(data.groups(size, lengths))
    return -(-len(data) // size)


def draw_batch(data: Data, size: int, stream: Generator, lengths: Lengths = "equal") -> Tensor:
    """One random batch: distinct images, or one of the batches of an epoch of sequences."""
    if isinstance(data, Corpus):
        groups = data.groups(size, lengths, stream)
        return groups[int(torch.randint(len(groups), (), generator=stream))]
    return torch.randperm(len(data), generator=stream)[:size].to(data.device)


def count_units(data: Data, batch: Tensor) -> int | Tensor:
    """The number of images, or of predicted tokens (0-d, on the device), by which a batch's summed loss is divided.

    Batches of a corpus differ in length, so that losses compare per token only (He et al. 2019, authors' code).
    """
    return count_tokens(batch).sum() if isinstance(data, Corpus) else len(batch)


def split_passes(data: Data, size: int) -> list[Tensor | slice]:
    """A split in parts of at most ``size`` for evaluation: images in order, sequences by length to save padding."""
    if isinstance(data, Corpus):
        return list(data.groups(size, "near"))
    return [slice(start, start + size) for start in range(0, len(data), size)]
