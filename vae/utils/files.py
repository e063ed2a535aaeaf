"""Files and folders that appear complete or not at all, and the lock that keeps a run folder to one process."""

import errno
import io
import json
import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from lso.vae.errors import RunError, WriteError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
MAKE_ROOM = "Make room on the disk, then give the command again; what can be resumed goes on where it was."
CHECK_PATH = "Check the path and its permissions, or choose another place."
TEMPORARY_SUFFIX = ".half"  # of the names of files that are being written
TEMPORARY_NAME = re.compile(r"\..+\.([0-9a-f]{8})\.([0-9]{1,9})\.half", re.DOTALL)  # machine, process


# --- failures of the file system --------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's error about a file that cannot be written into a `WriteError`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise WriteError(f"cannot write {path}: {why}", MAKE_ROOM if error.errno in DISK_FULL else CHECK_PATH) from None


def write_fully(file: FileIO, content: bytes) -> None:
    """Write all bytes to a file that was opened unbuffered.

    Every writer of this module ends here, so that tests can let any of them fail.
    """
    left = memoryview(content)  # unbuffered: a buffer would be written later, when the file is closed
    while left:
        left = left[file.write(left) :]


# --- writing completely or not at all ---------------------------------------------------------------------------------


def temporary_path(path: Path) -> Path:
    """A hidden name in the same folder that no other process uses, from which a rename to the path is atomic."""
    return path.with_name(f".{path.name}.{_machine_id()}.{os.getpid()}{TEMPORARY_SUFFIX}")


@cache
def _machine_id() -> str:
    """An identifier of this machine: on a shared disk only the machine of a process can tell whether it still runs."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it."""
    half = temporary_path(path)
    with writing(path):
        try:
            with half.open("wb", buffering=0) as file:
                write_fully(file, content)
            os.replace(half, path)
        except BaseException:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            raise


def overwrite(path: Path, content: bytes) -> None:
    """Overwrite a file in place, which works on a full disk as long as the content is not longer than the old one."""
    with writing(path), path.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if len(content) > size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), size, len(content) - size)  # a full disk fails here, nothing changed yet
        write_fully(file, content)
        file.truncate(len(content))


def append(file: FileIO, path: Path, content: bytes) -> None:
    """Append bytes to an open file, all of them or none."""
    size = os.fstat(file.fileno()).st_size
    with writing(path):
        try:
            write_fully(file, content)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.fileno(), size)
            raise


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write into, which becomes ``path`` at the end: it appears complete or not at all.

    Where ``path`` is a folder that is not empty, that folder itself is yielded. A failure leaves nothing behind.
    """
    if path.is_dir() and any(path.iterdir()):
        yield path
        return
    half = temporary_path(path.absolute())
    remove_leftovers(path)
    try:
        with writing(path):
            half.mkdir(parents=True)
        yield half
        with writing(path):
            os.replace(half, path)
    except WriteError as error:  # the message names the final path, not the temporary one
        shutil.rmtree(half, ignore_errors=True)
        raise WriteError(error.message.replace(str(half), str(path)), error.hint) from None
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files and folders that killed processes left when they wrote ``path``."""
    _remove_abandoned(path.absolute().parent.glob(f".{_escape_glob(path.name)}.*{TEMPORARY_SUFFIX}"))


def remove_leftovers_below(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left anywhere in a folder, and nothing else."""
    _remove_abandoned(list(folder.rglob(f".*{TEMPORARY_SUFFIX}")))


def _remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove temporary files of processes of this machine that no longer run."""
    for leftover in paths:
        match = TEMPORARY_NAME.fullmatch(leftover.name)
        if match is None or match[1] != _machine_id() or (int(match[2]) != os.getpid() and _is_running(int(match[2]))):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _escape_glob(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


# --- contents ---------------------------------------------------------------------------------------------------------


def utf8(text: str) -> bytes:
    """Text as UTF-8; a surrogate, as a file name that is not UTF-8 holds, becomes an escape such as ``\\udce9``."""
    # Inside a JSON string this escape is JSON's own and is read back as the surrogate.
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Text that any file, terminal or plot can hold: surrogates are escaped, see `utf8`."""
    return utf8(text).decode()


# Characters that a terminal acts on instead of showing them: ESC and the other C0 and C1 controls except line break and
# tab, and those that change the direction of the text after them (Boucher, Anderson 2021, arXiv:2111.00169).
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
CONTROLS |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def escape_controls(text: str) -> str:
    """Text that a terminal can only show: control characters and bytes that are not UTF-8 become escapes.

    Otherwise a name or sentence from somebody else's folder could clear the screen, change the window's title or
    overwrite the verdict printed above it.
    """
    return printable(text).translate(CONTROLS)


def replace_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write a value as strict JSON (no NaN or infinity), see `replace_file`."""
    replace_file(path, utf8(json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"))


def replace_lines(path: Path, lines: Iterable[Any]) -> None:
    """Write one line of text for each value, see `replace_file`."""
    replace_file(path, utf8("".join(f"{line}\n" for line in lines)))


def replace_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, see `replace_file`."""
    text = io.StringIO(newline="")
    import csv  # few commands write tables, and all import this module

    table = csv.DictWriter(text, columns, extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    replace_file(path, utf8(text.getvalue()))


def replace_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write named arrays as npz, see `replace_file`."""
    import numpy

    content = io.BytesIO()
    (numpy.savez_compressed if compressed else numpy.savez)(content, **arrays)
    replace_file(path, content.getvalue())


LOCK = ".lock"
HELD_LOCKS: set[Path] = set()  # lock files held by this process


class Lock:
    """A lock on a folder, which the system releases however the process ends. A folder in use raises a `RunError`.

    The empty lock file stays after the release: another process may just have opened it, and would lock a removed file.
    """

    # A POSIX record lock (`lockf`) belongs to the process: those that an executor forks do not inherit it and cannot
    # hold it after this one was killed. It does not keep out this process itself; `HELD_LOCKS` does.

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK
        self._path = path.resolve()
        if self._path in HELD_LOCKS:
            raise _locked_error("this process", path)
        with writing(path):
            self._file = path.open("a")
        try:
            import fcntl

            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # systems differ in which of them they raise
            self._file.close()
            raise _locked_error("another process", path) from None
        except (ImportError, OSError):
            pass  # not a Unix, or a file system without locks: no other lock would be released by a killed process
        HELD_LOCKS.add(self._path)

    def release(self) -> None:
        """Release the folder."""
        self._file.close()
        HELD_LOCKS.discard(self._path)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _locked_error(who: str, path: Path) -> RunError:
    return RunError(f"{who} is at work in {path.parent}", "Wait for it, or choose another folder.")
