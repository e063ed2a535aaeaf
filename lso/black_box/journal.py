"""Records on disk, each on a line of its own that is written before the work goes on."""

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
from lso.vae.utils.reading import checked_line, last_check, read_lines

EVALUATIONS = "evaluations.jsonl"
SYNC_INTERVAL = 1.0  # seconds between fsyncs: an expensive evaluation is on disk at once, cheap ones share an fsync
ASK, KNOWN, SCORED = "ask", "known", "scored"  # events; an evaluation's rows have none


class JournalLines:
    """A file of JSON objects, one a line, appended.

    A line is with the operating system when `write` returns, so that killing the process takes nothing. Against loss of
    power it is fsynced at once, unless a line was within the last second; `sync` makes up for those. A line that was
    being written when the process died is cut off, or given its end where it was whole; nothing else is changed.

    Args:
        path: of the file, which is made where it is missing. One process at a time may have it open: see `Lock`.
    Raises:
        WriteError: if it cannot be written.
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
        """What is recorded."""
        return read_lines(self.path)

    def write(self, row: Mapping[str, Any]) -> None:
        """Record an object."""
        line, check = checked_line(row, self._check)
        append(self._file, self.path, line)
        self._check = check
        self._synced = False
        if time.monotonic() - self._last > SYNC_INTERVAL:
            self.sync()

    def sync(self) -> None:
        """Have what is recorded written to the disk itself."""
        if not self._synced:
            with writing(self.path):
                os.fsync(self._file.fileno())
            self._synced, self._last = True, time.monotonic()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Journal:
    """``evaluations.jsonl`` of a search: every ask and every evaluation, `JournalLines` that are synced before each
    ask.

    Args:
        folder: of the run.
    Raises:
        RunError: if another process holds the folder, or a line is damaged.
        WriteError: if it cannot be written.
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
        """What is recorded.

        Returns:
            Rows in order; of asks and of what was known or scored before ``event`` says so, of evaluations there are
            their fields.
        Raises:
            RunError: if a line cannot be read.
        """
        return self._lines.rows()

    def write_known(self, z: Tensor, value: Tensor) -> None:
        """Record what the search knew beforehand."""
        values = [v if math.isfinite(v) else None for v in value.tolist()]
        self._lines.write({"event": KNOWN, "z": z.tolist(), "value": values})

    def write_scored(self, records: Sequence[Evaluation]) -> None:
        """Record what earlier searches scored."""
        self._lines.write({"event": SCORED, "records": [to_json(record) for record in records]})

    def write_ask(self, number: int, z: Tensor, seconds: float) -> None:
        """Record an ask.

        Args:
            number: of the ask.
            z: ``(n, d)`` what was proposed; doubles are written so that they are read back exactly.
            seconds: that it took.
        """
        self._lines.write({"event": ASK, "ask": number, "z": z.tolist(), "seconds": seconds})

    def write_retracted(self, calls: Sequence[int]) -> None:
        """Record that what became of calls does not count, see `lso.black_box.budget.Ledger.retracted_calls`."""
        self._lines.write({"event": TAKEN_BACK_EVENT, "calls": list(calls)})

    def write_evaluation(self, record: Evaluation) -> None:
        """Record an evaluation."""
        self._lines.write(to_json(record))

    def sync(self) -> None:
        """Have what is recorded written to the disk itself."""
        self._lines.sync()

    def close(self) -> None:
        """Let go of the folder."""
        self._lines.close()
        self._lock.release()


def _repair_last_line(path: Path) -> None:
    """Give a last line its end, or cut it off where it is not whole."""
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
    """Have the name of a new file written to the disk as well."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
