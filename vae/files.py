"""Files that appear whole or not at all."""

import os
from pathlib import Path


def beside(path: Path) -> Path:
    """A hidden name next to a path, this process's own, on the same file system.

    Args:
        path: a file or folder.
    Returns:
        ``.name.pid`` in the same folder.
    """
    return path.with_name(f".{path.name}.{os.getpid()}")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside and put it in place, so that a reader never sees half of it.

    Args:
        path: the file.
        content: its bytes.
    """
    half = beside(path)
    half.write_bytes(content)
    os.replace(half, path)
