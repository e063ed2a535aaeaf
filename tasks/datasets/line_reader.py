"""Lines of a text file, packed or not: one sequence a line, perhaps after a label and a TAB. Torch-free."""

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lso.tasks.datasets.download import content_hash
from lso.vae.errors import DataError

GZIP = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"
OTHER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
LABELLED = re.compile(r"[^\S\t]*\S+[^\S\t]*\t")  # one word, then a TAB
LONGEST = 1_000_000  # bytes of a line; longer ones are no sequences, and would take 30 times their size as tokens
ONE_A_LINE = "Give UTF-8 text with one sequence a line."


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLines:
    """What a text file gave.

    Args:
        name: of the file, for notes and errors.
        texts: lines that are not blank, without line ends and labels.
        labels: of the same lines, or empty.
        blob: git's object id of the unpacked content, which fixes it.
        notes: sentences on what was done.
    """

    name: str
    texts: Sequence[str]
    labels: Sequence[str] = ()
    blob: str = ""
    notes: tuple[str, ...] = ()


def read(path: Path) -> TextLines:
    """Read a text file.

    Args:
        path: of a text file, packed with gzip or not, whatever its name says.
    Returns:
        Its lines.
    Raises:
        DataError: if it cannot be read or unpacked, is no UTF-8 text, or has no lines that are not blank.
    """
    return parse(content(path), path.name)


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked."""
    try:
        found = path.read_bytes()
        return gzip.decompress(found) if found.startswith(GZIP) else found
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}", ONE_A_LINE) from None


def parse(raw: bytes, name: str) -> TextLines:
    """Lines of a file's content.

    Lines end in LF or CR LF, or in CR where the file has no LF. If every line begins with one word and a TAB, those are
    the labels.
    """
    text, notes = _line_ends(decode(raw, name), name)
    lines = text.removesuffix("\n").split("\n")
    texts = [line for line in lines if line and not line.isspace()]
    if not texts:
        what = "has blank lines alone" if text else "is empty"
        raise DataError(f"{name} {what}", ONE_A_LINE)
    if len(texts) < len(lines):
        blank = len(lines) - len(texts)
        notes.append(f"{name}: {blank:,} of {len(lines):,} lines {_are(blank)} blank and left out.")
    labels: list[str] = []
    labelled = sum(map(bool, map(LABELLED.match, texts)))
    if 0 < labelled < len(texts):
        notes.append(
            f"{name}: {labelled:,} of {len(texts):,} lines begin with a word and a TAB: taken as text, as not all do."
        )
    if labelled == len(texts):
        texts, labels, empty = _labelled(texts)
        if empty:
            notes.append(f"{name}: lines with a label and no text, left out: {empty:,}.")
        if not texts:
            raise DataError(f"{name} has labels and no text", ONE_A_LINE)
    return TextLines(name=name, texts=texts, labels=labels, blob=content_hash(raw, "blob"), notes=tuple(notes))


def decode(raw: bytes, name: str) -> str:
    """UTF-8 text of a file's content, a byte order mark left out."""
    for mark, encoding in OTHER_MARKS.items():
        if raw.startswith(mark):
            raise DataError(
                f"{name} is {encoding}, expected UTF-8", f"Convert it: iconv -f {encoding} -t UTF-8 {name} > utf8.txt"
            )
    if (zero := raw.find(b"\0")) >= 0:
        raise DataError(f"{name} is no text file: byte {zero + 1:,} is 0", ONE_A_LINE)
    _require_lines(raw, name)
    try:
        return raw.removeprefix(UTF8_MARK).decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name} is not UTF-8: byte 0x{error.object[error.start]:02x} in line {line:,}",
            f"If it is text of another encoding, convert it, such as: iconv -f ISO-8859-1 -t UTF-8 {name} > utf8.txt",
        ) from None


def _line_ends(text: str, name: str) -> tuple[str, list[str]]:
    if "\r" not in text:
        return text, []
    if "\n" not in text:
        return text.replace("\r", "\n"), [f"{name}: lines end in CR."]
    count = text.count("\r\n")
    return text.replace("\r\n", "\n"), [f"{name}: {count:,} lines end in CR LF."] if count else []


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _labelled(lines: Sequence[str]) -> tuple[list[str], list[str], int]:
    """Texts, labels, and how many had no text."""
    pairs = [line.partition("\t") for line in lines]
    kept = [(text, label.strip()) for label, _, text in pairs if text and not text.isspace()]
    return [text for text, _ in kept], [label for _, label in kept], len(lines) - len(kept)


def _require_lines(raw: bytes, name: str) -> None:
    """Refuse a line that is longer than `LONGEST`, before anything is made of it."""
    start = 0
    while len(raw) - start > LONGEST:
        window = (start, start + LONGEST + 1)
        end = max(raw.rfind(b"\n", *window), raw.rfind(b"\r", *window))
        if end < 0:
            number = raw.count(b"\n", 0, start) + 1
            raise DataError(f"{name}: line {number:,} is longer than {LONGEST:,} bytes", ONE_A_LINE)
        start = end + 1
