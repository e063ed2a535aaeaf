"""Reading the files of a run folder, which may be damaged or edited: any fault raises a two-line error. Torch-free.

A JSON object carries a seal, the hash of its content, and a line of JSON that is appended a check, so that a flipped
bit or an edited value is seen by whoever reads it. Files written before there were seals have none.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lso.vae.errors import RunError
from lso.vae.utils.files import replace_file, utf8

SEAL, CHECK = "seal", "check"
HASH = re.compile(r"[0-9a-f]{64}")
CHECKED = re.compile(rb'(.*), "check": "([0-9a-f]{8})"\}', re.DOTALL)
RESTORE = "Restore it from a copy, or make the run anew."
ACCEPT = "Restore it from a copy; if you meant the change, add --accept-changes (accept_changes=True in Python)."


def unreadable_error(path: Path, why: object, remedy: str = RESTORE) -> RunError:
    """The error for a file that cannot be read."""
    # The text of these two says little without the name of the class.
    reason = f"{type(why).__name__}: {why}" if isinstance(why, RecursionError | KeyError) else str(why)
    return RunError(f"cannot read {path}: {(reason.strip() or type(why).__name__).splitlines()[0][:200]}", remedy)


def changed_error(path: Path, what: str = "its content is not what lso wrote") -> RunError:
    """The error for a file that can be read but is not as it was written."""
    return RunError(f"{path} was damaged or edited: {what}", ACCEPT)


def read_content(path: Path) -> bytes:
    """The bytes of a file; a `RunError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable_error(path, error.strerror or error) from None


def normalize_line_ends(raw: bytes) -> bytes:
    """Text with Unix line ends, which lso writes, and which git and file transfers may replace by those of Windows."""
    return raw.replace(b"\r\n", b"\n")


def parse_object(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object; ``path`` names its file in errors."""
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise unreadable_error(path, error) from None
    if not isinstance(values, dict):
        raise unreadable_error(path, f"expected a JSON object, got {type(values).__name__}")
    return values


# --- JSON objects with a seal -----------------------------------------------------------------------------------------


def compute_seal(values: Mapping[str, Any]) -> str:
    """The seal of a JSON object: the sha256 of its values, the seal left out, whatever their order and layout."""
    content = {key: value for key, value in values.items() if key != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def format_sealed(values: Mapping[str, Any], indent: int | None = 2) -> bytes:
    """The text of a JSON object with its seal."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    plain[SEAL] = compute_seal(plain)
    return utf8(json.dumps(plain, indent=indent, ensure_ascii=False) + "\n")


def replace_sealed(path: Path, values: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a JSON object with its seal, see `replace_file`."""
    json.dumps(values, allow_nan=False)  # raises for NaN, which browsers and other languages cannot read
    replace_file(path, format_sealed(values, indent))


def check_seal(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object, compare its seal if it has one, and return the values without it."""
    values = parse_object(raw, path)
    seal = values.pop(SEAL, None)
    name, last = next(reversed(values.items()), ("", ""))
    # The seal is the last key; a hash under another name of as many letters is a seal whose name was damaged. Files of
    # version 0.1 have no seal and may end in a hash too: that of the model that a retraining began with, until its
    # first session ended.
    if seal is None and not (len(name) == len(SEAL) and HASH.fullmatch(str(last))):
        return values
    if seal != compute_seal(values):
        raise changed_error(path)
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of one JSON object and check its seal."""
    return check_seal(read_content(path), path)


# --- lines of JSON, each with a check that continues the one before ---------------------------------------------------


def format_checked_line(row: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """A row as a line to append, and its check: the CRC-32 of its text, started from that of the line before.

    So a changed, lost or exchanged line is seen. ``previous`` is empty for the first line; a row has at least one key.
    """
    text = json.dumps(row, allow_nan=False)[:-1].encode()
    check = f"{zlib.crc32(text, int(previous or '0', 16)):08x}"
    return text + f', "{CHECK}": "{check}"}}\n'.encode(), check


def format_checked_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """All lines of a file of rows, see `format_checked_line`."""
    lines, previous = [], ""
    for row in rows:
        line, previous = format_checked_line(row, previous)
        lines.append(line)
    return b"".join(lines)


def last_check(path: Path) -> str:
    """The check of a file's last complete line; empty where there is no file, no line, or a line without a check."""
    lines = normalize_line_ends(read_content(path)).split(b"\n")[:-1] if path.is_file() else []
    match = CHECKED.fullmatch(lines[-1]) if lines else None
    return match[2].decode() if match else ""


def read_lines(path: Path, *, verify: bool = True) -> list[dict[str, Any]]:
    """Read rows of JSON lines and, unless told not to, compare their checks, which the returned rows do not hold.

    A last line without an end is still being written and is left out.
    """
    previous, rows = "", []
    checked = False
    for number, line in enumerate(normalize_line_ends(read_content(path)).split(b"\n")[:-1], 1):
        try:
            values = parse_object(line, path)
        except RunError as error:
            raise line_error(path, number, error.message.partition(": ")[2]) from None
        match = CHECKED.fullmatch(line)
        if verify and match is None and (checked or CHECK in values):
            raise line_error(path, number, "its check is missing", ACCEPT)
        if match is not None:
            check = f"{zlib.crc32(match[1], int(previous or '0', 16)):08x}"
            previous = match[2].decode()
            if verify and check != previous:
                # The first line with a check fails where the line before it had one, which was damaged.
                blamed = number if checked or number == 1 else number - 1
                raise line_error(path, blamed, "it is not what lso wrote there", ACCEPT)
            values.pop(CHECK, None)
            checked = True
        rows.append(values)
    return rows


def line_error(path: Path, number: int, why: str, remedy: str = "Restore the file from a copy.") -> RunError:
    """The error for a line that cannot be read or is not as it was written."""
    return RunError(f"{path}, line {number} is damaged: {why}", remedy)
