"""The journal of a black-box search: JSON lines on disk, each written before the search continues."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lso.results.export import TAKEN_BACK_EVENT, to_json
from lso.results.result import Evaluation
from lso.vae.utils.files import Lock, append, writing
from lso.vae.utils.reading import format_checked_line, last_check, read_lines

EVALUATIONS = "evaluations.jsonl"
SYNC_INTERVAL = 1.0  # seconds between fsyncs: an expensive evaluation is on disk at once, cheap ones share an fsync
ASK, KNOWN, SCORED = "ask", "known", "scored"  # values of ``event``; rows of evaluations have no event


class JournalLines:
    """A file of JSON objects, one in each line, to which lines are appended.

    A line is handed to the operating system when `write` returns, so that killing the process loses nothing. Against
    loss of power it is fsynced at once, unless the last fsync was within a second; `sync` makes up for those. On
    opening, a last line that was cut off when the process died is removed, or gets its line end where it is complete;
    nothing else is changed. The file is made where it is missing; one process at a time may have it open (`Lock`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            _repair_last_line(path)
            self._check = last_check(path)
            self._file = path.open("ab", buffering=0)
            _sync_folder(path.parent)
        self._synced, self._last = True, 0.0

    def rows(self) -> list[dict[str, Any]]:
        """All recorded objects."""
        return read_lines(self.path)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append an object."""
        line, check = format_checked_line(row, self._check)
        append(self._file, self.path, line)
        self._check = check
        self._synced = False
        if time.monotonic() - self._last > SYNC_INTERVAL:
            self.sync()

    def sync(self) -> None:
        """Fsync the lines that were not fsynced yet."""
        if not self._synced:
            with writing(self.path):
                os.fsync(self._file.fileno())
            self._synced, self._last = True, time.monotonic()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Journal:
    """``evaluations.jsonl`` in a run folder: every ask and every evaluation of a search, synced before each ask.

    Opening it locks the folder: a RunError says that another process holds it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / EVALUATIONS
        self._lock = Lock(Path(folder))
        try:
            self._lines = JournalLines(self.path)
        except BaseException:
            self._lock.release()
            raise

    def rows(self) -> list[dict[str, Any]]:
        """All rows in order: evaluations by their fields, other rows with an ``event``; RunError for a damaged line."""
        return self._lines.rows()

    def write_known(self, z: Tensor, value: Tensor) -> None:
        """Record the codes and values that were told to the optimizer before the search."""
        values = [v if math.isfinite(v) else None for v in value.tolist()]
        self._lines.write({"event": KNOWN, "z": z.tolist(), "value": values})

    def write_scored(self, records: Sequence[Evaluation]) -> None:
        """Record the evaluations of earlier searches whose objects are answered from memory."""
        self._lines.write({"event": SCORED, "records": [to_json(record) for record in records]})

    def write_ask(self, number: int, z: Tensor, seconds: float) -> None:
        """Record an ask: its number, the proposed codes and the seconds it took; doubles are read back exactly."""
        self._lines.write({"event": ASK, "ask": number, "z": z.tolist(), "seconds": seconds})

    def write_retracted(self, calls: Sequence[int]) -> None:
        """Record that the evaluations of these calls do not count (`lso.black_box.budget.Ledger.retracted_calls`)."""
        self._lines.write({"event": TAKEN_BACK_EVENT, "calls": list(calls)})

    def write_evaluation(self, record: Evaluation) -> None:
        """Record an evaluation."""
        self._lines.write(to_json(record))

    def sync(self) -> None:
        """Fsync the lines that were not fsynced yet."""
        self._lines.sync()

    def close(self) -> None:
        """Close the file and unlock the folder."""
        self._lines.close()
        self._lock.release()


def _repair_last_line(path: Path) -> None:
    """Give a last line without end its line end where it is a complete object, or else remove it."""
    content = path.read_bytes() if path.is_file() else b""
    if not content or content.endswith(b"\n"):
        return
    start = content.rfind(b"\n") + 1
    with path.open("r+b") as file:
        if _is_json_object(content[start:]):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            file.truncate(start)
        file.flush()
        os.fsync(file.fileno())


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _sync_folder(folder: Path) -> None:
    """Have the directory entry of a new file written to the disk as well."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
