"""Data with their values, for retraining: scored training data and objects that searches found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lso.black_box.result import SearchResult
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Data, concatenate_data, take_batch, to_unit
from lso.vae.errors import RunError
from lso.vae.utils.files import replace_file
from lso.vae.utils.integrity import digest
from lso.vae.utils.reading import SEAL
from lso.vae.vocabulary import END, PAD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledData:
    """Data with their values.

    Args:
        x: images or sequences, as training has them.
        value: ``(n,)`` double, NaN for an invalid datum.
    """

    x: Data
    value: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.value)

    def __add__(self, other: "LabelledData") -> "LabelledData":
        return LabelledData(x=concatenate_data(self.x, other.x), value=torch.cat([self.value, other.value]))

    def seen(self) -> Tensor:
        """The data as an encoder takes them, images in [0, 1]."""
        return to_unit(take_batch(self.x, slice(None)))


EMPTY = LabelledData(x=torch.zeros(0), value=torch.zeros(0, dtype=torch.float64))


@torch.no_grad()
def label_found_objects(result: SearchResult, like: Data, binary: bool) -> LabelledData:
    """The distinct valid objects of a search, decoded once more.

    Args:
        result: of the search.
        like: training data, of whose kind they are to be.
        binary: whether pixels are rounded to 0 and 1.
    Returns:
        The objects in the order of their calls, those that earlier searches had scored left out.
    """
    fresh = [record for record in result.records if record.valid and record.duplicate_of is None]
    value = torch.tensor([record.value for record in fresh], dtype=torch.float64)
    if not fresh:
        return LabelledData(x=like[slice(0, 0)], value=value)
    z = torch.tensor([record.z for record in fresh], dtype=torch.float64)
    if isinstance(like, Corpus):
        return LabelledData(x=_strip_padding(result.objective.decoder.tokens(z)), value=value)
    x = result.objective.decode(z).clamp(0, 1)
    x = x.round() if binary else x
    return LabelledData(
        x=(255 * x).round().to(torch.uint8) if like.dtype == torch.uint8 else x.to(like.dtype), value=value
    )


def _strip_padding(tokens: Tensor) -> Corpus:
    """Sequences without their padding; one that was cut off has no end symbol."""
    rows = tokens.tolist()
    return Corpus.of([row[: row.index(END) + 1] if END in row else [t for t in row if t != PAD] for row in rows])


def save_labelled(data: LabelledData, path: Path) -> None:
    """Write data and values to a safetensors file, with a hash of the content."""
    from safetensors.torch import save as packed

    tensors = {"x": take_batch(data.x, slice(None)).contiguous(), "value": data.value}
    if isinstance(data.x, Corpus):
        tensors["lengths"] = data.x.lengths.contiguous()
    replace_file(path, packed(tensors, metadata={SEAL: _seal(tensors)}))


def _seal(tensors: Mapping[str, Tensor]) -> str:
    """The hash of the file's content, kept in its header, by which a changed value is detected."""
    parts = [f"{name} {tuple(x.shape)} {x.dtype}".encode() + x.numpy().tobytes() for name, x in sorted(tensors.items())]
    return digest(b"".join(parts))


def load_labelled(path: Path) -> LabelledData:
    """Read data and values from a file of `save_labelled`, checking the hash."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            seal = (file.metadata() or {}).get(SEAL)
        if seal is not None and seal != _seal(tensors):  # earlier versions wrote none
            raise ValueError("its content is not what lso wrote")
        x = tensors["x"]
        if x.ndim < 1 or tensors["value"].shape != x.shape[:1] or tensors["value"].dtype != torch.float64:
            raise ValueError("expected a value for each datum")
        if "lengths" not in tensors:
            return LabelledData(x=x, value=tensors["value"])
        lengths = tensors["lengths"]
        starts = torch.arange(len(x)) * x.shape[1]
        return LabelledData(x=Corpus(x.flatten().int(), starts, lengths).packed(), value=tensors["value"])
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"cannot read {path}: {error}", "The file is damaged; restore it or begin anew.") from None


def load_or_make(path: Path, make: Callable[[], LabelledData]) -> LabelledData:
    """Load data from a file, after making it if it is missing."""
    if not path.is_file():
        save_labelled(make(), path)
    return load_labelled(path)
