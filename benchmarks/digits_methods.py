"""All methods but the costly on the embedded digits at one size, with all metrics: the table in docs/log.md.

    OMP_NUM_THREADS=1 python benchmarks/digits_methods.py          (about 8 minutes; resumes)

Digits, MLP 64-256-256-32 and back, 100 epochs, 3 seeds, test split (179 images), IW-NLL with 500 samples, everything
else at the defaults. Each row is the mean over seeds with the standard deviation behind it.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import lso
from lso.tasks.training.experiment import reload_dataset
from lso.vae import runs
from lso.vae.config.methods import METHODS

# Parameters other than those that a row of the table has by default.
PARAMETERS = {"beta-vae": ("beta=0.2",), "ne-vae-lp": ("c=1", "c=0")}
COSTLY = ("aggressive", "svi", "sa-vae")  # up to 100 gradients for one step: minutes a run, not six seconds
# The weight of the se penalty; weight 0 is vae-anneal with the noise streams of ne-vae-se.
WEIGHTS = tuple(f"ne-vae-se:weight={weight}" for weight in (0, 2, 5, 10, 32))
COLUMNS = {
    "neg_elbo": "-ELBO",
    "iw_nll": "IW-NLL",
    "reconstruction": "rec",
    "kl": "KL",
    "mi": "MI (B=50)",
    "mi_split": "MI (split)",
    "aggregate_kl": "KL(q(z)‖p)",
    "active_units": "AU",
    "used": "used > 0.01 nat",
    "reencoding_error": "re-enc. sampled",
    "reencoding_error_mean": "re-enc. mean",
    "seconds": "train s",
}


def methods() -> list[str]:
    """Every method with latents that trains on images but `COSTLY`, then `WEIGHTS`."""
    found: list[str] = []
    for name, row in METHODS.items():
        if row.latents and row.kind in (None, "image") and name not in COSTLY:
            example = ",".join(f"{key}={value}" for key, value in row.example.items())
            found += [f"{name}:{given}".removesuffix(":") for given in PARAMETERS.get(name, (example,))]
    return [*found, *WEIGHTS]


def measure(method: str, seed: int, epochs: int, out: Path) -> dict[str, Any]:
    """Metrics of one run, trained or resumed where that is still to do."""
    path = out / f"{method.replace(':', '-')}-seed{seed}"
    cached = path / "metrics-test.json"
    if cached.is_file():
        found: dict[str, Any] = json.loads(cached.read_text())
        return found
    run = lso.resume(path) if path.exists() else lso.train(method, epochs=epochs, seed=seed, out=path)
    dataset = reload_dataset(run)
    values: dict[str, Any] = json.loads(lso.evaluate(lso.load(run), dataset).to_json())
    values["used"] = sum(use > 0.01 for use in values["decoder_use"])
    values["seconds"] = run.info["seconds"]
    runs.replace_file(cached, json.dumps(values).encode())
    return values


def cell(values: list[float], digits: int) -> str:
    """Mean and standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {spread:.{digits}f}"


def main() -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/digits-methods"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    print("| method | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    for method in methods():
        rows = [measure(method, seed, options.epochs, options.out) for seed in range(options.seeds)]
        cells = [cell([row[name] for row in rows], 3 if name.startswith("reencoding") else 2) for name in COLUMNS]
        print(f"| `{method}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
