"""Reads files of molecules, encodes SMILES as SELFIES, and stores the result as one file of tokens.

Encoding takes minutes and needs RDKit; the file of tokens can be used on machines without it.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lso.tasks.datasets.arrays import load_arrays
from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.line_reader import decode_utf8
from lso.tasks.datasets.packing import TokenTypes, pack
from lso.tasks.datasets.splits import UNSPLIT
from lso.tasks.datasets.text_files import PART_OF_NAME
from lso.tasks.datasets.tokenizers import TOKENIZERS
from lso.tasks.problems.chemistry import SELFIES_PATTERN, canonical_smiles, require_chemistry
from lso.vae.data.dataset import SPLITS
from lso.vae.errors import DataError, WriteError
from lso.vae.utils.files import make_folder, replace_arrays
from lso.vae.vocabulary import SPECIALS

CHUNK_MOLECULES = 10_000  # molecules whose symbols exist as strings at a time
PROGRESS_INTERVAL = 1_000  # molecules between two reports of progress
MAX_SYMBOLS = np.iinfo(np.int16).max  # distinct symbols
TOKEN_FILE_KEYS = ("tokens", "lengths", "vocabulary", "parts", "sizes", "record")
FORMATS_HINT = "Give a .csv with a column smiles, text with one molecule a line, or an .npz that lso wrote."


@dataclass(frozen=True, slots=True, kw_only=True)
class Molecules:
    """Molecules as text.

    Args:
        parts: train, validation and test, as far as there are, or ``"all"``; SELFIES, or SMILES to be encoded.
        record: for the provenance, JSON-able; ``notes`` is a list of sentences.
    """

    parts: Mapping[str, Sequence[str]]
    record: Mapping[str, Any] = field(default_factory=dict)


def read_molecules(raw: bytes, name: str) -> Molecules:
    """Read molecules from a file's decompressed content, as they are written.

    A name that ends in .csv or .csv.gz means a table with a column ``smiles``, and perhaps one ``split``; other files
    have one molecule a line, of which the first word counts.
    """
    if name.lower().removesuffix(".gz").endswith(".csv"):
        return _read_table(decode_utf8(raw, name), name)
    words = [line.split() for line in decode_utf8(raw, name).splitlines()]
    molecules = [found[0] for found in words if found]
    if not molecules:
        raise DataError(f"{name} has no molecules", FORMATS_HINT)
    return Molecules(parts={UNSPLIT: molecules})


def _read_table(text: str, name: str) -> Molecules:
    rows = csv.DictReader(io.StringIO(text))
    columns = {str(column).strip().lower(): column for column in rows.fieldnames or ()}
    if "smiles" not in columns:
        raise DataError(
            f"{name} has the columns {', '.join(columns) or 'none'}, expected smiles among them", FORMATS_HINT
        )
    parts: dict[str, list[str]] = {}
    for row in rows:
        part = (row[columns["split"]] or "").strip() if "split" in columns else UNSPLIT
        known = part if part == UNSPLIT else PART_OF_NAME.get(part.lower(), "")
        if not known:
            raise DataError(f"{name} names the split {part!r}, expected train, valid or test", "Check the column.")
        if molecule := (row[columns["smiles"]] or "").strip():  # the original file of ZINC 250k has line ends in it
            parts.setdefault(known, []).append(molecule)
    if not parts:
        raise DataError(f"{name} has no molecules", FORMATS_HINT)
    record = {"split": "the file's column split"} if "split" in columns else {}
    return Molecules(parts={part: parts[part] for part in (*SPLITS, UNSPLIT) if part in parts}, record=record)


def is_selfies(found: Molecules) -> bool:
    """Whether all molecules are SELFIES already."""
    return all(SELFIES_PATTERN.fullmatch(text) for text in chain.from_iterable(found.parts.values()))


def encode_selfies(molecules: Molecules, name: str, progress: Progress | None = None) -> Molecules:
    """Encode molecules as SELFIES; a hundred thousand take a minute or two.

    Molecules that SELFIES cannot write are left out and counted in the record, and so are those that come back changed
    (by RDKit's canonical SMILES, stereochemistry included). SELFIES in the file stay as they are.
    """
    require_chemistry()
    rows = [(part, text) for part, texts in molecules.parts.items() for text in texts]
    made = list(map(_encode_molecule, _with_progress([text for _, text in rows], progress)))
    parts: dict[str, list[str]] = {}
    for (part, _), (text, _) in zip(rows, made, strict=True):
        if text:
            parts.setdefault(part, []).append(text)
    if not parts:
        raise DataError(f"{name}: none of {len(rows):,} lines is a molecule that SELFIES can write", FORMATS_HINT)
    return Molecules(
        parts=parts, record={**molecules.record, **_encoding_record(name, Counter(reason for _, reason in made))}
    )


def _encoding_record(name: str, reasons: Counter[str]) -> dict[str, Any]:
    """The provenance of an encoding: molecules left out by reason (the reason of kept ones is empty), and versions."""
    dropped = {reason: reasons[reason] for reason in ("unreadable", "not encodable", "changed")}
    note = (
        f"{name}: {reasons.total():,} molecules as SELFIES; left out: {dropped['unreadable']:,} that RDKit cannot "
        f"read, {dropped['not encodable']:,} that SELFIES cannot write, {dropped['changed']:,} that came back changed."
    )
    return {"dropped": dropped, "made_with": {name: _version(name) for name in ("rdkit", "selfies")}, "notes": [note]}


def _with_progress(texts: Sequence[str], progress: Progress | None) -> Iterable[str]:
    for done, text in enumerate(texts, 1):
        yield text
        if progress and (done % PROGRESS_INTERVAL == 0 or done == len(texts)):
            progress("turning molecules into SELFIES", done, len(texts))


def _encode_molecule(text: str) -> tuple[str, str]:
    """SELFIES and an empty reason, or an empty text and the reason why there are none."""
    from selfies import EncoderError, encoder

    if (before := canonical_smiles(text)) is None:
        return "", "unreadable"
    if SELFIES_PATTERN.fullmatch(text):
        return text, ""
    try:
        made = str(encoder(text))
    except EncoderError:
        return "", "not encodable"
    return (made, "") if canonical_smiles(made) == before else ("", "changed")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


# --- one file ---------------------------------------------------------------------------------------------------------


def write_tokens(molecules: Molecules, path: str | Path) -> None:
    """Write SELFIES as numbers of their symbols: one tensor, and what reads it.

    The file is complete or not there: it is moved into place. `lso train --task molecules --data FILE.npz` reads it,
    with neither RDKit nor selfies installed, and gets exactly the data that it was made from; under a ``limit`` some of
    the molecules written, as ``limited = "encoded"`` has it for other files.

    Args:
        molecules: SELFIES.
        path: of the .npz file: ``tokens`` ``(total,)`` int16, one molecule after another; ``lengths`` ``(n,)`` int32;
            ``vocabulary``; ``parts`` and ``sizes``, their molecules; ``record`` as JSON.
    Raises:
        DataError: if there are too many distinct symbols, or the file cannot be written.
    """
    types = TokenTypes()
    corpus = pack(list(chain.from_iterable(molecules.parts.values())), TOKENIZERS["selfies"], types)
    if len(types) > MAX_SYMBOLS:
        raise DataError(f"{len(types):,} distinct symbols, expected those of molecules", FORMATS_HINT)
    inside = corpus.tokens >= len(SPECIALS)  # without start and end
    arrays: dict[str, np.ndarray] = {
        "tokens": (corpus.tokens[inside] - len(SPECIALS)).numpy().astype(np.int16),
        "lengths": (corpus.lengths - 2).numpy().astype(np.int32),
        "vocabulary": np.array(list(types.numbers)),
        "parts": np.array(list(molecules.parts)),
        "sizes": np.array([len(texts) for texts in molecules.parts.values()]),
        "record": np.array(json.dumps(dict(molecules.record))),
    }
    _replace(Path(path).expanduser(), arrays)


def _replace(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    try:
        make_folder(target.parent)
        replace_arrays(target, arrays, compressed=True)
    except WriteError as error:
        remedy = "Name another place; for data that lso keeps itself set LSO_CACHE to a folder of your own."
        raise DataError(error.message, f"{error.hint} {remedy}") from None


def read_tokens(path: Path) -> Molecules:
    """Read what `write_tokens` wrote."""
    arrays = load_arrays(path)
    if missing := [key for key in TOKEN_FILE_KEYS if key not in arrays]:
        raise DataError(f"{path} lacks {', '.join(missing)}", FORMATS_HINT)
    tokens, lengths, sizes = arrays["tokens"], arrays["lengths"], arrays["sizes"].tolist()
    vocabulary = np.array([str(symbol) for symbol in arrays["vocabulary"].tolist()], dtype=object)
    fits = len(tokens) == lengths.sum() and len(lengths) == sum(sizes) and len(sizes) == len(arrays["parts"])
    if not fits or not len(tokens) or not 0 <= tokens.min() <= tokens.max() < len(vocabulary):
        raise DataError(f"{path} contradicts itself: its numbers do not fit its lengths or vocabulary", FORMATS_HINT)
    texts = list(_texts(vocabulary, tokens, lengths))
    bounds = pairwise((0, *accumulate(sizes)))
    parts = {str(part): texts[a:b] for part, (a, b) in zip(arrays["parts"].tolist(), bounds, strict=True)}
    try:
        record = json.loads(str(arrays["record"]))
    except (ValueError, RecursionError):
        raise DataError(f"{path} contradicts itself: what it says of its source cannot be read", FORMATS_HINT) from None
    return Molecules(parts=parts, record=record)


def _texts(vocabulary: np.ndarray, tokens: np.ndarray, lengths: np.ndarray) -> Iterable[str]:
    """The texts of all molecules, joined chunk by chunk, as the strings of all symbols would take much memory."""
    ends = lengths.cumsum()
    for first in range(0, len(lengths), CHUNK_MOLECULES):
        here = ends[first : first + CHUNK_MOLECULES]
        start = int(here[0] - lengths[first])
        symbols = vocabulary[tokens[start : here[-1]]].tolist()
        bounds = (0, *(here - start).tolist())
        yield from ("".join(symbols[a:b]) for a, b in pairwise(bounds))
