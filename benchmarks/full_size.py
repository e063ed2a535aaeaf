"""Steps at the papers' size (`he2019`, batch 50) of every row of NE-VAE Table 1 and He et al. Tables 2 and 6.

    python benchmarks/full_size.py PATH        (the omniglot data; about half an hour)

Twenty outer steps a row, three for aggressive and semi-amortized ones; a fresh process for each, so that the peak of
its memory is its own. Prints seconds (the first step, then the median of the others), inner steps, memory and losses.
Rows appear as they are done.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FEW = ("aggressive", "sa-vae")


def work(method: str, data: Path) -> dict[str, Any]:
    """One row, in this process."""
    from lso.tasks.datasets.loading import load_dataset
    from lso.tasks.training import experiment
    from lso.tasks.training.plan import plan
    from lso.vae.training.loop import Limits, TrainingCallback, train_model

    class Clock(TrainingCallback):
        def __init__(self) -> None:
            self.times = [time.perf_counter()]

        def epoch(self, row: Any) -> None:
            self.times = [time.perf_counter()]

        def step(self, done: int) -> None:
            self.times.append(time.perf_counter())

    settings = {
        "method": method,
        "architecture": {"name": "he2019"},  # without latents for the baseline
        "data": {"task": "omniglot", "path": str(data)},
        "protocol": {"batch_size": 50, "epochs": 1},
    }
    config = plan(settings)
    dataset = load_dataset(config.data, "dynamic", 0)
    small = type(dataset)(
        name=dataset.name, train=dataset.train, validation=dataset.validation[:50], test=dataset.test[:50]
    )
    clock, steps = Clock(), 3 if any(name in method for name in FEW) else 20
    with tempfile.TemporaryDirectory() as folder:
        run = train_model(config, small, Path(folder) / "r", callback=clock, limits=Limits(steps=steps))
        import torch

        last = torch.load(run.path / "last.pt", weights_only=True)
    seconds = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
    totals = last["totals"]
    return {
        "steps": steps,
        "first": seconds[0],
        "median": statistics.median(seconds[1:]),
        "inner": last["position"]["inner"] / steps,
        "loss": (totals[0] / totals[-1]).item(),
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device": str(experiment.resolve_device("cpu")),
    }


def methods() -> dict[str, list[str]]:
    """Distinct methods of the two tables, each with the rows that it stands for."""
    from lso.tasks.papers.published_tables import published_table

    found: dict[str, list[str]] = {}
    for name, paper in (("nevae2021_table1_omniglot", "NE-VAE"), ("he2019_table2_6_omniglot", "He")):
        for row in published_table(name).rows:
            if row.train:
                found.setdefault(row.train, []).append(f"{paper}: {row.label}")
    return found


def _kind_first(names: list[str]) -> Any:
    """The first method of each name before those that differ from it in parameters alone."""
    firsts = {name.partition(":")[0]: name for name in reversed(names)}
    return lambda name: (name not in firsts.values(), names.index(name))


def main() -> None:
    """Run every row in its own process and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--method", help="one method, in this process: prints JSON")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/full-size.json"), help="figures so far; goes on from there"
    )
    options = parser.parse_args()
    if options.method:
        print(json.dumps(work(options.method, options.data)))
        return
    print("| method | stands for | steps | first, s | then, s | inner steps | loss, nats | memory, GiB |")
    print("| --- |" + " --- |" * 7)
    done = json.loads(options.out.read_text()) if options.out.is_file() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    every = methods()
    for method in sorted(every, key=_kind_first(list(every))):
        labels = every[method]
        if method not in done:
            command = [sys.executable, __file__, str(options.data), "--method", method]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            done[method] = json.loads(told.splitlines()[-1])
            options.out.write_text(json.dumps(done))
        row = done[method]
        print(
            f"| `{method}` | {', '.join(labels)} | {row['steps']} | {row['first']:.2f} | {row['median']:.2f} "
            f"| {row['inner']:.0f} | {row['loss']:.1f} | {row['gib']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
