"""One process at a time in a run folder."""

from pathlib import Path

from lso.vae.errors import RunError
from lso.vae.files import writing

LOCK = ".lock"
HELD: set[Path] = set()  # lock files held by this process


class Lock:
    """A lock on a folder, which the system lets go of however the process ends.

    It is the process's own: processes that an executor forks do not inherit it, and cannot keep it when the process is
    killed. For the same reason it does not keep out this process itself; `HELD` does. The empty file stays: to remove
    it would take it from under a process that has just opened it.

    Args:
        folder: to be held.
    Raises:
        RunError: if it is held.
        WriteError: if it cannot be written in.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK
        self._path = path.resolve()
        if self._path in HELD:
            raise _taken("this process", path)
        with writing(path):
            self._file = path.open("a")
        try:
            import fcntl

            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # which of them is up to the system
            self._file.close()
            raise _taken("another process", path) from None
        except (ImportError, OSError):
            pass  # not a Unix, or a file system without locks: there is none that a killed process would give back
        HELD.add(self._path)

    def release(self) -> None:
        """Let go of the folder."""
        self._file.close()
        HELD.discard(self._path)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _taken(who: str, path: Path) -> RunError:
    return RunError(f"{who} is at work in {path.parent}", "Wait for it, or choose another folder.")
