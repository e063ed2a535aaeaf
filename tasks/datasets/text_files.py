"""The task `text`: users' own text, from a file of one sequence a line, a folder of such files, or a list of lines."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.line_reader import TextLines, read_text_lines
from lso.tasks.datasets.splits import UNSPLIT
from lso.tasks.datasets.text_dataset import RawTexts, build_dataset
from lso.tasks.datasets.tokenizers import TOKENIZERS, Split, tokenizer
from lso.tasks.task import check_settings, fill_defaults, find_loader, require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import SPLITS, Dataset
from lso.vae.errors import DataError, UsageError
from lso.vae.utils.trust import Trust

PART_OF_NAME = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
}
PART_OF_NAME["test"] = "test"
PART_FILE = re.compile(rf"(?:.*[._-])?({'|'.join(PART_OF_NAME)})\.txt(\.gz)?", re.IGNORECASE)


def load(data: DataConfig, progress: Progress | None = None) -> RawTexts:
    """Read a text file, or a folder with a training file and perhaps validation and test files.

    Files have one sequence a line, perhaps after a label and a TAB, and may be gzipped. Those of a folder are named
    train.txt or name.train.txt, and so on.
    """
    path = require_path(data.path)
    return RawTexts(parts=read_parts(find_part_files(path) if path.is_dir() else {UNSPLIT: path}, progress))


def find_part_files(folder: Path) -> dict[str, Path]:
    """The files of a folder that are named after a split: one for train, at most one for validation and for test."""
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        match = PART_FILE.fullmatch(path.name)
        part = PART_OF_NAME[match[1].lower()] if match else ""
        if part in files:
            raise DataError(
                f"{folder} has two files for {part}: {files[part].name} and {path.name}", "Keep one of them there."
            )
        if part:
            files[part] = path
    if "train" not in files:
        raise DataError(
            f"no training text in {folder}: expected train.txt or train.txt.gz, and perhaps valid and test",
            "Name the files so, or give one file, which is split 80/10/10.",
        )
    return {part: files[part] for part in SPLITS if part in files}


def read_parts(files: Mapping[str, Path], progress: Progress | None = None) -> dict[str, TextLines]:
    """Read several text files, each under the name of its part."""
    parts = {}
    for done, (name, path) in enumerate(files.items(), 1):
        parts[name] = read_text_lines(path)
        if progress:
            progress("reading text", done, len(files))
    return parts


def load_dataset(
    data: DataConfig,
    binarize: str,
    seed: int,
    *,
    progress: Progress | None = None,
    trust: Trust = False,
    files: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load the dataset of sequences that a configuration names, see `lso.tasks.datasets.loading.load_dataset`.

    The result depends on ``data`` alone: ``binarize`` is to be ``"none"``, and ``seed`` is not used.
    """
    check_settings(data, binarize)
    data = fill_defaults(data)
    chosen = tokenizer(data.tokenizer, trust)
    texts: RawTexts = find_loader(data)(data, progress)
    # A user's tokenizer is not run on other files than before; with a built-in one the caller compares the tokens.
    if files is not None and data.tokenizer not in TOKENIZERS:
        _require_same(texts, files)
    return build_dataset(texts, data, chosen, data.task)


def _require_same(texts: RawTexts, files: Mapping[str, Any]) -> None:
    read = {part: lines.blob for part, lines in texts.parts.items() if lines.blob}
    before = {part: file["blob"] for part, file in files.items() if isinstance(file, Mapping) and file.get("blob")}
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
    """Make a dataset of lines of text in memory.

    Args:
        lines: sequences, one string each, which are split 80/10/10; or a mapping with ``train`` and perhaps
            ``validation`` and ``test``. Blank lines are left out.
        data: vocabulary, limits, and the tokenizer where ``split`` is None.
        labels: class labels of the lines under the same keys; under ``"all"`` where the lines are not split.
        split: your own tokenizer, a function from a text to a list of strings.
        name: name of the dataset in reports.
    Returns:
        Three splits on the CPU.
    Raises:
        UsageError: if the tokenizer fails or there is none of that name, or lines and labels differ in number.
        DataError: if there are too few lines to split, or the vocabulary knows none of the tokens.
    """
    lines_of_parts = lines if isinstance(lines, Mapping) else {UNSPLIT: lines}
    own = labels or {}
    parts = {}
    for key, texts in lines_of_parts.items():
        if isinstance(texts, str) or (key in own and len(own[key]) != len(texts)):
            raise UsageError(
                f"expected a list of lines for {key}, and one label for each line or none at all",
                "Give lists of equal length, without a string in place of a list.",
            )
        rows = [i for i, text in enumerate(texts) if text and not text.isspace()]
        kept = [str(own[key][i]) for i in rows] if key in own else ()
        parts[key] = TextLines(name=key, texts=[texts[i] for i in rows], labels=kept)
    chosen = tokenizer(fill_defaults(data).tokenizer if split is None else split)
    return build_dataset(RawTexts(parts=parts, provenance={"source": "given in Python"}), data, chosen, name)
