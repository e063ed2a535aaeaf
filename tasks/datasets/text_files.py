"""Text of the user's: a file of one sequence a line, a folder with a file for each part, or lines at hand."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.line_reader import TextLines, read
from lso.tasks.datasets.splits import WHOLE
from lso.tasks.datasets.text_dataset import Texts, prepared
from lso.tasks.datasets.tokenizers import TOKENIZERS, Split, tokenizer
from lso.tasks.task import existing, settled, source, suits
from lso.vae.config.training import DataConfig
from lso.vae.data.dataset import SPLITS, Dataset
from lso.vae.errors import DataError, UsageError
from lso.vae.utils.trust import Trust

PARTS = {"train": "train", "valid": "validation", "validation": "validation", "val": "validation", "dev": "validation"}
PARTS["test"] = "test"
PART_FILE = re.compile(rf"(?:.*[._-])?({'|'.join(PARTS)})\.txt(\.gz)?", re.IGNORECASE)


def load(data: DataConfig, progress: Progress | None = None) -> Texts:
    """A text file, or a folder with train, and perhaps valid and test files.

    Args:
        data: ``path`` is a .txt or .txt.gz file of one sequence a line, perhaps after a label and a TAB; or a folder
            with such files named train.txt or name.train.txt, and so on.
        progress: told the files read.
    Returns:
        The parts that there are.
    Raises:
        DataError: if there are no such files, or they cannot be read.
    """
    path = existing(data.path)
    return Texts(parts=read_parts(part_files(path) if path.is_dir() else {WHOLE: path}, progress))


def part_files(folder: Path) -> dict[str, Path]:
    """The files of a folder that are named after a part of the data.

    Args:
        folder: where to look.
    Returns:
        train, and validation and test if there are files for them.
    Raises:
        DataError: if there is none for train, or more than one for a part.
    """
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        match = PART_FILE.fullmatch(path.name)
        part = PARTS[match[1].lower()] if match else ""
        if part in found:
            raise DataError(
                f"{folder} has two files for {part}: {found[part].name} and {path.name}", "Keep one of them there."
            )
        if part:
            found[part] = path
    if "train" not in found:
        raise DataError(
            f"no training text in {folder}: expected train.txt or train.txt.gz, and perhaps valid and test",
            "Name the files so, or give one file, which is split 80/10/10.",
        )
    return {part: found[part] for part in SPLITS if part in found}


def read_parts(files: Mapping[str, Path], progress: Progress | None = None) -> dict[str, TextLines]:
    """Read several files."""
    found = {}
    for done, (name, path) in enumerate(files.items(), 1):
        found[name] = read(path)
        if progress:
            progress("reading text", done, len(files))
    return found


def load_dataset(
    data: DataConfig,
    binarize: str,
    seed: int,
    *,
    progress: Progress | None = None,
    trust: Trust = False,
    files: Mapping[str, Any] | None = None,
) -> Dataset:
    """The dataset of sequences that a configuration names, a function of ``data`` alone.

    Args:
        data: task, path, tokenizer, vocabulary and limits.
        binarize: ``"none"``.
        seed: not used.
        progress: told the bytes downloaded and the files read.
        trust: see `lso.tasks.datasets.loading.load_dataset`.
        files: see there.
    Returns:
        Three splits on the CPU; ``provenance`` has source, checksums, split, tokenizer, vocabulary, counts.
    Raises:
        UsageError: if there is no such task, it needs a path and has none, a setting is for images, or the tokenizer is
            not to be trusted.
        DataError: if the data cannot be had, read or split, or the files are others.
    """
    suits(data, binarize)
    data = settled(data)
    chosen = tokenizer(data.tokenizer, trust)
    texts: Texts = source(data)(data, progress)
    if files is not None and data.tokenizer not in TOKENIZERS:  # else it is enough that the tokens are the same
        _require_same(texts, files)
    return prepared(texts, data, chosen, data.task)


def _require_same(texts: Texts, files: Mapping[str, Any]) -> None:
    read = {part: lines.blob for part, lines in texts.parts.items() if lines.blob}
    before = {part: told.get("blob") for part, told in files.items() if isinstance(told, Mapping) and told.get("blob")}
    if read != before:
        raise DataError("the data have changed since they were trained on", "Bring the same files back, or train anew.")


def text_dataset(
    lines: Sequence[str] | Mapping[str, Sequence[str]],
    data: DataConfig = DataConfig(task="text"),
    *,
    labels: Mapping[str, Sequence[object]] | None = None,
    split: Split | None = None,
    name: str = "text",
) -> Dataset:
    """A dataset of lines that are at hand.

    Args:
        lines: one sequence each, to be split 80/10/10; or ``train``, ``validation`` and ``test``, of which the last two
            may be missing. Blank ones are left out.
        data: vocabulary and limits; and the tokenizer, where none is given.
        labels: of the same lines, by the same keys; ``"all"`` where they are not split.
        split: tokenizer of your own, text -> list of strings.
        name: for reports.
    Returns:
        Three splits on the CPU.
    Raises:
        UsageError: if the tokenizer fails or there is none of that name, or lines and labels differ in number.
        DataError: if the lines cannot be split, or no token is known.
    """
    given = lines if isinstance(lines, Mapping) else {WHOLE: lines}
    own = labels or {}
    parts = {}
    for key, texts in given.items():
        if isinstance(texts, str) or (key in own and len(own[key]) != len(texts)):
            raise UsageError(f"expected a list of lines for {key}, and a label for each or none", "Check both lists.")
        rows = [i for i, text in enumerate(texts) if text and not text.isspace()]
        kept = [str(own[key][i]) for i in rows] if key in own else ()
        parts[key] = TextLines(name=key, texts=[texts[i] for i in rows], labels=kept)
    chosen = tokenizer(settled(data).tokenizer if split is None else split)
    return prepared(Texts(parts=parts, provenance={"source": "given in Python"}), data, chosen, name)
