"""Hashes of a run's files, which stand in its run.json: what was written there is what is read. Torch-free.

A file that is written anew has two hashes for a moment, that of before and that of after, of which either will do: a
process that is killed between the two leaves nothing that looks like damage. An empty hash stands for no file. Of
metrics.jsonl, which grows, there is the hash of so many bytes from its start: ``1234:hash``. The lines of a search's
evaluations.jsonl have checks of their own, and once it has ended that of its last line stands here. Text with other
line ends, as git may check it out, is the same.
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
HASHED = ("config.toml", "model.safetensors", "codes.npz", "start.safetensors")
TEXT_FILES = ("config.toml",)  # of them; other line ends are no change
METRICS, JOURNAL = "metrics.jsonl", "evaluations.jsonl"
SELF_SEALED = ("report.json", "evaluation.json", "round.json")  # which carry their own seals
ABSENT = ""
PREFIX_SEAL = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")  # so many bytes, and their hash

Seals = dict[str, list[str]]


def digest(raw: bytes) -> str:
    """The hash of a file's content."""
    return hashlib.sha256(raw).hexdigest()


def seal_files(folder: Path) -> Seals:
    """The seals of the files that lie in a folder."""
    return {name: [_digest_file(folder / name)] for name in HASHED if (folder / name).is_file()} | seal_metrics(folder)


def seal_metrics(folder: Path) -> Seals:
    """The seal of what metrics.jsonl holds by now.

    Args:
        folder: of a run.
    Returns:
        By its name; nothing where there is no such file.
    """
    path = folder / METRICS
    if not path.is_file():
        return {}
    raw = read_content(path)
    return {METRICS: [f"{len(raw)}:{digest(raw)}"]}


def _starts_as_sealed(path: Path, seal: str) -> bool:
    """Whether a file begins with what a seal is of."""
    match = PREFIX_SEAL.fullmatch(seal)
    if match is None:
        return False
    size = int(match[1])
    raw = read_content(path) if path.is_file() else b""
    return any(digest(one[:size]) == match[2] for one in (raw, normalize_line_ends(raw)))


def _digest_file(path: Path) -> str:
    if not path.is_file():
        return ABSENT
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_seals(info: Mapping[str, Any], folder: Path) -> Seals | None:
    """The seals that a run.json holds.

    Args:
        info: its content.
        folder: of the run, for errors.
    Returns:
        By name; None in a folder that was written before there were seals.
    Raises:
        RunError: if they are none.
    """
    found = info.get(SEALS)
    if found is None:
        return None
    if not isinstance(found, dict) or not all(_list_of_text(one) for one in found.values()):
        raise changed_error(folder / RUN_INFO, "its list of hashes cannot be read")
    return found


def _list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def find_damage(folder: Path, name: str, seals: Seals) -> RunError | None:
    """What is wrong with a file.

    Args:
        folder: of the run.
        name: of the file; of evaluations.jsonl its end alone is looked at, its lines are by who reads them.
        seals: of the run.
    Returns:
        The error, or None.
    """
    path = folder / name
    told = seals.get(name, [])
    if name == JOURNAL:
        fits = not told or last_check(path) in told
        return None if fits else changed_error(path, "its last line is not the one that was written last")
    if name == METRICS:
        fits = not told or any(_starts_as_sealed(path, seal) for seal in told)
        return None if fits else changed_error(path, "its rows are not what lso wrote")
    found = _digest_file(path)
    if found in (told or [found]):  # one that is not listed was put there by somebody else
        return None
    if name in TEXT_FILES and found != ABSENT and digest(normalize_line_ends(read_content(path))) in told:
        return None
    return changed_error(path, "it is missing" if found == ABSENT else "its content is not what lso wrote")


def journal_seal(info: Mapping[str, Any], folder: Path) -> Seals:
    """What is said of evaluations.jsonl: nothing while lines are appended, and its end once nobody does any more.

    Args:
        info: of the run, with the status that it is to have.
        folder: of the run.
    Returns:
        By its name.
    """
    end = last_check(folder / JOURNAL)
    return {JOURNAL: [end] if end and info.get("status") != "running" else []} if info.get("kind") == "search" else {}


def accept_files(folder: Path) -> list[Path]:
    """Take a run folder, and those below it, as they are now."""
    found: list[Path] = []
    for info in sorted(folder.rglob(RUN_INFO)):
        if info.parent.name.startswith("."):
            continue
        with Lock(info.parent):
            found += _accept_run(info.parent)
    return found


def _accept_run(folder: Path) -> list[Path]:
    own = [path for path in map(folder.joinpath, SELF_SEALED) if path.is_file()]
    found = [path for path in own if _reseal(path, parse_object(read_content(path), path))]
    info = parse_object(read_content(folder / RUN_INFO), folder / RUN_INFO)
    if (folder / JOURNAL).is_file() and _recheck(folder / JOURNAL):
        found.append(folder / JOURNAL)
    if info.get(SEALS) is not None:
        try:
            before = read_seals(info, folder)
        except RunError:  # then run.json itself is what changed
            before = None
        found += [folder / name for name in (*HASHED, METRICS) if find_damage(folder, name, before or {})]
        info[SEALS] = seal_files(folder) | journal_seal(info, folder)
    if _reseal(folder / RUN_INFO, info):
        found.append(folder / RUN_INFO)
    return found


def _reseal(path: Path, values: dict[str, Any]) -> bool:
    """Seal an object anew; whether that changed anything."""
    before = parse_object(read_content(path), path)
    after = format_sealed(values)
    if SEALS not in values and "seal" not in before:  # of before there were seals
        return False
    if parse_object(after, path) == before:
        return False
    replace_file(path, after)
    return True


def _recheck(path: Path) -> bool:
    """Check lines anew, those that had a check; whether that changed anything."""
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
