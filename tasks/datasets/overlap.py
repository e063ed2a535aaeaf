"""Counts the data that stand in more than one split, such as test images that are training images too.

Every dataset is checked when it is loaded, and its notes say what was found.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from lso.vae.config.architectures import Kind
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import SPLITS, Data, Dataset, Split
from lso.vae.utils.validation import pluralize

DIGEST_BYTES = 16  # of the hash that stands for a datum: among a million, two agree by chance once in 10^26 times


def count_overlap(splits: Mapping[str, Data]) -> dict[str, int]:
    """Count the data of validation and test that an earlier split holds too, to the last pixel or token.

    The splits are to be given before binarization. Each datum is hashed once: 0.2 s for the 70,000 images of MNIST,
    0.15 s for 120,000 sentences. Gives ``{"validation in train": n, "test in train": n, "test in validation": n}``.
    """
    digests = {name: list(_digests(splits[name])) for name in SPLITS}
    distinct = {name: set(of_split) for name, of_split in digests.items()}
    return {
        f"{late} in {early}": sum(map(distinct[early].__contains__, digests[late])) for early, late in _split_pairs()
    }


def _split_pairs() -> Iterator[tuple[Split, Split]]:
    return combinations(SPLITS, 2)


def _digests(data: Data) -> Iterator[bytes]:
    rows = _sequences(data) if isinstance(data, Corpus) else _bytes(data.detach().flatten(1))
    return (hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in rows)


def _sequences(corpus: Corpus) -> Iterator[Any]:
    flat, size = _bytes(corpus.tokens), corpus.tokens.element_size()
    for start, length in zip(corpus.starts.tolist(), corpus.lengths.tolist(), strict=True):
        yield flat[size * start : size * (start + length)]


def _bytes(x: Tensor) -> Any:
    return x.cpu().contiguous().numpy().view(np.uint8)


def overlap_notes(found: Mapping[str, int], sizes: Mapping[str, int], kind: Kind) -> list[str]:
    """A sentence on the data that splits share, from their counts and the sizes of the splits, if there are any."""
    parts = []
    for early, late in _split_pairs():
        if count := found[f"{late} in {early}"]:
            parts.append(f"{count:,} of {pluralize(sizes[late], f'{late} {kind}')} in {early}")
    if not parts:
        return []
    return [f"Splits share data, to the last {'pixel' if kind == 'image' else 'token'}: {', '.join(parts)}."]


def add_overlap(dataset: Dataset) -> Dataset:
    """Add the overlap of its splits to the provenance of a dataset that the user made, unless it is there."""
    if "overlap" in dataset.provenance:
        return dataset
    overlap = count_overlap({name: dataset.split(name) for name in SPLITS})
    added = overlap_notes(overlap, {name: len(dataset.split(name)) for name in SPLITS}, dataset.kind)
    notes = [*dataset.provenance.get("notes", ()), *added]
    return replace(dataset, provenance={**dataset.provenance, "overlap": overlap, "notes": notes})
