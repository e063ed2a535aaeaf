"""Sentences to search for or to encode, numbered exactly as the run numbered its training text."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from lso.tasks.lines import Lines, read
from lso.tasks.packing import encode_lines, unknown
from lso.tasks.targets import Targets
from lso.tasks.task import TASKS, TEXT_SUFFIXES, existing, settled
from lso.tasks.tokenizers import TOKENIZERS, Tokenizer, tokenizer
from lso.vae.corpus import Corpus
from lso.vae.errors import DataError, UsageError
from lso.vae.runs import Run

MANY = 0.1  # share of unknown tokens from which on they are worth a warning


def load_sentences(run: Run, what: str | Path) -> Targets:
    """Read a text file, or take a sentence as it is written.

    Args:
        run: a training run on sequences: its vocabulary and tokenizer.
        what: a file with one sequence a line, or the sequence itself where there is no such file.
    Returns:
        The targets; notes say how many tokens are unknown and what was too long.
    Raises:
        DataError: if the file cannot be read, or nothing in it can be searched for.
        UsageError: if nothing was given.
    """
    lines, names = _lines(what)
    vocabulary = run.model().vocabulary
    if vocabulary is None:
        raise DataError(f"{run.path} does not know its vocabulary", "Search in Python, for token numbers.")
    corpus, _ = encode_lines(lines.texts, vocabulary, tokenizer_of(run, vocabulary.joiner))
    longest = int(run.info["shape"][0])
    kept = (corpus.lengths <= longest).nonzero().flatten()
    notes = [*lines.notes]
    if len(kept) < len(corpus):
        why = f"longer than the {longest - 2} tokens that the model was made for"
        if not len(kept):
            raise DataError(f"{lines.name}: every sequence is {why}", "Shorten them, or train with longer ones.")
        long = [names[i] for i in range(len(corpus)) if corpus.lengths[i] > longest]
        notes.append(f"Warning: {len(long)} of {len(corpus)} sequences are {why} and left out: {_few(long)}.")
    found = corpus[kept]
    if int(unknown(found).sum()) == int(found.lengths.sum()) - 2 * len(found):
        raise DataError(
            f"{lines.name}: no token is known to the model",
            "Give text of the kind that it was trained on, split as there.",
        )
    notes += unknown_notes(found)
    return Targets(
        x=found, names=tuple(names[i] for i in kept.tolist()), notes=tuple(notes), labels=_labels(run, lines, kept)
    )


def _lines(what: str | Path) -> tuple[Lines, list[str]]:
    """Texts and their names."""
    text = str(what)
    try:
        there = Path(what).expanduser().exists()
    except OSError:  # a sentence longer than any name of a file
        there = False
    if there or text.lower().endswith(TEXT_SUFFIXES):
        path = existing(what)
        if path.is_dir():
            raise DataError(f"{what} is a folder, expected a text file", "Give a file with one sequence a line.")
        found = read(path)
        count = f"{len(found.texts)} target{'s' * (len(found.texts) != 1)} from {what}."
        names = [f"sequence {i + 1}" for i in range(len(found.texts))]
        return Lines(name=found.name, texts=found.texts, labels=found.labels, notes=(count, *found.notes)), names
    if not text.strip():
        raise UsageError("an empty sentence", "Write one in quotes, or give a text file.")
    note = "Taken as a sentence, as there is no such file."
    return Lines(name=f"{text.strip()[:40]!r}, which is no file", texts=[text.strip()], notes=(note,)), ["sentence"]


def tokenizer_of(run: Run, joiner: str) -> Tokenizer:
    """The tokenizer of a run; of data that were given in Python that of their joiner.

    Args:
        run: on sequences.
        joiner: of its vocabulary.
    Returns:
        The tokenizer.
    Raises:
        UsageError: if it is a function of the user's, and they did not say that it may run (``run.trust``).
    """
    if run.config.data.task in TASKS:
        return tokenizer(settled(run.config.data).tokenizer, run.trust)
    return next((one for one in TOKENIZERS.values() if one.joiner == joiner), TOKENIZERS["words"])


def unknown_notes(corpus: Corpus) -> list[str]:
    """What is to be said of unknown tokens.

    Args:
        corpus: sequences.
    Returns:
        At most one sentence; a warning from a tenth of the tokens on.
    """
    missed = unknown(corpus)
    count, total = int(missed.sum()), int(corpus.lengths.sum()) - 2 * len(corpus)
    if not count:
        return []
    where = f"in {int((missed > 0).sum())} of {len(corpus)} sequences"
    told = f"{count} of {total:,} tokens, {where}, are unknown to the model."
    return [f"Warning: {told}" if count >= MANY * total else told]


def _labels(run: Run, lines: Lines, kept: Tensor) -> Int[Tensor, " n"] | None:
    """Classes by the numbers that training gave them, where all are known."""
    known = {label: i for i, label in enumerate(run.info["dataset"]["provenance"].get("labels") or ())}
    if not lines.labels or not set(lines.labels) <= known.keys():
        return None
    return torch.tensor([known[label] for label in lines.labels])[kept]


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
