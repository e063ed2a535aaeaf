"""Reads text files of one sequence a line, gzipped or not, with an optional label and TAB before it. Torch-free."""

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lso.tasks.datasets.download import bytes_hash
from lso.vae.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
UTF8_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
LABEL_PREFIX = re.compile(r"[^\S\t]*\S+[^\S\t]*\t")  # one word, then a TAB
MAX_LINE_BYTES = 1_000_000  # longer lines are not sequences; as tokens they would take 30 times their size
ONE_SEQUENCE_A_LINE = "Give UTF-8 text with one sequence a line."


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLines:
    """The sequences of one text file."""

    name: str  # of the file, for notes and errors
    texts: Sequence[str]  # the lines that are not blank, without line ends and labels
    labels: Sequence[str] = ()  # one for each text, or none at all
    blob: str = ""  # git's object id of the unpacked content, by which a changed file is recognised
    notes: tuple[str, ...] = ()  # sentences for the provenance


def read_text_lines(path: Path) -> TextLines:
    """Read the lines of a UTF-8 text file, gzipped or not whatever its name says; blank lines are left out."""
    return parse_lines(read_unpacked(path), path.name)


def read_unpacked(path: Path) -> bytes:
    """The bytes of a file, decompressed if it is gzipped."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}", ONE_SEQUENCE_A_LINE) from None


def parse_lines(raw: bytes, name: str) -> TextLines:
    """Split a file's content into lines, and these into labels and texts where every line has a label.

    Lines end in LF or CR LF, or in CR where the file has no LF. If every line begins with one word and a TAB, these
    words are the labels.
    """
    text, notes = _normalize_line_ends(decode_utf8(raw, name), name)
    lines = text.removesuffix("\n").split("\n")
    texts = [line for line in lines if line and not line.isspace()]
    if not texts:
        fault = "has only blank lines" if text else "is empty"
        raise DataError(f"{name} {fault}", ONE_SEQUENCE_A_LINE)
    if len(texts) < len(lines):
        blank = len(lines) - len(texts)
        notes.append(f"{name}: {blank:,} of {len(lines):,} lines {_are(blank)} blank and left out.")
    labels: list[str] = []
    labelled = sum(map(bool, map(LABEL_PREFIX.match, texts)))
    if 0 < labelled < len(texts):
        notes.append(
            f"{name}: {labelled:,} of {len(texts):,} lines begin with a word and a TAB; as not all do, these words are "
            "taken as text, not as labels."
        )
    if labelled == len(texts):
        texts, labels, empty = _split_labels(texts)
        if empty:
            notes.append(f"{name}: lines with a label but no text, left out: {empty:,}.")
        if not texts:
            raise DataError(f"{name} has labels but no text", ONE_SEQUENCE_A_LINE)
    return TextLines(name=name, texts=texts, labels=labels, blob=bytes_hash(raw, "blob"), notes=tuple(notes))


def decode_utf8(raw: bytes, name: str) -> str:
    """Decode a file's content as UTF-8, without its byte order mark."""
    for mark, encoding in OTHER_BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            raise DataError(
                f"{name} is {encoding}, expected UTF-8", f"Convert it: iconv -f {encoding} -t UTF-8 {name} > utf8.txt"
            )
    if (zero := raw.find(b"\0")) >= 0:
        raise DataError(f"{name} is not a text file: byte {zero + 1:,} is 0", ONE_SEQUENCE_A_LINE)
    _check_line_lengths(raw, name)
    try:
        return raw.removeprefix(UTF8_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name} is not UTF-8: byte 0x{error.object[error.start]:02x} in line {line:,}",
            f"If it is in another encoding, convert it, for example: iconv -f ISO-8859-1 -t UTF-8 {name} > utf8.txt",
        ) from None


def _normalize_line_ends(text: str, name: str) -> tuple[str, list[str]]:
    if "\r" not in text:
        return text, []
    if "\n" not in text:
        return text.replace("\r", "\n"), [f"{name}: lines end in CR."]
    count = text.count("\r\n")
    return text.replace("\r\n", "\n"), [f"{name}: {count:,} lines end in CR LF."] if count else []


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _split_labels(lines: Sequence[str]) -> tuple[list[str], list[str], int]:
    """Texts and labels of the lines that have both, and the number of lines that have a label alone."""
    pairs = [line.partition("\t") for line in lines]
    kept = [(text, label.strip()) for label, _, text in pairs if text and not text.isspace()]
    return [text for text, _ in kept], [label for _, label in kept], len(lines) - len(kept)


def _check_line_lengths(raw: bytes, name: str) -> None:
    """Refuse lines longer than `MAX_LINE_BYTES` before the content is decoded and split."""
    start = 0
    while len(raw) - start > MAX_LINE_BYTES:
        window = (start, start + MAX_LINE_BYTES + 1)
        end = max(raw.rfind(b"\n", *window), raw.rfind(b"\r", *window))
        if end < 0:
            number = raw.count(b"\n", 0, start) + 1
            raise DataError(f"{name}: line {number:,} is longer than {MAX_LINE_BYTES:,} bytes", ONE_SEQUENCE_A_LINE)
        start = end + 1
