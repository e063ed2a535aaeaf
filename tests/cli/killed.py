"""Commands to be killed in the middle of a file, see `tests.lso.zygote`."""

import os
import signal
import sys
from io import FileIO
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  (imported before the fork: once for all)
import torch
from typer.testing import CliRunner

import lso.cli.progress  # noqa: F401
import lso.tasks.papers.lagging_report  # noqa: F401
import lso.tasks.retraining.run  # noqa: F401
import lso.tasks.search.black_box  # noqa: F401
from lso.cli.main import app
from lso.vae.utils import files
from tests.cli.writers import small_world

torch.set_num_threads(1)


def main(folder: str, arguments: list[str], at: int, part: float) -> None:
    """Carry out a command and kill this process at one of its writes; ``writes`` in the folder says how many it made.

    Args:
        folder: to work in.
        arguments: of the command.
        at: writes before the fatal one.
        part: of that one that comes to the disk; with 1 it is whole, but not yet in its place.
    """
    os.chdir(folder)
    sys.path.insert(0, folder)
    put, count = files.write_fully, [0]

    def fatal(file: FileIO, content: bytes) -> None:
        if count[0] == at:
            put(file, content[: round(part * len(content))])
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1
        put(file, content)

    files.write_fully = fatal
    with small_world():
        done = CliRunner().invoke(app, arguments)
    Path("writes").write_text(f"{count[0]}")
    if done.exit_code:
        print(done.stderr, file=sys.stderr)
        os._exit(1)
