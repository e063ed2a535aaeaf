"""Files of a run folder as anybody may have left them: whatever is wrong with one is told in two lines. Torch-free.

JSON objects carry their own seal, and so do lines of JSON that are appended one by one: a hash of what stands there, so
that a flipped bit or an edited value is seen by whoever reads it. Files written before there were seals have none.
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
    told = f"{type(why).__name__}: {why}" if isinstance(why, RecursionError | KeyError) else str(why)
    return RunError(f"cannot read {path}: {(told.strip() or type(why).__name__).splitlines()[0][:200]}", remedy)


def changed_error(path: Path, what: str = "its content is not what lso wrote") -> RunError:
    """The error for a file that can be read and is not as it was written."""
    return RunError(f"{path} was damaged or edited: {what}", ACCEPT)


def read_content(path: Path) -> bytes:
    """The bytes of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable_error(path, error.strerror or error) from None


def normalize_line_ends(raw: bytes) -> bytes:
    """Text with the line ends that lso writes, which git and file transfers may turn into those of another system."""
    return raw.replace(b"\r\n", b"\n")


def parse_object(raw: bytes, path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:  # of which UnicodeDecodeError is one
        raise unreadable_error(path, error) from None
    if not isinstance(values, dict):
        raise unreadable_error(path, f"expected a JSON object, got {type(values).__name__}")
    return values


# --- JSON that carries its own seal -----------------------------------------------------------------------------------


def compute_seal(values: Mapping[str, Any]) -> str:
    """What a JSON object's own seal should be: the sha256 of its values in a form that no layout changes.

    Args:
        values: as JSON reads them; a seal among them does not count.
    Returns:
        64 hexadecimal digits.
    """
    own = {key: value for key, value in values.items() if key != SEAL}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def format_sealed(values: Mapping[str, Any], indent: int | None = 2) -> bytes:
    """A JSON object with its seal."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    plain[SEAL] = compute_seal(plain)
    return utf8(json.dumps(plain, indent=indent, ensure_ascii=False) + "\n")


def replace_sealed(path: Path, values: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a JSON object with its seal, see `replace_file`."""
    json.dumps(values, allow_nan=False)  # strict, as browsers and other languages read it
    replace_file(path, format_sealed(values, indent))


def check_seal(raw: bytes, path: Path) -> dict[str, Any]:
    """A JSON object, its seal broken."""
    values = parse_object(raw, path)
    found = values.pop(SEAL, None)
    name, last = next(reversed(values.items()), ("", ""))
    # The seal is last; under another name of as many letters it is a damaged one. Files of version 0.1, which have
    # none, may end in a hash too: that of the model that a retraining began with, until its first session ended.
    if found is None and not (len(name) == len(SEAL) and HASH.fullmatch(str(last))):
        return values
    if found != compute_seal(values):
        raise changed_error(path)
    return values


def read_json(path: Path) -> dict[str, Any]:
    """A file of one JSON object."""
    return check_seal(read_content(path), path)


# --- lines of JSON, each with a check that goes on from the one before ------------------------------------------------


def format_checked_line(row: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """A line to append.

    Its check is the CRC-32 of its text, begun with the check before it: a changed, lost or exchanged line is seen.

    Args:
        row: at least one key.
        previous: check of the line before, empty where there is none.
    Returns:
        The line with its end, and its check.
    """
    text = json.dumps(row, allow_nan=False)[:-1].encode()
    check = f"{zlib.crc32(text, int(previous or '0', 16)):08x}"
    return text + f', "{CHECK}": "{check}"}}\n'.encode(), check


def format_checked_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """All lines of a file at once."""
    lines, previous = [], ""
    for row in rows:
        line, previous = format_checked_line(row, previous)
        lines.append(line)
    return b"".join(lines)


def last_check(path: Path) -> str:
    """The check of the last whole line of a file.

    Args:
        path: of the file, which may be missing.
    Returns:
        Eight digits; empty where there is no line or it has none.
    """
    lines = normalize_line_ends(read_content(path)).split(b"\n")[:-1] if path.is_file() else []
    match = CHECKED.fullmatch(lines[-1]) if lines else None
    return match[2].decode() if match else ""


def read_lines(path: Path, *, verify: bool = True) -> list[dict[str, Any]]:
    """The rows of a file of lines; one that is being written, without its end, is left out.

    Args:
        path: of the file.
        verify: whether checks are compared; they are left out of the rows.
    Returns:
        Rows in order.
    Raises:
        RunError: if a line cannot be read, or is not as it was written.
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
            if verify and check != previous:  # of the first that has a check: the line before it had one too
                blamed = number if checked or number == 1 else number - 1
                raise line_error(path, blamed, "it is not what lso wrote there", ACCEPT)
            values.pop(CHECK, None)
            checked = True
        rows.append(values)
    return rows


def line_error(path: Path, number: int, why: str, remedy: str = "Restore the file from a copy.") -> RunError:
    """The error for a line that cannot be read."""
    return RunError(f"{path}, line {number} is damaged: {why}", remedy)
