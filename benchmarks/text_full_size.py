"""Steps of the papers' LSTM at full size: `he2019-text`, batches of 32 documents of 80 predicted tokens.

    python benchmarks/text_full_size.py FOLDER        (the yahoo data; four minutes, more than five for the last row)

1024 hidden units, embeddings of 512, the vocabulary of the data (20,001 words), dropout 0.5, gradient descent. Seconds
of a step (median of four after a first one), and the peak of memory of a process of its own, in which the data take
little. The documents are those of the folder with exactly 80 tokens to predict, 32 of them a batch.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROWS = {
    "vae": ("vae", "both"),
    "aggressive, inner step": ("aggressive", "encoder"),
    "aggressive, inner step, encoder's own norm": ("aggressive", "stepped"),
    "lstm-lm": ("lstm-lm", "both"),
    "skip-vae": ("skip-vae", "both"),
    "ne-vae-se": ("ne-vae-se", "both"),
    "sa-vae:steps=10": ("sa-vae:steps=10", "both"),
}
PREDICTED, BATCH = 80, 32


def work(row: str, folder: Path, count: int) -> dict[str, Any]:
    """One row, in this process."""
    import torch

    import lso
    from lso.tasks.training.plan import plan
    from lso.vae.data.dataset import take_batch
    from lso.vae.models.vae import build
    from lso.vae.training import step
    from lso.vae.training.step import BOTH, Group, StepInputs

    method, what = ROWS[row]
    config = plan(
        {"method": method, "architecture": {"name": "he2019-text"}, "data": {"task": "yahoo", "path": str(folder)}}
    )
    dataset = lso.load_dataset(config.data, "none", 0)
    train = dataset.corpus("train")
    rows = (train.lengths == PREDICTED + 1).nonzero()[:, 0]
    model = build(
        config.architecture, config.method.skip, dataset.shape, 0, config.method.inference, dataset.vocabulary
    )
    state = step.fresh_state(model.train(), config.method, config.protocol)
    state.joint = what != "stepped"
    groups: tuple[Group, ...] = BOTH if what == "both" else ("encoder",)
    knobs, seconds = StepInputs(torch.tensor(1.0), torch.tensor(1.0)), []
    for at in range(count):
        x = take_batch(train, rows[torch.arange(at * BATCH, (at + 1) * BATCH) % len(rows)])
        noise = step.draw_noise(config.method, model, tuple(x.shape), binarize=False, seed=0, step=at, device=x.device)
        begin = time.perf_counter()
        info = step.step(state, x, noise, knobs, groups)
        seconds.append(time.perf_counter() - begin)
    return {
        "seconds": statistics.median(seconds[1:]),
        "loss": info.loss.item(),
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "parameters": sum(p.numel() for p in model.parameters()),
        "shape": list(x.shape),
        "words": dataset.shape[1],
    }


def main() -> None:
    """Run every row in its own process and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--row", choices=ROWS, help="one row, in this process: prints JSON")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(work(options.row, options.data, options.steps)))
        return
    print("| step | parameters | seconds | against `vae` | loss, nats | memory, GiB |")
    print("| --- |" + " --- |" * 5)
    base = 0.0
    for row in ROWS:
        count = min(3, options.steps) if row.startswith("sa-vae") else options.steps
        command = [sys.executable, __file__, str(options.data), "--row", row, "--steps", str(count)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        base = base or found["seconds"]
        print(
            f"| `{row}` | {found['parameters']:,} | {found['seconds']:.2f} | {found['seconds'] / base:.2f} "
            f"| {found['loss']:.1f} | {found['gib']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
