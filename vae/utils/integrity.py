"""Seals: hashes of a run's files, kept in its run.json, by which damage and edits are seen. Torch-free.

While a file is being replaced it has two valid hashes, the old and the new one: a process that is killed in between
leaves nothing that looks like damage. An empty hash stands for no file. The seal of metrics.jsonl, which grows, is the
hash of its first bytes with their number: ``1234:hash``. The lines of a search's evaluations.jsonl carry checks of
their own (see `lso.vae.utils.reading`); once the search has ended, the check of the last line is kept here. Text with
other line ends, as git may check it out, counts as unchanged.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.vae.errors import RunError
from lso.vae.utils.files import Lock, replace_file
from lso.vae.utils.reading import (
    CHECK,
    changed_error,
    format_checked_line,
    format_sealed,
    last_check,
    line_error,
    normalize_line_ends,
    parse_object,
    read_content,
    read_lines,
)

SEALS = "seals"  # key of run.json
RUN_INFO = "run.json"
HASHED = ("config.toml", "model.safetensors", "codes.npz", "start.safetensors", "examples.npz")
TEXT_FILES = ("config.toml",)  # those of `HASHED` in which other line ends are no change
METRICS, JOURNAL = "metrics.jsonl", "evaluations.jsonl"
SELF_SEALED = ("report.json", "evaluation.json", "round.json")  # JSON objects with a seal of their own
ABSENT = ""  # the hash of a file that does not exist
PREFIX_SEAL = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")  # number of bytes, and their hash

Seals = dict[str, list[str]]  # file name -> its valid hashes


def digest(raw: bytes) -> str:
    """The sha256 of a file's content, as 64 hexadecimal digits."""
    return hashlib.sha256(raw).hexdigest()


def seal_files(folder: Path) -> Seals:
    """The seals of a run folder's files as they are now."""
    return {name: [_digest_file(folder / name)] for name in HASHED if (folder / name).is_file()} | seal_metrics(folder)


def seal_metrics(folder: Path) -> Seals:
    """The seal of metrics.jsonl as long as it is now; empty where there is no such file."""
    path = folder / METRICS
    if not path.is_file():
        return {}
    raw = read_content(path)
    return {METRICS: [f"{len(raw)}:{digest(raw)}"]}


def _starts_as_sealed(path: Path, seal: str) -> bool:
    """Whether a file begins with the bytes that a `PREFIX_SEAL` was made of."""
    match = PREFIX_SEAL.fullmatch(seal)
    if match is None:
        return False
    size = int(match[1])
    raw = read_content(path) if path.is_file() else b""
    return any(digest(version[:size]) == match[2] for version in (raw, normalize_line_ends(raw)))


def _digest_file(path: Path) -> str:
    if not path.is_file():
        return ABSENT
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_seals(info: Mapping[str, Any], folder: Path) -> Seals | None:
    """The seals in the content of a run.json; None where the folder was written before there were seals."""
    seals = info.get(SEALS)
    if seals is None:
        return None
    if not isinstance(seals, dict) or not all(_is_list_of_text(hashes) for hashes in seals.values()):
        raise changed_error(folder / RUN_INFO, "its list of hashes cannot be read")
    return seals


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def find_damage(folder: Path, name: str, seals: Seals) -> RunError | None:
    """The error for a run's file that differs from its seals, or None; a file without seals is not checked."""
    path = folder / name
    valid = seals.get(name, [])
    if name == JOURNAL:  # the check of a line covers those before it, and `read_lines` compares them all
        unchanged = not valid or last_check(path) in valid
        return None if unchanged else changed_error(path, "its last line is not the one that was written last")
    if name == METRICS:
        unchanged = not valid or any(_starts_as_sealed(path, seal) for seal in valid)
        return None if unchanged else changed_error(path, "its rows are not what lso wrote")
    actual = _digest_file(path)
    if actual in (valid or [actual]):  # a file without seals was put there by somebody else
        return None
    if name in TEXT_FILES and actual != ABSENT and digest(normalize_line_ends(read_content(path))) in valid:
        return None
    return changed_error(path, "it is missing" if actual == ABSENT else "its content is not what lso wrote")


def journal_seal(info: Mapping[str, Any], folder: Path) -> Seals:
    """The seal of a search's evaluations.jsonl: none while lines are appended, its last check once it has ended.

    ``info`` holds the status that the run is going to have.
    """
    end = last_check(folder / JOURNAL)
    return {JOURNAL: [end] if end and info.get("status") != "running" else []} if info.get("kind") == "search" else {}


def accept_files(folder: Path) -> list[Path]:
    """Seal the files of a run folder, and of runs below it, as they are now.

    Returns:
        The files that differed from their seals.
    """
    accepted: list[Path] = []
    for info in sorted(folder.rglob(RUN_INFO)):
        if info.parent.name.startswith("."):
            continue
        with Lock(info.parent):
            accepted += _accept_run(info.parent)
    return accepted


def _accept_run(folder: Path) -> list[Path]:
    self_sealed = [path for path in map(folder.joinpath, SELF_SEALED) if path.is_file()]
    accepted = [path for path in self_sealed if _reseal(path, parse_object(read_content(path), path))]
    info = parse_object(read_content(folder / RUN_INFO), folder / RUN_INFO)
    if (folder / JOURNAL).is_file() and _recheck(folder / JOURNAL):
        accepted.append(folder / JOURNAL)
    if info.get(SEALS) is not None:
        try:
            before = read_seals(info, folder)
        except RunError:  # then run.json itself is what changed
            before = None
        accepted += [folder / name for name in (*HASHED, METRICS) if find_damage(folder, name, before or {})]
        info[SEALS] = seal_files(folder) | journal_seal(info, folder)
    if _reseal(folder / RUN_INFO, info):
        accepted.append(folder / RUN_INFO)
    return accepted


def _reseal(path: Path, values: dict[str, Any]) -> bool:
    """Write a JSON object with a new seal; returns whether that changed the file."""
    before = parse_object(read_content(path), path)
    after = format_sealed(values)
    if SEALS not in values and "seal" not in before:  # written before there were seals
        return False
    if parse_object(after, path) == before:
        return False
    replace_file(path, after)
    return True


def _recheck(path: Path) -> bool:
    """Write new checks for the lines that had one; returns whether that changed the file."""
    before, previous = read_content(path), ""
    after = b""
    for number, (row, line) in enumerate(zip(read_lines(path, verify=False), before.split(b"\n"), strict=False), 1):
        text, check = (line + b"\n", "")
        if previous or CHECK in parse_object(line, path):
            try:
                text, check = format_checked_line(row, previous)
            except ValueError:
                raise line_error(path, number, "it holds a number that is not finite, which lso never writes") from None
        after, previous = after + text, check
    rest = before.rpartition(b"\n")[2]
    if after + rest == before:
        return False
    replace_file(path, after + rest)
    return True
