"""Every method on 20,000 sentences of Short Yelp with an LSTM that a CPU can train: the table in docs/log.md.

    python benchmarks/text_methods.py FOLDER        (the short-yelp data; resumes)

Training data: the first 20,000 of a fixed shuffle of the folder's training part, of which only a substitute may be at
hand; validation is the first 2,000 of the published part, and the test set is the published one, its first 1,000 for
the importance-weighted NLL (100 samples). `lstm` of width 128 and embedding 64, 32 latents, the vocabulary of the
data, gradient descent at rate 1 in batches of 32 of equal length, a few epochs. An inner budget of 10 for aggressive
training, which ends for good at the first epoch whose MI is below that of the one before; 5 steps for sa-vae. The last
column is the processor time of training beside that of `vae`; for that, run with OMP_NUM_THREADS=1.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch

import lso
from lso.tasks.training.plan import plan
from lso.vae import runs
from lso.vae.data.dataset import Dataset
from lso.vae.utils.random import generator

METHODS = (
    "lstm-lm",
    "vae",
    "vae-anneal:anneal=2",
    "beta-vae:beta=0.4",
    "skip-vae",
    "ne-vae-se:anneal=2",
    "aggressive:budget=10,window=15,patience=1,against=previous,tolerance=0",
    "sa-vae:steps=5",
)
COLUMNS = {
    "iw_nll": "IW-NLL",
    "neg_elbo": "-ELBO",
    "perplexity": "PPL",
    "kl": "KL",
    "mi": "MI (B=32)",
    "active_units": "AU",
    "reencoding_error": "re-enc.",
    "exact_match": "exact",
    "time": "time",
}
TRAIN, VALIDATION, WEIGHTED = 20_000, 2_000, 1_000


def dataset(folder: Path) -> Dataset:
    """The data said above."""
    config = plan({"data": {"task": "short-yelp", "path": str(folder)}})
    whole = lso.load_dataset(config.data, "none", 0)
    chosen = torch.randperm(len(whole.train), generator=generator(0, "20,000"))[:TRAIN].sort().values
    return dataclasses.replace(whole, train=whole.corpus("train")[chosen], validation=whole.validation[:VALIDATION])


def measure(method: str, data: Dataset, out: Path, epochs: int) -> dict[str, Any]:
    """Metrics of one run, trained or resumed where that is still to do."""
    path = out / method.replace(":", "-")
    cached = path / "metrics-test.json"
    if cached.is_file():
        found: dict[str, Any] = json.loads(cached.read_text())
        return found
    protocol = {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": 32, "patience": 2, "epochs": epochs}
    settings = {
        "architecture": {"name": "lstm", "width": 128, "embedding": 64},
        "protocol": {**protocol, "binarize": "none"},
    }
    clock, begin = out / f"{path.name}.seconds", time.process_time()
    spent = float(clock.read_text()) if clock.is_file() else 0.0
    try:
        run = (
            lso.resume(path, dataset=data)
            if path.exists()
            else lso.train(method, dataset=data, out=path, settings=settings, seed=0)
        )
    finally:
        clock.write_text(str(spent + time.process_time() - begin))
    model = lso.load(run)
    from lso.vae.metrics.evaluation import evaluate_split

    test = data.corpus("test")
    whole = json.loads(evaluate_split(model, test, iw_samples=0).to_json())
    part = json.loads(evaluate_split(model, test[:WEIGHTED], iw_samples=100).to_json())
    values = {**whole, "iw_nll": part["iw_nll"], "perplexity": part["perplexity"]}
    values["seconds"] = float(clock.read_text())
    values["exact_match"] = values["exact_match"] or 0.0
    runs.replace_file(cached, json.dumps(values).encode())
    return values


def main() -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/text-methods"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    options = parser.parse_args()
    data = dataset(options.data)
    print("| method | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    base = 0.0
    for name in options.methods:
        row = measure(name, data, options.out, options.epochs)
        base = row["seconds"] if name == "vae" else base
        row["time"] = row["seconds"] / base if base else 0.0
        cells = [str(row[key]) if key == "active_units" else f"{row[key]:.2f}" for key in COLUMNS]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
