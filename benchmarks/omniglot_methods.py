"""All image methods on 1,000 OMNIGLOT images with a small PixelCNN, and what each would cost: the table in docs/log.md.

    python benchmarks/omniglot_methods.py PATH        (the omniglot data; resumes)

Two epochs of 20 steps, batch 50, `he2019-small`, 32 latents, an inner budget of 10 for aggressive training; metrics on
200 fixed test images, IW-NLL with 100 samples. Epochs are far too few to rank methods by what they learn: the table
shows that every one trains and is measured. The ratio is that of 100 epochs on all 22,345 images, 5 of them
aggressive with the inner steps that a loop to convergence takes here, from the seconds of each kind of step.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import lso
from lso.tasks.training.experiment import reload_dataset
from lso.vae import runs
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Dataset
from lso.vae.models.vae import build
from lso.vae.training import step
from lso.vae.training.step import BOTH, Group, State, StepInputs

METHODS = (
    "pixelcnn",
    "vae",
    "vae-anneal",
    "beta-vae:beta=0.9",
    "beta-vae:beta=0.2",
    "aggressive:budget=10",
    "aggressive:budget=10,anneal=10",
    "svi:steps=10",
    "sa-vae",
    "sa-vae:anneal=10",
    "skip-vae",
    "ne-vae-se",
    "ne-vae-lp:c=1",
    "ne-vae-lp:c=0",
    "free-bits",
    "iwae",
    "sa-vae+skip-vae",
    "ne-vae-se+aggressive:budget=10",
)
COLUMNS = {
    "neg_elbo": "-ELBO",
    "iw_nll": "IW-NLL",
    "kl": "KL",
    "mi": "MI (B=50)",
    "active_units": "AU",
    "reencoding_error": "re-enc.",
}
OUTER = 447 * 100  # steps of 100 epochs on 22,345 images
AGGRESSIVE = 447 * 5


def measure(method: str, data: Path, out: Path) -> dict[str, Any]:
    """Metrics of one run, trained or resumed where that is still to do."""
    path = out / method.replace(":", "-")
    cached = path / "metrics-test.json"
    if cached.is_file():
        found: dict[str, Any] = json.loads(cached.read_text())
        return found
    settings = {"data": {"limit": 1000}, "protocol": {"batch_size": 50}}
    options: dict[str, Any] = {"task": "omniglot", "data": data, "arch": "he2019-small", "epochs": 2}
    run = lso.resume(path) if path.exists() else lso.train(method, out=path, settings=settings, **options)
    values: dict[str, Any] = json.loads(
        lso.evaluate(lso.load(run), reload_dataset(run), iw_samples=100, limit=200).to_json()
    )
    runs.replace_file(cached, json.dumps(values).encode())
    return values


def prepared(method: str, data: Path) -> tuple[TrainConfig, Dataset, State]:
    """A fresh model of a method beside its data."""
    from lso.tasks.training.plan import plan

    architecture = {"name": "he2019-small"} | ({"latent_dim": 0} if method == "pixelcnn" else {})
    config = plan(
        {
            "method": method,
            "data": {"task": "omniglot", "path": str(data), "limit": 1000},
            "architecture": architecture,
            "protocol": {"batch_size": 50},
        }
    )
    dataset = lso.load_dataset(config.data, "dynamic", 0)
    model = build(config.architecture, config.method.skip, dataset.shape, 0, config.method.inference)
    return config, dataset, step.fresh_state(model.train(), config.method, config.protocol)


def timed(method: str, data: Path, groups: tuple[Group, ...] = BOTH, scope: str = "joint", count: int = 7) -> float:
    """Median seconds of a step."""
    config, dataset, state = prepared(method, data)
    state.joint = scope == "joint"
    knobs, seconds = StepInputs(torch.tensor(1.0), torch.tensor(1e-3)), []
    for at in range(count):
        noise = step.draw_noise(
            config.method,
            state.model,
            (50, *dataset.shape),
            binarize=True,
            seed=0,
            step=at,
            device=torch.device("cpu"),
        )
        begin = time.perf_counter()
        step.step(state, dataset.train[50 * at : 50 * at + 50], noise, knobs, groups)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def inner_steps(data: Path, outer: int) -> float:
    """Mean inner steps of a loop to convergence, over so many outer steps from the start."""
    from lso.vae.config.methods import method
    from lso.vae.config.protocol import Protocol
    from lso.vae.training.loop import Limits, train_model

    config, dataset, _ = prepared("aggressive", data)
    import dataclasses
    import tempfile

    config = dataclasses.replace(config, method=method("aggressive"), protocol=Protocol(batch_size=50, epochs=1))
    with tempfile.TemporaryDirectory() as folder:
        run = train_model(config, dataset, Path(folder) / "r", limits=Limits(steps=outer))
        last = torch.load(run.path / runs.LAST, weights_only=True)
    return float(last["position"]["inner"]) / outer


def main() -> None:
    """Train, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/omniglot-methods"))
    parser.add_argument("--inner-outer", type=int, default=10, help="outer steps over which inner steps are counted")
    parser.add_argument("--methods", nargs="*", help="these alone, without the times")
    options = parser.parse_args()
    print("| method | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    for name in options.methods or METHODS:
        row = measure(name, options.data, options.out)
        cells = [f"{row[key]}" if key == "active_units" else f"{row[key]:.2f}" for key in COLUMNS]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)
    if options.methods:
        return
    ordinary = timed("vae", options.data)
    inner = timed("aggressive", options.data, ("encoder",))
    alone = timed("aggressive", options.data, ("encoder",), scope="stepped")
    semi = timed("sa-vae", options.data, count=4)
    steps = inner_steps(options.data, options.inner_outer)
    print(f"\nseconds of a step: ordinary {ordinary:.3f}, inner {inner:.3f} (encoder's own norm {alone:.3f}), ", end="")
    print(f"sa-vae (10) {semi:.3f}; inner steps to convergence {steps:.1f}, over {options.inner_outer} outer ones")
    print("| method | projected ratio | He et al. (2019), Table 3 |\n| --- | --- | --- |")
    ratio = 1 + AGGRESSIVE * steps * inner / (OUTER * ordinary)
    for name, ours, theirs in (("vae", 1.0, 1.0), ("aggressive", ratio, 2.19), ("sa-vae", semi / ordinary, 15.15)):
        print(f"| `{name}` | {ours:.2f} | {theirs:.2f} |")


if __name__ == "__main__":
    main()
