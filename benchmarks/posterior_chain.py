"""Posterior means by Metropolis-Hastings against those by grid: He et al. (2019), appendix A, on trained models.

    python benchmarks/posterior_chain.py runs/lagging-quick/aggressive-s0 runs/lagging-quick/vae-s0

For each run of scalar z: the spread of the grid's means over validation data, the root mean square of chain minus grid
and of the chains' standard errors, the largest difference in standard errors, their correlation, and the share of
proposals that were taken. The chain is that of the authors' code: 100 steps of burn-in, none left out, deviation 1.
"""

import argparse

import torch

import lso
from lso.tasks.datasets.loading import load_dataset
from lso.vae.metrics.inference_gap import PosteriorGrid, posterior_mean
from lso.vae.metrics.posterior_chain import Chain, posterior_draws


def row(path: str, options: argparse.Namespace) -> str:
    """One line of the table."""
    run = lso.Run(path)
    model, data = run.model(), load_dataset(run.config.data, run.config.protocol.binarize, run.config.seed)
    x = data.split("validation")[: options.points]
    grid = posterior_mean(model, x, PosteriorGrid(stride=options.stride))
    draws = posterior_draws(model, x, Chain(samples=options.samples))
    difference, error = draws.mean()[:, 0] - grid, draws.error()[:, 0]
    rms = [float(values.square().mean().sqrt()) for values in (difference, error)]
    correlation = float(torch.corrcoef(torch.stack([grid, draws.mean()[:, 0]]))[0, 1])
    most = float((difference / error).abs().max())
    told = f"{len(x)} | {float(grid.std()):.3f} | {rms[0]:.4f} | {rms[1]:.4f} | {most:.1f} | {correlation:.4f}"
    return f"| {run.path.name} | {told} | {float(draws.accepted.mean()):.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--stride", type=float, default=0.05)
    options = parser.parse_args()
    print("| run | points | deviation of means | chain - grid | standard error | most | correlation | accepted |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in options.runs:
        print(row(path, options), flush=True)


if __name__ == "__main__":
    main()
