"""Builds datasets of text: tokenizes, splits and numbers it by a vocabulary, and records how in the provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lso.tasks.datasets.line_reader import TextLines
from lso.tasks.datasets.overlap import count_overlap, overlap_notes
from lso.tasks.datasets.packing import TokenTypes, pack, renumber, token_frequencies
from lso.tasks.datasets.splits import UNSPLIT, SplitPlan, plan_splits
from lso.tasks.datasets.tokenizers import Tokenizer, choose_joiner
from lso.tasks.datasets.vocabulary import commonest_tokens, read_vocabulary
from lso.tasks.task import require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import SPLITS, Dataset
from lso.vae.errors import DataError
from lso.vae.vocabulary import SPECIALS, UNKNOWN, Vocabulary

MAX_PLAUSIBLE_TOKENS = 10_000  # a longer sequence is taken for a file that has not one sequence a line
RECORDED_LABELS = 100  # at most so many names of classes stand in the provenance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawTexts:
    """Sequences as a task's files hold them, before they are tokenized and split."""

    parts: Mapping[str, TextLines]  # train, validation, test (missing ones are cut from train), or one entry "all"
    words: Sequence[str] | None = None  # vocabulary that comes with the files; None to take it from the training data
    provenance: Mapping[str, Any] = field(default_factory=dict)  # facts for JSON; "notes" is a list of sentences


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PackedParts:
    """Tokenized parts of a source in numbers of token types, without the sequences left out, with their labels."""

    parts: Mapping[str, Corpus]
    labels: Mapping[str, Sequence[str]]
    types: TokenTypes
    notes: Sequence[str]


def build_dataset(texts: RawTexts, data: DataConfig, chosen: Tokenizer, name: str) -> Dataset:
    """Tokenize, split and limit text, and number its tokens by the vocabulary that ``data`` asks for."""
    packed = _pack_parts(texts, data.longest, chosen)
    names, labels = _number_labels(packed.labels)
    sizes = {part: len(corpus) for part, corpus in packed.parts.items()}
    how = texts.provenance.get("split", "")
    cut = plan_splits(sizes, labels, limit=data.limit, per_class=data.per_class, how=how, kind="sequence")
    taken = cut.take(packed.parts)
    words, origin = _choose_tokens(texts.words, data, packed.types, taken["train"], chosen)
    joiner, exact = choose_joiner(chosen, next(iter(texts.parts.values())).texts)
    vocabulary = Vocabulary.of(words, joiner)
    table = packed.types.table(vocabulary)
    splits = {part: renumber(corpus, table) for part, corpus in taken.items()}
    token_counts, notes = _count_unknown_tokens(splits, vocabulary, origin)
    if names:
        where = ", ".join("all parts" if part == UNSPLIT else part for part in packed.labels)
        notes.append(f"Labels: {len(names):,} kinds, in {where}; they are not part of the text.")
    if not exact:
        notes.append(f"Tokenizer {chosen.name}: joined by {joiner!r}, the tokens of some lines differ from the line.")
    shared = count_overlap(taken)  # before renumbering: sequences that differ in unknown tokens are not the same
    notes += overlap_notes(shared, cut.record["counts"], "sequence")
    done = {
        "tokenizer": {"name": chosen.name, "joiner": joiner},
        "vocabulary": {"size": len(vocabulary), "source": origin, "sha256": vocabulary.hash()},
        "labels": names[:RECORDED_LABELS],
        "overlap": shared,
        **token_counts,
    }
    record = _text_provenance(texts, data, cut, done, [*packed.notes, *cut.notes, *notes])
    return Dataset(
        name=name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=cut.take(labels),
        vocabulary=vocabulary,
        provenance=record,
    )


def _pack_parts(texts: RawTexts, longest: int, chosen: Tokenizer) -> _PackedParts:
    types = TokenTypes()
    parts, labels, notes = {}, {}, []
    for part in (name for name in (*SPLITS, UNSPLIT) if name in texts.parts):  # training tokens are numbered first
        lines = texts.parts[part]
        corpus = pack(lines.texts, chosen, types)
        kept, left_out = _filter_by_length(corpus.lengths - 2, longest, lines.name)  # 2: start and end symbols
        parts[part] = corpus[kept]
        notes += left_out
        if lines.labels:
            labels[part] = [lines.labels[i] for i in kept.tolist()]
    return _PackedParts(parts=parts, labels=labels, types=types, notes=notes)


def _filter_by_length(lengths: Tensor, longest: int, name: str) -> tuple[Tensor, list[str]]:
    """Rows of the sequences that are neither empty nor too long, and notes on those that are."""
    most = int(lengths.max()) if len(lengths) else 0
    if not longest and most > MAX_PLAUSIBLE_TOKENS:
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
        raise DataError(
            f"no sequences of {name} are left. {' '.join(notes)}".rstrip(),
            "Give other text, or --longest 0 to keep sequences of any length.",
        )
    return kept, notes


def _number_labels(labels: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, Tensor]]:
    """Names of the classes, numbers in their order before words, and each part's labels as indices of these names."""
    names = sorted({name for part in labels.values() for name in part}, key=_label_order)
    numbers = {name: number for number, name in enumerate(names)}
    return names, {part: torch.tensor([numbers[name] for name in found]) for part, found in labels.items()}


def _label_order(name: str) -> tuple[bool, int, str]:
    whole = name.removeprefix("-").isdecimal()
    return not whole, int(name) if whole else 0, name


def _choose_tokens(
    own: Sequence[str] | None, data: DataConfig, types: TokenTypes, train: Corpus, chosen: Tokenizer
) -> tuple[Sequence[str], str]:
    """The tokens of the vocabulary, and where they come from in words: a file, the source, or the training data."""
    if data.vocabulary:
        path = require_path(data.vocabulary)
        return read_vocabulary(path), f"of {path.name}"
    counted = data.vocabulary_size > 0 or data.min_count > 1
    if own is not None and not counted and chosen.name == "words":
        return own, "as the data come with it"
    number = token_frequencies(train, len(types) + len(SPECIALS))
    words = commonest_tokens(types, number, data.vocabulary_size, data.min_count)
    often = f" that occur at least {data.min_count:,} times" if data.min_count > 1 else ""
    first = f"the {data.vocabulary_size:,} commonest" if data.vocabulary_size else "all"
    return words, f"{first} of the training data{often}"


def _count_unknown_tokens(
    splits: Mapping[str, Corpus], vocabulary: Vocabulary, origin: str
) -> tuple[dict[str, Any], list[str]]:
    """Total, unknown and longest numbers of tokens of each split, and notes on them."""
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
    notes = [
        f"Sequences: {', '.join(parts)}.",
        f"Vocabulary: {len(vocabulary):,} tokens with {len(SPECIALS)} specials, {origin}.",
    ]
    if any(missed.values()):
        notes.append(f"Unknown tokens, or tokens written <unk>: {', '.join(shares)}.")
    return {"tokens": total, "unknown": missed, "longest": longest}, notes


def _text_provenance(
    texts: RawTexts, data: DataConfig, cut: SplitPlan, done: Mapping[str, Any], notes: Sequence[str]
) -> dict[str, Any]:
    """The source's provenance, completed by what was done to its text."""
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
