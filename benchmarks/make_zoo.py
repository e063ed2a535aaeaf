"""Make the models that are installed with lso again: train each by the recipe on its card, measure it, pack it.

    OMP_NUM_THREADS=1 python benchmarks/make_zoo.py [NAME ...] [--work runs/zoo] [--time-limit SECONDS]

A training that was stopped is gone on with, one that is finished is not repeated. What is packed into
``vae/pretrained/NAME`` is the run folder without what only a resume needs, with its metrics on test data.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from lso.vae.metrics.collapse import MIN_DIMENSION_NATS
from lso.vae.runs import CODES, CONFIG, EXAMPLES, INFO, METRICS, MODEL, Run
from lso.vae.utils.integrity import SEALS, seal_files
from lso.vae.utils.reading import format_sealed, read_json
from lso.vae.zoo import FOLDER, TEST_METRICS, read_card, zoo_names

KEPT = (CONFIG, METRICS, MODEL, CODES, EXAMPLES)
MACHINE = ("platform", "git")  # of no use elsewhere
TEST_DATA, IW_SAMPLES = 1000, 100  # of the metrics on the cards
MAX_BYTES, MAX_TOTAL_BYTES = 3_000_000, 10_000_000


def lso(*arguments: str) -> str:
    """Run a command of lso; its stdout."""
    command = [sys.executable, "-m", "lso", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(name: str, folder: Path, time_limit: str | None) -> bool:
    """Begin or go on with the training of a model; whether it is finished."""
    limits = [] if time_limit is None else ["--time-limit", time_limit]
    if not (folder / INFO).is_file():
        lso(*shlex.split(read_card(name)["recipe"])[1:], "--out", str(folder), "--quiet", *limits)
    elif Run(folder).info["status"] != "finished":
        lso("train", "--resume", str(folder), "--quiet", *limits)
    return bool(Run(folder).info["status"] == "finished")


def pack(name: str, folder: Path) -> int:
    """Copy a finished run into the package with its metrics; the bytes that it takes there."""
    home = FOLDER / name
    for old in home.iterdir():
        if old.suffix != ".toml" or old.name == CONFIG:
            old.unlink()
    for file in KEPT:
        if (folder / file).is_file():
            (home / file).write_bytes((folder / file).read_bytes())
    info = {key: value for key, value in read_json(folder / INFO).items() if key not in (*MACHINE, SEALS)}
    info["command"] = read_card(name)["recipe"]
    (home / INFO).write_bytes(format_sealed({**info, SEALS: seal_files(home)}))
    metrics = json.loads(
        lso("evaluate", str(folder), "--limit", str(TEST_DATA), "--iw-samples", str(IW_SAMPLES), "--json")
    )
    worth = zip(metrics["decoder_use"], metrics["kl_per_dimension"], strict=True)
    metrics["used_dimensions"] = sum(min(pair) >= MIN_DIMENSION_NATS for pair in worth)
    del metrics["run"], metrics["cut"], metrics["seconds"]
    (home / TEST_METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return sum(file.stat().st_size for file in home.iterdir())


def main() -> None:
    """Train and pack the models asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=zoo_names())
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--time-limit", help="of each session of a training, e.g. 20m")
    options = parser.parse_args()
    for name in options.names:
        folder = options.work / name
        if not train(name, folder, options.time_limit):
            print(f"{name}: not finished yet; run this again")
            continue
        size = pack(name, folder)
        print(f"{name}: {size:,} bytes")
        if size > MAX_BYTES:
            raise SystemExit(f"{name} takes {size:,} bytes, at most {MAX_BYTES:,} are wanted: a smaller network")
    total = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    if total > MAX_TOTAL_BYTES:
        raise SystemExit(f"the models take {total:,} bytes, at most {MAX_TOTAL_BYTES:,} are wanted")


if __name__ == "__main__":
    main()
