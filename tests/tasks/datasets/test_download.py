"""Downloads against a local server: only the right file is ever left in the cache."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lso.tasks.datasets.download import RemoteFile, cache_folder, fetch, file_hash
from lso.vae.errors import DataError, UsageError

CONTENT = bytes(range(256)) * 3000
# git hash-object and md5sum of the same bytes, computed outside of the package
SUMS = {
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "md5": hashlib.md5(CONTENT).hexdigest(),
    "blob": hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest(),
}


class Handler(BaseHTTPRequestHandler):
    """/good is the file, /wrong another one, /short breaks off, anything else is 404."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in ("/good", "/wrong", "/short"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write({"/good": CONTENT, "/wrong": CONTENT[::-1], "/short": CONTENT[:5000]}[self.path])

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def remote(server: str, *pages: str, kinds: tuple[str, ...] = ("sha256", "md5", "blob")) -> RemoteFile:
    sums = tuple(f"{kind}:{SUMS[kind]}" for kind in kinds)
    return RemoteFile(name="set/file.bin", urls=tuple(f"{server}/{page}" for page in pages), checksums=sums)


@pytest.mark.parametrize("kind", SUMS)
def test_each_kind_of_checksum_accepts_the_file_and_refuses_another(server: str, tmp_path: Path, kind: str) -> None:
    path = fetch(remote(server, "good", kinds=(kind,)), tmp_path / kind)
    assert path.read_bytes() == CONTENT
    assert file_hash(path, kind) == SUMS[kind]
    with pytest.raises(DataError, match=rf"wrong: not the expected file: {kind} is \w+, expected {SUMS[kind]}"):
        fetch(remote(server, "wrong", kinds=(kind,)), tmp_path / "other")


def test_the_blob_id_is_git_s(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_hash(tmp_path / "empty", "blob") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git's empty blob


@pytest.mark.parametrize(
    ("page", "reason"),
    [("wrong", "not the expected file"), ("nowhere", "404"), ("short", "broke off after 5,000 of 768,000 bytes")],
)
def test_a_failure_is_told_and_leaves_nothing(server: str, tmp_path: Path, page: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"(?s)cannot download set/file.bin.*{page}.*{reason}.*\n.*--data PATH"):
        fetch(remote(server, page), tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot download"):
        fetch(remote("http://127.0.0.1:9", "good"), tmp_path, timeout=2.0)


def test_mirrors_are_tried_in_order(server: str, tmp_path: Path) -> None:
    fetch(remote(server, "nowhere", "wrong", "good", "unasked"), tmp_path)
    assert Handler.asked == ["/nowhere", "/wrong", "/good"]
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["file.bin"]


def test_a_cached_file_is_checked_again(server: str, tmp_path: Path) -> None:
    path = fetch(remote(server, "good"), tmp_path)
    fetch(remote(server, "good"), tmp_path)
    assert Handler.asked == ["/good"]
    path.write_bytes(b"damaged")
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == CONTENT
    assert Handler.asked == ["/good", "/good"]


def test_progress_ends_at_the_whole(server: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    fetch(remote(server, "good"), tmp_path, progress=lambda *args: seen.append(args))
    assert seen[-1] == ("downloading set/file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_the_cache_folder_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LSO_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LSO_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "lso"
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"cannot write to the download cache.*\nSet the environment variable LSO_CACHE"
    ):
        fetch(remote("http://127.0.0.1:9", "good"), tmp_path / "file")


def test_a_remote_needs_a_known_checksum() -> None:
    for sums in [(), ("crc:0",)]:
        with pytest.raises(UsageError, match="expected checksums of kind sha256, md5, blob"):
            RemoteFile(name="x", urls=("http://x",), checksums=sums)
