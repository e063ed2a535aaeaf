"""Text as sequences: tokenized, split, numbered by a vocabulary, all of it recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lso.tasks.datasets.line_reader import TextLines
from lso.tasks.datasets.overlap import overlap, overlap_notes
from lso.tasks.datasets.packing import Types, counts, pack, renumber
from lso.tasks.datasets.splits import WHOLE, Division, division
from lso.tasks.datasets.tokenizers import Tokenizer, joiner_for
from lso.tasks.datasets.vocabulary import commonest, read_vocabulary
from lso.tasks.task import existing
from lso.vae.config.training import DataConfig
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import SPLITS, Dataset
from lso.vae.errors import DataError
from lso.vae.vocabulary import SPECIALS, UNKNOWN, Vocabulary

HUGE = 10_000  # tokens of a sequence that is taken for a mistake
FEW_LABELS = 100  # that are named in the provenance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Texts:
    """Sequences as files have them.

    Args:
        parts: train, validation, test (missing ones are cut from train), or one entry ``"all"``.
        words: vocabulary of words that comes with them; None where it is to be counted.
        provenance: what is known of the source, JSON-able; ``notes`` is a list of sentences.
    """

    parts: Mapping[str, TextLines]
    words: Sequence[str] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Packed:
    """Parts in numbers of types, with the labels of what was kept."""

    parts: Mapping[str, Corpus]
    labels: Mapping[str, Sequence[str]]
    types: Types
    notes: Sequence[str]


def prepared(texts: Texts, data: DataConfig, chosen: Tokenizer, name: str) -> Dataset:
    """Tokenize, split, limit and number text.

    Args:
        texts: as loaded.
        data: vocabulary and limits.
        chosen: tokenizer.
        name: of the dataset.
    Returns:
        Three splits on the CPU; ``provenance`` has source, checksums, split, tokenizer, vocabulary, counts and notes.
    Raises:
        UsageError: if the tokenizer fails.
        DataError: if the text cannot be split, a sequence is huge, or no token is known.
    """
    packed = _packed(texts, data.longest, chosen)
    names, labels = _numbered(packed.labels)
    sizes = {part: len(corpus) for part, corpus in packed.parts.items()}
    how = texts.provenance.get("split", "")
    cut = division(sizes, labels, limit=data.limit, per_class=data.per_class, how=how, kind="sequence")
    taken = cut.take(packed.parts)
    words, origin = _words(texts.words, data, packed.types, taken["train"], chosen)
    joiner, exact = joiner_for(chosen, next(iter(texts.parts.values())).texts)
    vocabulary = Vocabulary.of(words, joiner)
    table = packed.types.table(vocabulary)
    splits = {part: renumber(corpus, table) for part, corpus in taken.items()}
    measured, told = _measured(splits, vocabulary, origin)
    if names:
        where = ", ".join("all parts" if part == WHOLE else part for part in packed.labels)
        told.append(f"Labels: {len(names):,} kinds, in {where}; they are no part of the text.")
    if not exact:
        told.append(f"The tokens of some lines ({chosen.name}) do not give them back exactly, joined by {joiner!r}.")
    shared = overlap(taken)  # of all tokens, also of those that the vocabulary does not know
    told += overlap_notes(shared, cut.record["counts"], "sequence")
    done = {
        "tokenizer": {"name": chosen.name, "joiner": joiner},
        "vocabulary": {"size": len(vocabulary), "source": origin, "sha256": vocabulary.hash()},
        "labels": names[:FEW_LABELS],
        "overlap": shared,
        **measured,
    }
    record = _record(texts, data, cut, done, [*packed.notes, *cut.notes, *told])
    return Dataset(
        name=name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=cut.take(labels),
        vocabulary=vocabulary,
        provenance=record,
    )


def _packed(texts: Texts, longest: int, chosen: Tokenizer) -> _Packed:
    types = Types()
    parts, labels, notes = {}, {}, []
    for part in (name for name in (*SPLITS, WHOLE) if name in texts.parts):  # training tokens first
        lines = texts.parts[part]
        corpus = pack(lines.texts, chosen, types)
        kept, told = _kept(corpus.lengths - 2, longest, lines.name)
        parts[part] = corpus[kept]
        notes += told
        if lines.labels:
            labels[part] = [lines.labels[i] for i in kept.tolist()]
    return _Packed(parts=parts, labels=labels, types=types, notes=notes)


def _kept(lengths: Tensor, longest: int, name: str) -> tuple[Tensor, list[str]]:
    """Rows of sequences that are neither empty nor too long, and how many were."""
    most = int(lengths.max()) if len(lengths) else 0
    if not longest and most > HUGE:
        raise DataError(
            f"{name}: sequence {int(lengths.argmax()) + 1:,} has {most:,} tokens, expected one sequence a line",
            "Break the text into lines, or leave out long ones, for example with --longest 200.",
        )
    empty = lengths == 0
    over = lengths > longest if longest else torch.zeros_like(empty)
    kept = (~empty & ~over).nonzero().flatten()
    notes = []
    if empty.any():
        notes.append(f"{name}: {int(empty.sum()):,} of {len(lengths):,} sequences have no tokens and are left out.")
    if over.any():
        notes.append(
            f"{name}: {int(over.sum()):,} of {len(lengths):,} sequences have more than {longest:,} tokens and are left "
            f"out (the longest has {most:,})."
        )
    if not len(kept):
        raise DataError(f"no sequences left of {name}. {' '.join(notes)}".rstrip(), "Give other text, or --longest 0.")
    return kept, notes


def _numbered(labels: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, Tensor]]:
    """Names of the classes, whole numbers in their order before words, and the labels as their numbers."""
    names = sorted({name for part in labels.values() for name in part}, key=_whole)
    numbers = {name: number for number, name in enumerate(names)}
    return names, {part: torch.tensor([numbers[name] for name in found]) for part, found in labels.items()}


def _whole(name: str) -> tuple[bool, int, str]:
    whole = name.removeprefix("-").isdecimal()
    return not whole, int(name) if whole else 0, name


def _words(
    own: Sequence[str] | None, data: DataConfig, types: Types, train: Corpus, chosen: Tokenizer
) -> tuple[Sequence[str], str]:
    """The tokens of the vocabulary, and where they are from."""
    if data.vocabulary:
        path = existing(data.vocabulary)
        return read_vocabulary(path), f"of {path.name}"
    counted = data.vocabulary_size > 0 or data.min_count > 1
    if own is not None and not counted and chosen.name == "words":
        return own, "as the data come with it"
    number = counts(train, len(types) + len(SPECIALS))
    words = commonest(types, number, data.vocabulary_size, data.min_count)
    often = f" that occur at least {data.min_count:,} times" if data.min_count > 1 else ""
    first = f"the {data.vocabulary_size:,} commonest" if data.vocabulary_size else "all"
    return words, f"{first} of the training data{often}"


def _measured(splits: Mapping[str, Corpus], vocabulary: Vocabulary, origin: str) -> tuple[dict[str, Any], list[str]]:
    """Counts of the splits, and sentences on them."""
    total = {part: int(corpus.lengths.sum()) - 2 * len(corpus) for part, corpus in splits.items()}
    missed = {part: int((corpus.tokens == UNKNOWN).sum()) for part, corpus in splits.items()}
    if missed["train"] == total["train"]:
        raise DataError(
            f"all {total['train']:,} tokens of the training data are unknown to the vocabulary ({origin})",
            "Check the tokenizer, and the vocabulary's file.",
        )
    longest = {part: corpus.shape[1] - 2 for part, corpus in splits.items()}
    parts = [f"{part} {len(splits[part]):,} ({total[part]:,} tokens, longest {longest[part]:,})" for part in SPLITS]
    shares = [f"{part} {missed[part]:,} ({missed[part] / total[part]:z.2%})" for part in SPLITS]
    told = [
        f"Sequences: {', '.join(parts)}.",
        f"Vocabulary: {len(vocabulary):,} tokens with {len(SPECIALS)} specials, {origin}.",
    ]
    if any(missed.values()):
        told.append(f"Unknown tokens, or written <unk>: {', '.join(shares)}.")
    return {"tokens": total, "unknown": missed, "longest": longest}, told


def _record(
    texts: Texts, data: DataConfig, cut: Division, done: Mapping[str, Any], notes: Sequence[str]
) -> dict[str, Any]:
    """The provenance, completed by what was done to the text."""
    read = [note for lines in texts.parts.values() for note in lines.notes]
    return {
        "task": data.task,
        "path": data.path,
        "source": "text files",
        "files": {part: {"name": lines.name, "blob": lines.blob} for part, lines in texts.parts.items()},
        **texts.provenance,
        **done,
        "split": cut.record,
        "notes": [*texts.provenance.get("notes", ()), *read, *notes],
    }
