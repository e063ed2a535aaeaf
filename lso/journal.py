"""The record of a black-box search on disk: every ask and every evaluation, written before the search goes on."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lso.record import to_json
from lso.result import Evaluation
from lso.vae.errors import RunError

EVALUATIONS, LOCK = "evaluations.jsonl", ".lock"
ASK, KNOWN, SCORED = "ask", "known", "scored"  # events; an evaluation's rows have none


class Journal:
    """``evaluations.jsonl``: one line an ask or an evaluation, appended and fsynced.

    A line that was being written when the process died is cut off; whatever follows it, nothing else is.

    Args:
        folder: of the run.
    Raises:
        RunError: if another process holds the folder, or a line is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / EVALUATIONS
        self._lock = locked(Path(folder) / LOCK)
        _mend(self.path)
        self._file = self.path.open("ab")

    def rows(self) -> list[dict[str, Any]]:
        """What is recorded.

        Returns:
            Rows in order; of asks and of what was known or scored before ``event`` says so, of evaluations there are
            their fields.
        Raises:
            RunError: if a line cannot be read.
        """
        return list(_read(self.path))

    def known(self, z: Tensor, value: Tensor) -> None:
        """Record what the search knew beforehand.

        Args:
            z: ``(k, d)`` codes.
            value: ``(k,)`` their values.
        """
        values = [v if math.isfinite(v) else None for v in value.tolist()]
        self._write({"event": KNOWN, "z": z.tolist(), "value": values})

    def scored(self, records: Sequence[Evaluation]) -> None:
        """Record what earlier searches scored.

        Args:
            records: theirs.
        """
        self._write({"event": SCORED, "records": [to_json(record) for record in records]})

    def ask(self, number: int, z: Tensor, seconds: float) -> None:
        """Record an ask.

        Args:
            number: of the ask.
            z: ``(n, d)`` what was proposed; doubles are written so that they are read back exactly.
            seconds: that it took.
        """
        self._write({"event": ASK, "ask": number, "z": z.tolist(), "seconds": seconds})

    def evaluation(self, record: Evaluation) -> None:
        """Record an evaluation.

        Args:
            record: with the number of its call.
        """
        self._write(to_json(record))

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the folder."""
        self._file.close()
        self._lock.close()


def locked(path: Path) -> Any:
    """Hold a folder for this process.

    Args:
        path: of the lock file in it.
    Returns:
        The open file; the system lets go of it however the process ends.
    Raises:
        RunError: if another process holds it.
    """
    file = path.open("a")
    try:
        import fcntl
    except ImportError:  # not a Unix: there is no lock that a killed process would give back
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RunError(
            f"another process is searching in {path.parent}", "Wait for it, or choose another folder."
        ) from None
    return file


def _mend(path: Path) -> None:
    """Cut off a last line without its end."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
            os.fsync(file.fileno())


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            raise RunError(
                f"{path}, line {number} is damaged: {line[:60]!r}", "Lines are only ever appended; restore the file."
            ) from None
        yield row
