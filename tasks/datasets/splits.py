"""Which data train, validate and test: the source's own parts completed, then some of them, by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lso.tasks.task import TASKS
from lso.vae.config.architectures import Kind
from lso.vae.data.dataset import SPLITS
from lso.vae.errors import DataError
from lso.vae.utils.random import mix_seed
from lso.vae.utils.validation import pluralize

# Splits are the same whatever the run's seed, so that runs with different seeds are measured on the same data.
SPLIT_SEED = 0
TENTHS = {"train": 8, "validation": 1, "test": 1}
FEWEST = 10  # data that can be split 80/10/10
WHOLE = "all"  # key of data that are not split yet

Part = TypeVar("Part", bound="Rows")


@runtime_checkable  # so that type checks of tests can look at it
class Rows(Protocol):
    """What has rows that can be chosen by number: a tensor, a corpus."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, rows: Tensor, /) -> Any:
        """Those of the given numbers."""


def held_out(n: int, most: int, name: str) -> int:
    """How many training data of a source without a validation part become one: a sixth at most."""
    if n < 6:
        raise DataError(
            f"{name} has only {pluralize(n, 'training image')}, expected at least 6, of which one validates",
            "Give more.",
        )
    return min(most, n // 6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Division:
    """What each split takes.

    Args:
        rows: numbers of the rows of train, validation and test, in the part that each is taken from.
        origin: that part.
        record: for the provenance: how it was done, counts, limits.
        notes: sentences on what was left out.
    """

    rows: Mapping[str, Tensor]
    origin: Mapping[str, str]
    record: Mapping[str, Any]
    notes: Sequence[str]

    def take(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """The splits.

        Args:
            parts: as the source has them; those that are not there are left out.
        Returns:
            train, validation and test, as far as they can be taken.
        """
        there = [name for name in SPLITS if self.origin[name] in parts]
        return {name: _rows(parts[self.origin[name]], self.rows[name]) for name in there}


def permutation(n: int, purpose: str) -> Tensor:
    """A fixed shuffle, of numpy's frozen legacy generator so that it is the same in every version."""
    stream = np.random.RandomState(mix_seed(SPLIT_SEED, purpose) & 0xFFFFFFFF)
    return torch.from_numpy(stream.permutation(n))


def division(
    sizes: Mapping[str, int],
    labels: Mapping[str, Tensor],
    *,
    limit: int = 0,
    per_class: int = 0,
    how: str = "",
    kind: Kind = "image",
) -> Division:
    """Complete the three splits, keep ``limit`` training data and the others in proportion, then some of each class.

    Data that are not split are shuffled and cut 80/10/10. A missing validation or test split is a shuffled tenth of
    train. A limited part is chosen by seed and keeps its order. So are the data of each class, fewer of them being
    part of more; validation and test keep all of theirs.

    Args:
        sizes: of the parts that the source has: train, validation, test, or ``"all"``.
        labels: ``(n,)`` integers for the same keys, or empty.
        limit: training data to keep at most; 0 keeps all.
        per_class: training data of each class to keep at most, of those that ``limit`` leaves; 0 keeps all.
        how: the source's parts in words.
        kind: of the data, for errors and notes.
    Returns:
        The rows of each split; a note says how many classes had fewer than ``per_class``.
    Raises:
        DataError: if there are fewer than ten data to split, or classes are asked for and not known.
    """
    rows = {name: torch.arange(n) for name, n in sizes.items()}
    source = WHOLE if WHOLE in rows else "train"
    missing = [name for name in SPLITS if name not in rows]
    done = "as the source has them"
    if missing:
        shares = TENTHS if source == WHOLE else _tenths(missing)
        rows |= _cut(sizes[source], shares, source, kind)
        done = f"{', '.join(missing)} cut from {source}, shuffled with seed {SPLIT_SEED}"
    chosen = _limited({name: rows[name] for name in SPLITS}, limit)
    kept = len(chosen["train"]) / len(rows["train"])
    part = f"; all parts reduced to {kept:.2g} of that" if kept < 1 else ""
    origin: dict[str, str] = {name: source if name in missing else name for name in SPLITS}
    notes = []
    if per_class:
        chosen["train"], note = _of_each_class(labels.get(origin["train"]), chosen["train"], per_class, kind)
        notes.append(note)
    record = {
        "how": (how or done) + part,
        "seed": SPLIT_SEED,
        "counts": {name: len(index) for name, index in chosen.items()},
        "limit": limit,
        "per_class": per_class,
    }
    return Division(rows=chosen, origin=origin, record=record, notes=notes)


def _tenths(missing: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(missing, 1) | {"train": 10 - len(missing)}


def _cut(n: int, shares: Mapping[str, int], source: str, kind: Kind) -> dict[str, Tensor]:
    """Shuffled row numbers in the given tenths; train takes the rest."""
    if n < FEWEST:
        raise DataError(
            f"only {pluralize(n, kind)} to split into training, validation and test, expected at least {FEWEST}",
            "Give more, one a line." if kind == "sequence" else "Give more.",
        )
    order = permutation(n, f"split/{source}")
    found, start = {}, 0
    for name, tenths in shares.items():
        if name != "train":
            count = max(1, n * tenths // 10)
            found[name] = order[start : start + count]
            start += count
    return {"train": order[start:], **found}


def _limited(rows: dict[str, Tensor], limit: int) -> dict[str, Tensor]:
    train = len(rows["train"])
    if not limit or limit >= train:
        return rows
    kept = {name: max(1, round(len(index) * limit / train)) for name, index in rows.items()}
    chosen = {name: permutation(len(index), f"limit/{name}")[: kept[name]] for name, index in rows.items()}
    return {name: index[chosen[name].sort().values] for name, index in rows.items()}


def _of_each_class(labels: Tensor | None, rows: Tensor, most: int, kind: Kind) -> tuple[Tensor, str]:
    """The first rows of each class in a seeded order, in their old order, and what is to be said of them."""
    if labels is None:
        known = ", ".join(row.name for row in TASKS.values() if row.labelled and row.kind == kind)
        raise DataError("per_class needs class labels, and these data have none", f"Tasks that have them: {known}.")
    order = permutation(len(rows), "per-class")
    kinds = labels[rows][order]
    by_class = kinds.argsort(stable=True)
    sizes = torch.unique(kinds, return_counts=True)[1]
    rank = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # within its class
    short = int((sizes < most).sum())
    fewer = f", fewer in {short} of them" if short else ""
    note = f"{len(sizes)} classes with at most {most} training {kind}s each{fewer}."
    return rows[order[by_class[rank < most]].sort().values], note


def _rows(x: Part, index: Tensor) -> Part:
    """Rows by number; no copy where that is all of them in order."""
    whole = len(index) == len(x) and bool((index == torch.arange(len(x))).all())
    chosen: Part = x if whole else x[index]
    return chosen
