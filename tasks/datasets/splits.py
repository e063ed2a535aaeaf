"""Assigns data to training, validation and test: keeps a source's own splits, cuts missing ones, applies limits.

Everything is decided by one fixed seed, so that all runs on a dataset are measured on the same data.
"""

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
MIN_TO_SPLIT = 10  # fewest data that can be split 80/10/10
UNSPLIT = "all"  # key of data that are not split yet

Part = TypeVar("Part", bound="Rows")


@runtime_checkable  # beartype checks it with isinstance in tests
class Rows(Protocol):
    """Data whose rows can be chosen by index: a tensor or a corpus."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, rows: Tensor, /) -> Any:
        """The rows with the given indices."""


def validation_size(n: int, most: int, name: str) -> int:
    """How many training images become the validation split of a source that has none: ``most``, but at most a sixth."""
    if n < 6:
        raise DataError(
            f"{name} has only {pluralize(n, 'training image')}, expected at least 6, of which one is for validation",
            "Give more images.",
        )
    return min(most, n // 6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitPlan:
    """Which rows of which part of the source each split takes."""

    rows: Mapping[str, Tensor]  # indices for train, validation and test, into the part that each is taken from
    origin: Mapping[str, str]  # name of that part: train, validation, test or "all"
    record: Mapping[str, Any]  # for the provenance: how the data were split, counts, limits
    notes: Sequence[str]  # sentences on what was left out

    def take(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """The splits of a source's parts; a split whose part is missing, as labels can be, is left out."""
        there = [name for name in SPLITS if self.origin[name] in parts]
        return {name: _take_rows(parts[self.origin[name]], self.rows[name]) for name in there}


def permutation(n: int, purpose: str) -> Tensor:
    """A fixed shuffle of n rows; different purposes get different ones."""
    # numpy's legacy generator is frozen, so that the shuffle is the same in every version
    stream = np.random.RandomState(mix_seed(SPLIT_SEED, purpose) & 0xFFFFFFFF)
    return torch.from_numpy(stream.permutation(n))


def plan_splits(
    sizes: Mapping[str, int],
    labels: Mapping[str, Tensor],
    *,
    limit: int = 0,
    per_class: int = 0,
    how: str = "",
    kind: Kind = "image",
) -> SplitPlan:
    """Decide which rows of a source's parts train, validate and test.

    Data without splits are shuffled and cut 80/10/10; a missing validation or test split is a shuffled tenth of train.
    Then ``limit`` keeps so many training data, and the same share of the other splits. Last, ``per_class`` keeps so
    many training data of each class; validation and test stay whole. Kept rows are chosen by seed, stay in their order,
    and a smaller ``per_class`` keeps a subset of what a larger one keeps.

    Args:
        sizes: number of rows of each part that the source has: train, validation, test, or ``"all"``.
        labels: ``(n,)`` integer class labels of the same parts, or empty.
        limit: largest number of training data; 0 keeps all.
        per_class: largest number of training data of each class; 0 keeps all.
        how: how the source was split, in words, for the provenance.
        kind: what errors and notes call the data.
    Raises:
        DataError: if there are fewer than ten data to split, or ``per_class`` is given and labels are unknown.
    """
    rows = {name: torch.arange(n) for name, n in sizes.items()}
    source = UNSPLIT if UNSPLIT in rows else "train"
    missing = [name for name in SPLITS if name not in rows]
    done = "as the source has them"  # how the data were split, in words
    if missing:
        shares = TENTHS if source == UNSPLIT else _shares_with_missing(missing)
        rows |= _cut_rows(sizes[source], shares, source, kind)
        done = f"{', '.join(missing)} cut from {source}, shuffled with seed {SPLIT_SEED}"
    chosen = _limit_rows({name: rows[name] for name in SPLITS}, limit)
    kept = len(chosen["train"]) / len(rows["train"])
    part = f"; all parts reduced to {kept:.2g} of that" if kept < 1 else ""
    origin: dict[str, str] = {name: source if name in missing else name for name in SPLITS}
    notes = []
    if per_class:
        chosen["train"], note = _limit_per_class(labels.get(origin["train"]), chosen["train"], per_class, kind)
        notes.append(note)
    record = {
        "how": (how or done) + part,
        "seed": SPLIT_SEED,
        "counts": {name: len(index) for name, index in chosen.items()},
        "limit": limit,
        "per_class": per_class,
    }
    return SplitPlan(rows=chosen, origin=origin, record=record, notes=notes)


def _shares_with_missing(missing: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(missing, 1) | {"train": 10 - len(missing)}


def _cut_rows(n: int, shares: Mapping[str, int], source: str, kind: Kind) -> dict[str, Tensor]:
    """Shuffled row indices, cut into the given tenths; train takes the remainder."""
    if n < MIN_TO_SPLIT:
        raise DataError(
            f"only {pluralize(n, kind)} to split into training, validation and test, expected at least {MIN_TO_SPLIT}",
            "Give more sequences, one a line." if kind == "sequence" else "Give more images.",
        )
    order = permutation(n, f"split/{source}")
    rows, start = {}, 0
    for name, tenths in shares.items():
        if name != "train":
            count = max(1, n * tenths // 10)
            rows[name] = order[start : start + count]
            start += count
    return {"train": order[start:], **rows}


def _limit_rows(rows: dict[str, Tensor], limit: int) -> dict[str, Tensor]:
    train = len(rows["train"])
    if not limit or limit >= train:
        return rows
    kept = {name: max(1, round(len(index) * limit / train)) for name, index in rows.items()}
    chosen = {name: permutation(len(index), f"limit/{name}")[: kept[name]] for name, index in rows.items()}
    return {name: index[chosen[name].sort().values] for name, index in rows.items()}


def _limit_per_class(labels: Tensor | None, rows: Tensor, most: int, kind: Kind) -> tuple[Tensor, str]:
    """At most so many rows of each class, the first ones of a seeded shuffle, in their old order; and a note."""
    if labels is None:
        known = ", ".join(row.name for row in TASKS.values() if row.labelled and row.kind == kind)
        raise DataError("per_class needs class labels, and these data have none", f"Tasks with labels: {known}.")
    order = permutation(len(rows), "per-class")
    kinds = labels[rows][order]
    by_class = kinds.argsort(stable=True)
    sizes = torch.unique(kinds, return_counts=True)[1]
    rank = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # within its class
    short = int((sizes < most).sum())
    fewer = f", fewer in {short} of them" if short else ""
    note = f"{len(sizes)} classes with at most {most} training {kind}s each{fewer}."
    return rows[order[by_class[rank < most]].sort().values], note


def _take_rows(x: Part, index: Tensor) -> Part:
    """Rows by index, without a copy where the indices are all rows in order."""
    whole = len(index) == len(x) and bool((index == torch.arange(len(x))).all())
    chosen: Part = x if whole else x[index]
    return chosen
