"""Which weights does a training keep? The method's full loss against -ELBO as the rule: the table in docs/log.md.

    OMP_NUM_THREADS=1 python benchmarks/kept_weights.py          (about an hour on one core; resumes)

Digits at the defaults, 3 seeds. `loss` is the default; `elbo` with epoch 0 admitted is how every training kept its
weights before. Numbers are of the validation split, MI is over the whole of it; beside the weights that were kept stand
those of the last epoch. Trainings under two rules differ where the learning rate decays, which reloads what is kept.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from lso.tasks.datasets.loading import load_dataset
from lso.tasks.training.plan import plan
from lso.vae.runs import Run
from lso.vae.training import loop as training

METHODS = (
    "ne-vae-se:weight=1",
    "ne-vae-se:weight=5",
    "ne-vae-lp:c=1",
    "ne-vae-lp:c=0",
    "ne-vae-lp:c=-1",
    "ne-vae-lp:c=-5",
    "beta-vae:beta=0.2",
    "beta-vae:beta=0.5",
    "beta-vae:beta=4",
    "free-bits",
    "iwae",
)
RULES: dict[str, dict[str, Any]] = {"elbo": {"monitor": "elbo", "monitor_from": 0}, "loss": {"monitor": "loss"}}
COLUMNS = ("epoch", "kl", "mi_split", "active_units")


def trained(method: str, seed: int, rule: str, epochs: int, out: Path) -> Run:
    """A finished training, made or gone on with where it is not there yet."""
    protocol = {**RULES[rule], "epochs": epochs}
    config = plan({"method": method, "seed": seed, "data": {"task": "digits"}, "protocol": protocol})
    path = out / f"{method.replace(':', '-')}-{rule}-seed{seed}"
    dataset = load_dataset(config.data, config.protocol.binarize, seed)
    return (
        training.resume_training(Run(path), dataset) if path.exists() else training.train_model(config, dataset, path)
    )


def cell(name: str, values: list[float]) -> str:
    """Epochs and active units of each seed; mean and standard deviation of what is in nats."""
    if name in ("epoch", "active_units"):
        return ", ".join(f"{value:.0f}" for value in values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {spread:.2f}"


def main() -> None:
    """Train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/kept-weights"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    found = {
        (method, rule, seed): trained(method, seed, rule, options.epochs, options.out)
        for seed in range(options.seeds)
        for method in METHODS
        for rule in RULES
    }
    names = ("epoch", "KL", "MI", "AU")
    print("| method | rule | " + " | ".join(f"{which} {name}" for which in ("kept", "last") for name in names) + " |")
    print("| --- | --- |" + " --- |" * 2 * len(names))
    for method in METHODS:
        for rule in RULES:
            runs = [found[method, rule, seed] for seed in range(options.seeds)]
            both = ([run.best() for run in runs], [run.metrics()[-1] for run in runs])
            cells = [cell(name, [row[name] for row in rows]) for rows in both for name in COLUMNS]
            print(f"| `{method}` | {rule} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
