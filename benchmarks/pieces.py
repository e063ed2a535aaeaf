"""A folder as an archive in pieces no larger than told, so that it can be carried where files have a size limit.

    python benchmarks/pieces.py pack FOLDER INTO --piece MB
    python benchmarks/pieces.py unpack FROM FOLDER

``pieces.json`` names the pieces and their SHA-256; it is written after they are, and the pieces before are removed
after it, so that whenever a program is killed there is a whole set. A checkpoint holds the same weights up to three
times (as they are, as the best, and in the model's file), so that the compression looks back 64 MB; folders are
compressed beside one another, one a core.
"""

import argparse
import hashlib
import io
import json
import lzma
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lso.vae.utils.files import make_folder, replace_file, replace_json

MANIFEST, STEM = "pieces.json", "runs"
# Weights are noise but for their repetitions: what looks for more takes half as long again and finds less.
FAST: dict[str, int] = {"mode": lzma.MODE_FAST, "mf": lzma.MF_HC4, "nice_len": 64, "depth": 1, "lc": 0, "lp": 2}
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20, **FAST}]


def pack(folder: Path, into: Path, megabytes: float) -> dict[str, Any]:
    """Write a folder's pieces, in place of those of an earlier call.

    Args:
        folder: what to carry; hidden files in it, which are half-written ones, are left out.
        into: where the pieces go; made if it is not there.
        megabytes: most of a piece, in 10^6 bytes.
    Returns:
        What ``pieces.json`` says: the hash and size of the archive, and name, size and hash of each piece.
    """
    with ThreadPoolExecutor() as pool:  # lzma lets other threads run
        content = b"".join(pool.map(_compressed, _archives(folder)))
    whole, most = hashlib.sha256(content).hexdigest(), max(1, int(megabytes * 1e6))
    make_folder(into)
    pieces = []
    for start in range(0, len(content), most):
        part = content[start : start + most]
        name = f"{STEM}-{whole[:8]}.{len(pieces):03d}"
        replace_file(into / name, part)
        pieces.append({"name": name, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()})
    found = {"sha256": whole, "bytes": len(content), "pieces": pieces}
    replace_json(into / MANIFEST, found, indent=1)
    for old in set(into.glob(f"{STEM}-*.[0-9][0-9][0-9]")) - {into / str(piece["name"]) for piece in pieces}:
        old.unlink()
    return found


def _compressed(archive: bytes) -> bytes:
    return lzma.compress(archive, format=lzma.FORMAT_XZ, filters=FILTERS)


def _archives(folder: Path) -> list[bytes]:
    """A tar file for each folder with files, the same bytes for the same files."""
    inside: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            inside.setdefault(path.parent, []).append(path)
    return [_archive(folder, paths) for paths in inside.values()]


def _archive(folder: Path, paths: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in paths:
            content, entry = path.read_bytes(), tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(origin: Path, folder: Path) -> int:
    """Put a folder together from its pieces.

    Args:
        origin: where they lie.
        folder: what to fill.
    Returns:
        The number of files.
    Raises:
        SystemExit: if a piece is missing or is not as it was written; nothing is written then.
    """
    told, content = json.loads((origin / MANIFEST).read_text(encoding="utf-8")), b""
    for piece in told["pieces"]:
        path = origin / str(piece["name"])
        part = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(part).hexdigest() != piece["sha256"]:
            raise SystemExit(
                f"{path} is {'not as it was written' if part else 'missing'}\nBring all pieces back again."
            )
        content += part
    make_folder(folder)
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(content)), ignore_zeros=True) as archive:  # one after another
        archive.extractall(folder, filter="data")
        return len(archive.getmembers())


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("origin", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--piece", type=float, default=15.0, metavar="MB")
    asked = parser.parse_args()
    if asked.what == "pack":
        print(json.dumps(pack(asked.origin, asked.into, asked.piece), indent=1))
    else:
        print(f"{unpack(asked.origin, asked.into)} files in {asked.into}")


if __name__ == "__main__":
    main()
