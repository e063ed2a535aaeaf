"""Every command that writes, small: what it is called with, how it is gone on with, and what it leaves.

`workplace` makes a folder with what they need: ``runs/digits``, a training; ``search``, a search; ``ink.py``, a score.
"""

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lso.tasks.datasets import synthetic_text as synthetic
from lso.tasks.papers.lagging import LaggingConfig
from lso.vae.utils.files import LOCK, TEMPORARY_SUFFIX
from tests.charts import leave_charts_unrendered

OUT = "made"  # file or folder that a command is to make
MODEL = "--limit 40 --epochs 2 --width 8 --batch-size 20 --device cpu"
SCORE = "optimize --objective ink:score --maximize --optimizer random --device cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writer:
    """A command that writes.

    Args:
        command: without ``--out``.
        resume: how it is gone on with where its run folder is there; empty: it is given again.
        out: what it makes.
        shared: whether it goes on in a folder that it made itself.
    """

    command: str
    resume: str = ""
    out: str = OUT
    shared: bool = False

    @property
    def first(self) -> list[str]:
        """The command as it is begun."""
        return [*self.command.split(), "--out", self.out]

    def again(self) -> list[str]:
        """The command that makes the rest, wherever it was cut."""
        return self.resume.split() if self.resume and Path(self.out, "run.json").is_file() else self.first


RESUME = f"optimize --resume {OUT} --device cpu"
WRITERS = {
    "train": Writer(command=f"train --method vae --latent-dim 2 {MODEL}", resume=f"train --resume {OUT}"),
    "optimize by gradient": Writer(command="optimize --target test:2 --starts 2 --max-steps 30 --device cpu"),
    "optimize, black box": Writer(command=f"{SCORE} --budget 8 --batch 2", resume=f"{RESUME} --trust"),
    "optimize, several": Writer(
        command="optimize --target test:1 --optimizer random --budget 4 --seeds 2 --device cpu", resume=RESUME
    ),
    "optimize, retraining": Writer(
        command=f"{SCORE} --budget 4 --batch 2 --retrain-every 2 --retrain-data 10", resume=f"{RESUME} --trust"
    ),
    "sweep": Writer(command=f"sweep --method vae --latent-dim 2,3 --iw-samples 2 {MODEL}", shared=True),
    "reproduce": Writer(
        command="reproduce nevae2021_table1 --rows VAE --data omniglot.npz --limit 40 --epochs 1 --arch mlp "
        "--device cpu --iw-samples 2",
        shared=True,
    ),
    "reproduce at a scale": Writer(
        command="reproduce nevae2021_table1 --scale cpu --rows VAE,Aggressive --seeds 1 --data omniglot.npz "
        "--limit 40 --epochs 2 --arch mlp --device cpu",
        shared=True,
    ),
    "benchmark image-targets": Writer(
        command="benchmark image-targets runs/digits --targets 2 --max-steps 100 --thresholds 0.5,0 --device cpu",
        shared=True,
    ),
    "benchmark lagging": Writer(command="benchmark lagging --quick --no-offset", shared=True),
    "report on trainings": Writer(command="report runs/digits"),
    "report on searches": Writer(command="report search"),
    "sample": Writer(command="sample runs/digits -n 4", out=f"{OUT}.png"),
    "encode": Writer(command="encode runs/digits --data test:3", out=f"{OUT}.npz"),
    "decode": Writer(command="decode runs/digits codes.npz", out=f"{OUT}.png"),
    "decode to a folder": Writer(command="decode runs/digits codes.npz"),
    "interpolate": Writer(command="interpolate runs/digits test:0 test:1", out=f"{OUT}.png"),
    "traverse": Writer(command="traverse runs/digits --steps 3 --points 0"),
    "config init": Writer(command="config init --method vae", out=f"{OUT}.toml"),
}
TINY = LaggingConfig(limit=32, epochs=1, stages=(0, 1), points=5, stride=2.0, moves=1, offset=False)


@contextmanager
def small_world() -> Iterator[None]:
    """Charts, data and inner steps that take seconds are left out or made few."""
    with pytest.MonkeyPatch.context() as patch:
        make_few(patch)
        leave_charts_unrendered(patch)
        patch.setattr("lso.analysis.black_box_summary.calibrate_evaluations", lambda *_: None)
        yield


def make_few(patch: pytest.MonkeyPatch) -> None:
    """Have few data and inner steps."""
    few = {"vae": "vae", "aggressive": "aggressive:window=2,cap=4"}
    patch.setattr(synthetic, "SPLIT_SIZES", {"train": 64, "validation": 20, "test": 16})
    patch.setattr("lso.cli.commands.benchmark.QUICK", TINY)
    patch.setattr("lso.tasks.papers.lagging.METHODS", few)
    patch.setattr("lso.tasks.papers.lagging.METHODS_OF_ONE", few)


def workplace(folder: Path, trained: Path, search: Path) -> None:
    """Fill the folder that commands work in.

    Args:
        folder: empty.
        trained: a training on digits.
        search: a search.
    """
    shutil.copytree(trained, folder / "runs" / "digits")
    shutil.copytree(search, folder / "search")
    (folder / "ink.py").write_text("def score(xs):\n    return [float(x.sum()) for x in xs]\n")
    np.savez(folder / "codes.npz", z=np.linspace(-1, 1, 12).reshape(3, 4))
    draw = np.random.default_rng(0)
    train, test = (draw.integers(0, 255, (n, 28, 28), dtype=np.uint8) for n in (60, 20))
    np.savez(folder / "omniglot.npz", train_x=train, test_x=test)


def pieces(folder: Path) -> list[str]:
    """What half-finished work is called, see `lso.vae.utils.files.temporary_path`."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name.endswith(TEMPORARY_SUFFIX)]


SECTIONS = "sections"  # of report.json: the numbers beside it as text, times among them
CLOCKS = ("seconds", "elapsed", "started", "finished", "command", "git", "hours")
SEALED = ("seal", "seals", "check")  # hashes of what holds clocks


def said(path: Path) -> Any:
    """What a file or folder says, clocks and the course of sessions left out."""
    if path.is_dir():
        inside = {file.name: said(file) for file in sorted(path.iterdir()) if file.name != LOCK}
        return {name: content for name, content in inside.items() if content is not None}
    if path.suffix in (".html", ".pt"):  # told by the JSON beside; optimizers' state ends as the weights do
        return "there"
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [_timeless(row) for row in csv.DictReader(file)]
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        told = {key: part for key, part in value.items() if not any(clock in key for clock in CLOCKS)}
        return {key: _timeless(part) for key, part in told.items() if key not in (*SEALED, SECTIONS)}
    if isinstance(value, list):
        return [_timeless(part) for part in value]
    return re.sub(r"in [\d.]+ (s|min|h)\b|\([\d.]+ s\)", "", value) if isinstance(value, str) else value
