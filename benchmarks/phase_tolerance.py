"""Does a tolerance for falls of the MI keep the aggressive phase from ending on trifles? The table in docs/log.md.

    OMP_NUM_THREADS=1 python benchmarks/phase_tolerance.py          (20 minutes on a quiet core; resumes)

The synthetic sequences of He et al. (2019), section 3, with the paper's networks and protocol, but few of them: 128 for
training, so that an epoch has 8 steps of the decoder, and 250 for validation. The phase ends where the MI falls once
below that of the epoch before (patience 1) or five times below the best (patience 5), with a tolerance of 0, as
published, and of 0.02 nats, the default. A run is collapsed where its kept weights have an MI below 0.05 nats.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

from lso.tasks.datasets.loading import load_dataset
from lso.tasks.papers.lagging_metrics import MAX_COLLAPSED
from lso.tasks.training.plan import plan
from lso.vae.data.dataset import Dataset
from lso.vae.runs import INFO, Run
from lso.vae.training import loop as training

ENDS = ("previous,patience=1", "best,patience=5")
TOLERANCES = (0.0, 0.02)
TRAIN, VALIDATION = 128, 250


def few(dataset: Dataset, train: int) -> Dataset:
    """The first sequences of the training and validation parts."""
    cut = {"train": dataset.corpus("train")[:train], "validation": dataset.corpus("validation")[:VALIDATION]}
    return dataclasses.replace(dataset, name=f"synthetic, {train} for training", **cut)


def trained(method: str, seed: int, options: argparse.Namespace) -> Run:
    """A finished training, made or gone on with where it is not there yet."""
    protocol = {"monitor": "elbo", "monitor_from": 1, "epochs": options.epochs}
    config = plan({"method": method, "seed": seed, "data": {"task": "synthetic"}, "protocol": protocol})
    dataset = few(load_dataset(config.data, "none", seed), options.train)
    path = options.out / f"{method.replace(':', '-').replace(',', '-')}-n{options.train}-s{seed}"
    if (path / INFO).is_file():
        return training.resume_training(Run(path), dataset)
    return training.train_model(config, dataset, path)


def line(method: str, runs: list[Run]) -> str:
    """A row of the table, and what each seed had."""
    mi = [float(run.best()["mi"]) for run in runs]
    ahead = [sum(row["inner_steps"] > 0 for row in run.metrics()) for run in runs]
    collapsed = sum(value < MAX_COLLAPSED["mi"] for value in mi)
    seconds = statistics.fmean(run.info["seconds"] for run in runs)
    told = f"{collapsed} of {len(runs)} | {', '.join(f'{value:z.2f}' for value in mi)} | {', '.join(map(str, ahead))}"
    return f"| `{method}` | {told} | {seconds:.0f} |"


def main() -> None:
    """Train seed by seed, print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/phase-tolerance"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--train", type=int, default=TRAIN, help="training sequences")
    parser.add_argument("--ends", nargs="*", default=list(ENDS[:1]), help=f"of the phase: {' or '.join(ENDS)}")
    options = parser.parse_args()
    methods = [f"aggressive:window=15,against={end},tolerance={t:g}" for end in options.ends for t in TOLERANCES]
    methods.append("vae")
    done: dict[str, list[Run]] = {method: [] for method in methods}
    for seed in range(options.seeds):
        for method, runs in done.items():
            runs.append(trained(method, seed, options))
        print(f"\nseeds 0 to {seed}: collapsed, MI of each, epochs of the phase, seconds\n", flush=True)
        print("| method | collapsed | MI, nats | aggressive epochs | seconds |")
        print("| --- | --- | --- | --- | --- |")
        print("\n".join(line(method, runs) for method, runs in done.items()), flush=True)


if __name__ == "__main__":
    main()
