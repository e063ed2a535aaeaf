"""Training steps of S models one after another against one step of the batched model, as a ratio; and whole trainings.

Commands:
    OMP_NUM_THREADS=1 python benchmarks/sweep_together.py steps [--side 28]    3 minutes on one core (of 8x8 images)
    OMP_NUM_THREADS=1 python benchmarks/sweep_together.py trainings            4 minutes: 3 epochs of the digits
    python benchmarks/sweep_together.py steps --device cuda

Both ways draw the same noise; the losses and gradient norms of the first steps are checked equal before anything is
timed. Every other pair begins with the steps alone; a ratio is the median over them of time alone / time together:
above 1, together is faster. On one thread of a CPU it is the processor's time, which a busy machine does not stretch,
else the clock's. `break-even` is the least S from which on the ratio is above 1. `lso.vae.training.batchable` goes by
this table.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from speed.pairs import Times, pairs
from speed.together import EACH, pixels, repeated, two_ways
from torch import Tensor

from lso.tasks.datasets.loading import load_dataset
from lso.tasks.training.plan import plan
from lso.vae.training import batched
from lso.vae.training import loop as training
from lso.vae.training.setup import create_trainer

ROWS = (("mlp", "vae"), ("mlp", "ne-vae-se"), ("conv", "vae"), ("conv", "ne-vae-se"), ("he2019-small", "vae"))
PAIRS = 5


def clock(device: torch.device) -> Callable[[], float]:
    """What tells the time."""
    if device.type == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited


def steps(arch: str, method: str, count: int, images: Tensor) -> tuple[float, float, float]:
    """Milliseconds of a step for each model, alone and together, and the ratio."""
    ways, each = two_ways(arch, method, count, images), 2 if arch.startswith("he2019") else EACH
    if ways.note:
        print(ways.note, file=sys.stderr)
    both = [repeated(way, range(1, 1 + each)) for way in (ways.alone, ways.joint)]
    return told(pairs(*both, PAIRS, clock=clock(images.device)), each * count)


def trainings(arch: str, method: str, count: int, device: torch.device) -> tuple[float, float, float]:
    """The same of a whole training of three epochs, with its validation and its files."""
    settings = {"architecture": {"name": arch}, "method": method, "protocol": {"epochs": 3}}
    config = plan(settings)
    data = load_dataset(config.data, config.protocol.binarize, 0)
    configs = [replace(config, seed=seed) for seed in range(count)]

    def alone() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for one in configs:
                training.train_model(one, data, Path(folder) / str(one.seed), device=device)

    def joint() -> None:
        with tempfile.TemporaryDirectory() as folder:
            batched.train_batched(
                [create_trainer(one, data, Path(folder) / str(one.seed), device=device) for one in configs]
            )

    return told(pairs(alone, joint, PAIRS - 2, clock=clock(device)), count)


def told(times: Times, runs: int) -> tuple[float, float, float]:
    """Medians: milliseconds of a run each way, and the ratio."""
    alone, joint = (1e3 * statistics.median(column) / runs for column in (times.plain, times.ours))
    return alone, joint, statistics.median(a / b for a, b in zip(times.plain, times.ours, strict=True))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["steps", "trainings"])
    parser.add_argument("--models", nargs="*", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--only", nargs="*", default=[arch for arch, _ in ROWS])
    parser.add_argument("--side", type=int, default=8, help="of the images of a step")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    images = pixels(chosen.side, device)
    print(f"{chosen.mode}, {device}, {torch.get_num_threads()} threads; ms of one alone, of one together, ratio")
    print("| networks | method | " + " | ".join(f"S = {count}" for count in chosen.models) + " | break-even |")
    print("| --- " * (len(chosen.models) + 3) + "|")
    for arch, method in ROWS:
        if arch not in chosen.only or (chosen.mode == "trainings" and arch.startswith("he2019")):
            continue
        cells, ratios = [], {}
        for count in chosen.models:
            if chosen.mode == "steps":
                alone, joint, ratio = steps(arch, method, count, images)
            else:
                alone, joint, ratio = trainings(arch, method, count, device)
            ratios[count] = ratio
            cells.append(f"{alone:.2f} {joint:.2f} **{ratio:.2f}**")
        above = [n for n in ratios if all(ratios[more] > 1 for more in ratios if more >= n)]
        print(f"| {arch} | {method} | {' | '.join(cells)} | {min(above, default='none')} |", flush=True)


if __name__ == "__main__":
    main()
