"""Every command that writes, killed in the middle of its files: gone on with or repeated, it ends as the unbroken one.

How a search is killed at any line of its journal and how nothing told is lost: `tests.lso.black_box.test_killed`. That
scores of training data are not: `tests.tasks.retraining.test_labelling`, and here with a score that counts its calls.
"""

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lso.vae.runs import Run
from tests.cli.test_full_disk import SEARCH
from tests.cli.writers import WRITERS, Writer, pieces, said, workplace
from tests.lso.black_box.test_killed import Zygote, asked, zygote_of

NEVER = 10**9
MOMENTS = 3  # of each command: at its first file, in the middle, at its last one
COUNTING = "from pathlib import Path\n\ndef score(xs):\n    with Path('calls').open('a') as file:\n"
COUNTING += "        file.write('.' * len(xs))\n    return [float(x.sum()) for x in xs]\n"


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    yield from zygote_of("tests.cli.killed")


@pytest.fixture
def anew(trained: Run, elsewhere: Path) -> Callable[[], None]:
    """Called for each attempt in the same place, since run folders name the paths of models."""

    def make() -> None:
        for path in list(elsewhere.iterdir()):
            (shutil.rmtree if path.is_dir() else os.unlink)(path)
        workplace(elsewhere, trained.path, SEARCH)
        (elsewhere / "ink.py").write_text(COUNTING)

    return make


def carried_out(zygote: Zygote, arguments: list[str], at: int = NEVER, part: float = 0.0) -> int:
    """How the command ended: 0, or by the signal."""
    asked(zygote, [os.getcwd(), arguments, at, part])
    return asked(zygote)


def finished(zygote: Zygote, writer: Writer) -> object:
    """Let the command, or its continuation, come to its end; what it made."""
    if writer is WRITERS["optimize by gradient"] and Path(writer.out).exists():
        shutil.rmtree(writer.out)  # which is not gone on with: it is searched again into another folder
    assert carried_out(zygote, writer.again()) == 0
    assert pieces(Path()) == []
    return said(Path(writer.out))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_command_killed_at_any_file_ends_as_the_unbroken_one(
    zygote: Zygote, anew: Callable[[], None], name: str
) -> None:
    writer = WRITERS[name]
    anew()
    whole = finished(zygote, writer)
    count = int(Path("writes").read_text())
    moments = {round(i * (count - 1) / (MOMENTS - 1)) for i in range(MOMENTS)}
    for at, part in zip(sorted(moments), itertools.cycle((0.0, 0.5, 1.0))):
        anew()
        assert carried_out(zygote, writer.first, at, part) == -signal.SIGKILL
        assert finished(zygote, writer) == whole, (at, part)


@pytest.mark.slow
def test_killed_again_and_again_no_score_is_asked_for_twice(zygote: Zygote, anew: Callable[[], None]) -> None:
    """Of training data and of what is found: in each session the call under way, and no other, is made again."""
    writer = WRITERS["optimize, retraining"]
    anew()
    whole, calls = finished(zygote, writer), Path("calls").stat().st_size
    anew()
    kills = 0
    while carried_out(zygote, writer.again(), 12 + 3 * kills, 0.5) != 0:  # later each time, so that it comes to its end
        kills += 1
    assert kills > 2 and said(Path(writer.out)) == whole
    batch = 2  # handed over together
    assert calls == 10 + 4 and Path("calls").stat().st_size <= calls + batch * kills
