"""Datasets as tensors: three splits, where they came from, and how pixels become what the model sees."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.vae.errors import DataError
from lso.vae.seeds import generator

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def to_unit(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pixels in [0, 1]: bytes are divided by 255, floats pass.

    Args:
        x: ``uint8`` or floating pixels, any shape.
    Returns:
        floating pixels.
    """
    return x.float() / 255 if x.dtype == torch.uint8 else x


def binarize(x: Shaped[Tensor, "*shape"], seed: int, purpose: str) -> Float[Tensor, "*shape"]:
    """One fixed Bernoulli draw of every pixel, a function of the seed alone.

    Args:
        x: pixels as probabilities (see `to_unit`).
        seed: recorded with the run.
        purpose: names the split, so that splits are drawn independently.
    Returns:
        zeros and ones, on the CPU.
    """
    probability = to_unit(x).cpu()
    return (torch.rand(x.shape, generator=generator(seed, f"binarize/{purpose}")) < probability).float()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Three splits of images, ready for the model.

    Validation and test are final: where the protocol binarizes, they are binarized already. Training data stay
    real-valued under dynamic binarization, which draws anew for every batch.

    Args:
        name: for reports, e.g. ``"digits"``.
        train: ``(n, channels, height, width)``, ``uint8`` or floating in [0, 1].
        validation: as ``train``.
        test: as ``train``.
        provenance: where the data came from: source, checksums, counts, what was skipped or substituted.
        labels: class labels of the splits where known, ``(n,)`` integers.
        kind: ``"image"``.
    Raises:
        DataError: if a split is empty, holds pixels outside [0, 1], or the splits differ in shape.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    kind: str = "image"

    def __post_init__(self) -> None:
        for name in SPLITS:
            self._check(name)

    def _check(self, name: Split) -> None:
        x = self.split(name)
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

    def split(self, name: Split) -> Tensor:
        """One split by name.

        Args:
            name: ``"train"``, ``"validation"`` or ``"test"``.
        Returns:
            ``(n, ...)``.
        """
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum, ``(channels, height, width)`` for images."""
        return tuple(self.train.shape[1:])

    def hash(self) -> str:
        """sha256 over the bytes, shapes and types of the three splits.

        Returns:
            64 hexadecimal digits.
        """
        digest = hashlib.sha256()
        for name in SPLITS:
            x = self.split(name).contiguous().cpu()
            digest.update(f"{name} {tuple(x.shape)} {x.dtype}".encode())
            digest.update(x.numpy().tobytes())
        return digest.hexdigest()
