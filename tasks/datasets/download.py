"""Downloads: mirrors are tried in order, checksums are compared before a file is kept, and one folder caches them."""

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

CHUNK_BYTES = 1 << 18  # bytes

# A callback with (what is being read, amount done, total amount or 0 if unknown): bytes of a download, files of a
# folder.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file to download, with its mirrors and the checksums that it must match."""

    name: str  # path in the cache folder
    urls: tuple[str, ...]  # in the order in which they are tried
    checksums: tuple[str, ...]  # "sha256:...", "md5:..." or "blob:..." (git's object id), at least one; all must agree

    def __post_init__(self) -> None:
        kinds = [text.partition(":")[0] for text in self.checksums]
        if not kinds or any(kind not in HASHES for kind in kinds):
            raise UsageError(
                f"expected checksums of kind {', '.join(HASHES)} for {self.name}, got {kinds}",
                "Write kind:hexadecimal.",
            )


class _WrongDownload(Exception):
    """A mirror sent a file that is incomplete or fails a checksum."""


def cache_folder() -> Path:
    """The folder that keeps downloads: $LSO_CACHE, else ~/.cache/lso."""
    return Path(os.environ.get("LSO_CACHE") or "~/.cache/lso").expanduser()


def _git_blob_hash(size: int) -> Any:
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


HASHES: dict[str, Callable[[int], Any]] = {
    "sha256": lambda size: hashlib.sha256(),
    "md5": lambda size: hashlib.md5(usedforsecurity=False),
    "blob": _git_blob_hash,
}


def file_hash(path: Path, kind: str = "sha256") -> str:
    """Hexadecimal checksum of a file: ``"sha256"``, ``"md5"``, or ``"blob"``, git's object id.

    Git's object id of a file is SHA-1 over ``blob <size>\\0<content>``.
    """
    digest = HASHES[kind](path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return str(digest.hexdigest())


def bytes_hash(content: bytes, kind: str = "sha256") -> str:
    """Hexadecimal checksum of bytes, as `file_hash` gives of a file that holds them."""
    digest = HASHES[kind](len(content))
    digest.update(content)
    return str(digest.hexdigest())


def find_mismatch(path: Path, checksums: tuple[str, ...]) -> str:
    """The first checksum of a file that differs from the expected one, in words; an empty string if all agree."""
    for text in checksums:
        kind, _, expected = text.partition(":")
        if (got := file_hash(path, kind)) != expected.lower():
            return f"{kind} is {got}, expected {expected.lower()}"
    return ""


def fetch(
    remote: RemoteFile, folder: Path | None = None, *, timeout: float = 30.0, progress: Progress | None = None
) -> Path:
    """Path of a file with the right checksums: from the cache if it is there, else from the first mirror that has it.

    A cached file is checked again at each call, and a failed download leaves nothing behind. A mirror that is silent
    for ``timeout`` seconds is given up.
    """
    target = (folder or cache_folder()) / remote.name
    if target.is_file() and not find_mismatch(target, remote.checksums):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the download cache {target.parent}: {error}",
            "Set the environment variable LSO_CACHE to a folder of your own.",
        ) from None
    failures = []
    for url in remote.urls:
        try:
            _download(url, target, remote, timeout, progress)
        except (OSError, HTTPException, _WrongDownload) as error:
            failures.append(f"{url}: {error}")
            if isinstance(error, HTTPError):
                error.close()
        else:
            return target
    raise DataError(
        f"cannot download {remote.name} ({'; '.join(failures)})",
        "Check the network connection and try again, or get the file by other means and give it with --data PATH.",
    )


def _download(url: str, target: Path, remote: RemoteFile, timeout: float, progress: Progress | None) -> None:
    # The file takes its name in the cache only when it is complete and checked.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, urlopen(url, timeout=timeout) as response:
            length = response.headers.get("Content-Length", "")
            done, total = 0, int(length) if length.isdigit() else 0
            while block := response.read(CHUNK_BYTES):
                done += file.write(block)
                if progress:
                    progress(f"downloading {remote.name}", done, total)
        if total and done != total:
            raise _WrongDownload(f"the transfer broke off after {done:,} of {total:,} bytes")
        if wrong := find_mismatch(part, remote.checksums):
            raise _WrongDownload(f"not the expected file: {wrong}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
