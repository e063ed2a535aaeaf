"""What is half-written: how it is called, and who may remove it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lso.vae.utils import files
from lso.vae.utils.files import remove_leftovers, remove_leftovers_below, replace_file, temporary_path, whole_folder

USERS = (".notes.2025", ".diary.2024/a", "below/.secret.99999999", ".a.4711.half", ".half", ".x.deadbeef.half")


def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(done.stdout)


def left_by(process: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a process had of a file when it was killed."""
    with monkeypatch.context() as there:
        there.setattr(os, "getpid", lambda: process)
        piece = temporary_path(path)
    piece.parent.mkdir(exist_ok=True)
    piece.touch()
    return piece


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """Hidden ones that end in a number, as those of version 0.1 did, and whatever merely looks like ours."""
    for name in USERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    remove_leftovers_below(tmp_path)
    remove_leftovers(tmp_path / "a")
    remove_leftovers(tmp_path / "notes")
    assert [name for name in USERS if not (tmp_path / name).is_file()] == []


def test_pieces_of_processes_that_are_gone_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = gone()
    there = [left_by(dead, tmp_path / name, monkeypatch) for name in ("a.npz", "below/run.json", "[x]*?")]
    folder = left_by(dead, tmp_path / "pictures", monkeypatch)
    folder.unlink()
    (folder / "deep").mkdir(parents=True)
    remove_leftovers(tmp_path / "[x]*?")
    assert not there[2].exists() and there[0].exists()
    remove_leftovers_below(tmp_path)
    assert list(tmp_path.rglob(".*")) == []


def test_pieces_of_processes_that_run_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, or on another machine that writes to the same disk, where the number is that of something else."""
    here = left_by(os.getppid(), tmp_path / "a", monkeypatch)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "_machine_id", lambda: "0badcafe")
        there = left_by(gone(), tmp_path / "b", monkeypatch)
    remove_leftovers_below(tmp_path)
    assert here.exists() and there.exists()


def test_what_is_written_has_such_a_name_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(files, "write_fully", lambda file, content: seen.append(Path(file.name).name))
    replace_file(tmp_path / "a.b", b"x")
    with whole_folder(tmp_path / "pictures") as half:
        seen.append(half.name)
    assert all(files.TEMPORARY_NAME.fullmatch(name) for name in seen) and len(seen) == 2
