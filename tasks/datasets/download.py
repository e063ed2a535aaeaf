"""Files from the internet: mirrors tried in order, a checksum before anything is kept, one cache folder."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from lso.vae.errors import DataError, UsageError

CHUNK = 1 << 18  # bytes

# What is being read, how much is done, and of how much (0 where not known): bytes of a download, files of a folder.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file on the internet.

    Args:
        name: its name in the cache.
        urls: where it lies, in the order to try.
        checksums: ``"sha256:..."``, ``"md5:..."`` or ``"blob:..."`` (git's id); all must agree, and there must be one.
    Raises:
        UsageError: without a checksum, or with one of another kind.
    """

    name: str
    urls: tuple[str, ...]
    checksums: tuple[str, ...]

    def __post_init__(self) -> None:
        kinds = [text.partition(":")[0] for text in self.checksums]
        if not kinds or any(kind not in HASHES for kind in kinds):
            raise UsageError(
                f"expected checksums of kind {', '.join(HASHES)} for {self.name}, got {kinds}",
                "Write kind:hexadecimal.",
            )


class _Rejected(Exception):
    """A mirror's file that is not the one wanted."""


def cache_folder() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("LSO_CACHE") or "~/.cache/lso").expanduser()


def _blob(size: int) -> Any:
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


HASHES: dict[str, Callable[[int], Any]] = {
    "sha256": lambda size: hashlib.sha256(),
    "md5": lambda size: hashlib.md5(usedforsecurity=False),
    "blob": _blob,
}


def file_hash(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file.

    Args:
        path: the file.
        kind: ``"sha256"``, ``"md5"``, or ``"blob"``: git's object id, SHA-1 over ``blob <size>\\0<content>``.
    Returns:
        hexadecimal digits.
    """
    digest = HASHES[kind](path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return str(digest.hexdigest())


def content_hash(content: bytes, kind: str = "sha256") -> str:
    """Checksum of what a file would hold."""
    digest = HASHES[kind](len(content))
    digest.update(content)
    return str(digest.hexdigest())


def mismatch(path: Path, checksums: tuple[str, ...]) -> str:
    """What is wrong with a file.

    Args:
        path: the file.
        checksums: as in `Remote`.
    Returns:
        The first sum that differs, in words; empty if all agree.
    """
    for text in checksums:
        kind, _, expected = text.partition(":")
        if (got := file_hash(path, kind)) != expected.lower():
            return f"{kind} is {got}, expected {expected.lower()}"
    return ""


def fetch(
    remote: Remote, folder: Path | None = None, *, timeout: float = 30.0, progress: Progress | None = None
) -> Path:
    """The file, from the cache if a right one is there, else from the first mirror that has it.

    A file in the cache is checked again every time. Nothing is left behind by a failure.

    Args:
        remote: what to get.
        folder: where to keep it; None for `cache_folder`.
        timeout: seconds of silence after which a mirror is given up.
        progress: told the bytes that have come.
    Returns:
        Path of the checked file.
    Raises:
        DataError: if no mirror gives the right file, naming what each did, or if the folder cannot be written.
    """
    target = (folder or cache_folder()) / remote.name
    if target.is_file() and not mismatch(target, remote.checksums):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the download cache {target.parent}: {error}", "Set LSO_CACHE to a folder of your own."
        ) from None
    failures = []
    for url in remote.urls:
        try:
            _download(url, target, remote, timeout, progress)
        except (OSError, HTTPException, _Rejected) as error:
            failures.append(f"{url}: {error}")
            if isinstance(error, HTTPError):
                error.close()
        else:
            return target
    raise DataError(
        f"cannot download {remote.name} ({'; '.join(failures)})",
        "Try again with a connection, or get the file by other means and give it with --data PATH.",
    )


def _download(url: str, target: Path, remote: Remote, timeout: float, progress: Progress | None) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, urlopen(url, timeout=timeout) as response:
            length = response.headers.get("Content-Length", "")
            done, total = 0, int(length) if length.isdigit() else 0
            while block := response.read(CHUNK):
                done += file.write(block)
                if progress:
                    progress(f"downloading {remote.name}", done, total)
        if total and done != total:
            raise _Rejected(f"the transfer broke off after {done:,} of {total:,} bytes")
        if wrong := mismatch(part, remote.checksums):
            raise _Rejected(f"not the expected file: {wrong}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
