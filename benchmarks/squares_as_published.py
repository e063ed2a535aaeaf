"""Weighted retraining on squares by the protocol of its authors (Tripp et al. 2020): the table in docs/log.md.

    OMP_NUM_THREADS=1 python benchmarks/squares_as_published.py --model runs/black-box-squares/model

The model is that of `benchmarks/black_box_tasks.py squares`. As in the authors' scripts a search is no optimizer: of
the true areas at 50 x 50 points of [-3, 3]^2, 2,500 calls in truth, the best `every` distinct rounded pictures count as
the queries and join the data. One epoch of weighted retraining comes before the first, 0.1 before each later one, by a
new Adam at 1e-3 in batches of 32, KL weight 10. Deviations: the network is our `conv`, the KL weight of the first
training rises linearly over 5 epochs (theirs by a tenth every 10 steps), equals share a rank, one part in twenty tests.
"""

import argparse
import dataclasses
import math
import statistics
import tempfile
import time
from pathlib import Path

import torch

from lso.tasks.papers.published_tables import search_tables
from lso.tasks.problems.squares import SquareGrid, grid_search
from lso.tasks.retraining.rounds import retraining_config
from lso.tasks.retraining.weighting import PUBLISHED_K, draw_rows, rank_weights
from lso.tasks.search.gradient import freeze_decoder
from lso.tasks.training.experiment import reload_dataset
from lso.vae.data.dataset import Dataset
from lso.vae.runs import Run
from lso.vae.training.loop import train_model
from lso.vae.utils.random import mix_seed

QUERIES, FIRST, LATER, BATCH = 500, 1.0, 0.1, 32
ROWS = {  # label: weight k, queries between two retrainings
    "no weighting, no retraining": (math.inf, QUERIES),
    "weighting only, k = 1e-3": (PUBLISHED_K, QUERIES),
    "weighted retraining, k = 1e-3, r = 50": (PUBLISHED_K, 50),
}


def searched(model: Run, data: Dataset, k: float, every: int, seed: int) -> list[SquareGrid]:
    """All rounds of one search."""
    x, value = data.pixels("train"), data.pixels("train").double().sum((1, 2, 3)) / 255
    run, found = model, []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(QUERIES // every):
            count = round((LATER if number else FIRST) * len(x))
            rows = draw_rows(rank_weights(value, k, maximize=True), count, seed, number)
            config = retraining_config(model.config, mix_seed(seed, "retraining", number))
            config = dataclasses.replace(config, protocol=dataclasses.replace(config.protocol, batch_size=BATCH))
            drawn = dataclasses.replace(data, train=x[rows])
            run = train_model(config, drawn, Path(folder) / str(number), start=run.model())
            found.append(grid_search(freeze_decoder(run, "cpu")[0]))
            best = found[-1].images[:every, None]
            x = torch.cat([x, 255 * best.to(torch.uint8)])
            value = torch.cat([value, found[-1].values[:every]])
    return found


def main() -> None:
    """Search, print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="run folder of a training on task squares")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    model = Run(options.model)
    data = reload_dataset(model)
    published = {row.label: row for row in search_tables()["tripp2020_squares"].rows}
    print("| search | best of each seed | mean | published | largest true square | s |\n" + "| --- " * 6 + "|")
    for label, (k, every) in ROWS.items():
        begun = time.perf_counter()
        rounds = [searched(model, data, k, every, seed) for seed in range(options.seeds)]
        best = [max(float(grid.values[0]) for grid in grids) for grids in rounds]
        square = max(float(grid.values[grid.square].max()) for grids in rounds for grid in grids if grid.square.any())
        seconds = (time.perf_counter() - begun) / options.seeds
        cells = f"{', '.join(f'{v:.0f}' for v in best)} | {statistics.fmean(best):.0f} | {published[label].average:.0f}"
        print(f"| {label} | {cells} | {square:.0f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
