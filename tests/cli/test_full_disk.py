"""A disk that fills up in the work of every command that writes: one error of two lines, nothing half-done left."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest
from typer.testing import Result

from lso.cli.main import explain_unexpected
from lso.vae import runs
from lso.vae.errors import WriteError
from lso.vae.runs import Run
from lso.vae.utils import files
from lso.vae.utils.run_schema import FORMAT
from tests.cli.conftest import Lso
from tests.cli.writers import WRITERS, Writer, pieces, small_world, workplace

MOMENTS = 6  # at which the disk of a command is full, spread over its writes; all of them take an hour
SEARCH = Path(__file__).parents[1] / "data" / "folders_83e3243" / "black-box"


@contextmanager
def full(after: int) -> Iterator[list[int]]:
    """No room for new content after so many writes, half of the next one excepted; what is there can be written over.

    Yields the number of writes so far.
    """
    put, count = files.write_fully, [0]

    def fail(file: FileIO, content: bytes) -> None:
        count[0] += 1
        if count[0] > after and file.mode != "rb+":
            put(file, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(file, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_fully", fail)
        yield count


@pytest.fixture(autouse=True)
def place(trained: Run, elsewhere: Path) -> Iterator[None]:
    workplace(elsewhere, trained.path, SEARCH)
    with small_world():
        yield


def failed(done: Result) -> None:
    """One error of two lines, the last of stderr."""
    assert done.exit_code == 1, (done.stdout, done.stderr)
    errors = done.stderr.splitlines()
    assert [line.startswith("error: ") for line in errors].count(True) == 1 and errors[-2].startswith("error: ")
    assert "No space left on device" in errors[-2] and errors[-1].startswith("Make room on the disk")
    assert "internal error" not in done.stderr and "/." not in errors[-2] and pieces(Path()) == []
    for path in Path().rglob("run.json"):
        assert json.loads(path.read_text())["status"] != "running", path


def mended(lso: Lso, writer: Writer) -> None:
    """With room again, the command or its continuation does its work; a search by gradient has a new folder."""
    if writer is WRITERS["optimize by gradient"] and Path(writer.out).exists():
        assert Run(writer.out).info["status"] == "failed"
        shutil.rmtree(writer.out)
    done = lso(*writer.again())
    assert done.exit_code == 0, done.stderr


def finished(writer: Writer) -> bool:
    """Whether what could not be written anew was run.json alone, at the very end: it was written over."""
    run = Path(writer.out, "run.json")
    return pieces(Path()) == [] and run.is_file() and json.loads(run.read_text())["status"] == "finished"


def writes(lso: Lso, writer: Writer) -> int:
    """How often an unhindered command writes."""
    with full(10**9) as count:
        done = lso(*writer.first)
    assert done.exit_code == 0, done.stderr
    (shutil.rmtree if Path(writer.out).is_dir() else os.unlink)(writer.out)
    return count[0]


def fill(lso: Lso, writer: Writer, choose: Callable[[int], set[int]]) -> None:
    for after in sorted(choose(writes(lso, writer))):
        with full(after):
            done = lso(*writer.first)
        if done.exit_code or not finished(writer):
            failed(done)
            mended(lso, writer)
        (shutil.rmtree if Path(writer.out).is_dir() else os.unlink)(writer.out)


LIGHT = [name for name, writer in WRITERS.items() if not writer.shared and not writer.resume]
HEAVY = ("benchmark lagging", "benchmark image-targets")  # seconds of processor time; shared folders have lighter ones
MIDDLE = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in WRITERS if name not in LIGHT]


@pytest.mark.parametrize("name", LIGHT)
def test_a_full_disk_is_one_error_and_the_command_can_be_repeated(lso: Lso, name: str) -> None:
    fill(lso, WRITERS[name], lambda count: {0, count - 1})


@pytest.mark.parametrize("name", MIDDLE)
def test_a_full_disk_in_the_middle_of_long_work_is_one_error_and_it_goes_on(lso: Lso, name: str) -> None:
    fill(lso, WRITERS[name], lambda count: {count // 2})


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_anywhere_is_one_error(lso: Lso, name: str) -> None:
    fill(lso, WRITERS[name], lambda count: {round(i * (count - 1) / (MOMENTS - 1)) for i in range(MOMENTS)})


def test_how_a_session_ended_is_written_over_what_was_there(tmp_path: Path) -> None:
    """In the blocks that the file has; where it would need more, it stays as it was."""
    run = runs.create(tmp_path / "r", "search", {"status": "running"})
    with full(0):
        runs.update_run(run, status="failed", sentence="a longer word than before")
        assert run.info["status"] == "failed" and pieces(tmp_path) == []
        runs.update_run(run, sentence="")
    assert run.info == {"format": FORMAT, "kind": "search", "status": "failed", "sentence": ""}


def test_half_a_line_is_cut_off_again(tmp_path: Path) -> None:
    with (tmp_path / "f").open("ab", buffering=0) as file:
        files.append(file, tmp_path / "f", b"whole\n")
        with full(0), pytest.raises(WriteError, match=r"cannot write .*f: No space left on device\nMake room"):
            files.append(file, tmp_path / "f", b"torn in two\n")
        files.append(file, tmp_path / "f", b"whole again\n")
    assert (tmp_path / "f").read_bytes() == b"whole\nwhole again\n"


def test_where_stdout_cannot_be_written_the_system_is_quoted() -> None:
    told, _ = explain_unexpected(OSError(errno.ENOSPC, "No space left on device"))
    assert told == "reading or writing: No space left on device"
