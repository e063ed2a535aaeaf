"""Seconds per ask: ours against bare BoTorch, as a ratio; and of every optimizer against the number of points told.

Commands (one core, `OMP_NUM_THREADS=1`):
    python benchmarks/ask_time.py ratio                     a minute; expected: at most 1.2 for each size
    python benchmarks/ask_time.py table [--only gp random]  many minutes; seconds per ask at 200, 1,000 and 5,000 points

`ratio` times asks of `gp` (guard off) and the same steps in bare BoTorch (fit, score the same raw points, optimize from
the same number of starts) alternately, and first checks that both propose the same point.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lso._botorch import importing_botorch
from lso.black_box.ask_tell import BlackBox, History, make_optimizer
from lso.black_box.bayesopt.candidates import draw_starts
from lso.black_box.bayesopt.surrogates import isolated_botorch, standardize
from lso.optimizers import BLACK_BOX_OPTIMIZERS
from lso.space import LatentSpace
from lso.vae.utils.random import generator, mix_seed

SIZES, DIM, PAIRS = (200, 1000, 5000), 32, 5


def score(z: Tensor) -> Tensor:
    """A smooth function of five of the coordinates, larger is better."""
    return -(z[:, :5] - 1).square().sum(-1) + torch.sin(3 * z[:, 0])


def told(name: str, points: int, dim: int = DIM, **options: object) -> BlackBox:
    """An optimizer that knows prior draws."""
    space = LatentSpace(dim)
    box = make_optimizer(name, space, **options)
    z = space.clip(space.sample(points, generator=torch.Generator().manual_seed(0)))
    box.tell(z, score(z))
    return box


def bare(history: History, seed: int) -> Tensor:
    """The proposal of BoTorch alone for the same data, bounds and raw starts."""
    with importing_botorch():
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.optim.initializers import initialize_q_batch
        from botorch.optim.optimize import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood

    raw = draw_starts(history, 512, generator(seed, "starts", 0), box=True).unsqueeze(1)
    raw = raw[torch.randperm(len(raw), generator=generator(seed, "groups", 0))]
    with isolated_botorch(mix_seed(seed, "botorch")):
        x = history.space.to_unit(history.z)
        model = SingleTaskGP(x, standardize(history.gain)[0].unsqueeze(-1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogNoisyExpectedImprovement(model, X_baseline=x)
        with torch.no_grad():
            chosen, _ = initialize_q_batch(raw, acquisition(raw), 8, eta=2.0)
        bounds = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, x.shape[1])
        found, _ = optimize_acqf(acquisition, bounds, 1, 8, batch_initial_conditions=chosen)
    return history.space.from_unit(found)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes, by the processor's time, which a busy machine does not stretch."""
    started = time.process_time()
    call()
    return time.process_time() - started


def ratio() -> None:
    """Print medians of alternating pairs and of their ratios."""
    print("| points | dimensions | ours (s) | bare (s) | ratio | greatest difference |\n" + "| --- " * 6 + "|")
    for points, dim in (
        (20, 6),
        (100, 6),
        (100, 32),
    ):  # of more our fits are cut, see `lso.black_box.bayesopt.surrogates.MAX_ITERATIONS`
        history, seed = told("gp", points, dim, guard=None).history(), mix_seed(0, "ask", 0)
        difference = float((told("gp", points, dim, guard=None).ask() - bare(history, seed)).abs().max())
        assert difference < 1e-6, difference
        pairs = []
        for _ in range(PAIRS):
            box = told("gp", points, dim, guard=None)
            pairs.append((seconds(box.ask), seconds(lambda h=history, s=seed: bare(h, s))))  # type: ignore[misc]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        middle = statistics.median(a / b for a, b in pairs)
        print(f"| {points} | {dim} | {ours:.2f} | {theirs:.2f} | {middle:.2f} | {difference:.0e} |", flush=True)


def table(names: list[str], sizes: list[int], repeats: int) -> None:
    """Print seconds per ask of one point."""
    print("| optimizer | " + " | ".join(f"{n:,} points" for n in sizes) + " |\n" + "| --- " * (len(sizes) + 1) + "|")
    for name in names:
        make_optimizer(name, LatentSpace(2)).ask()  # imports
        cells = []
        for points in sizes:
            box = told(name, points)
            cells.append(f"{statistics.median(seconds(box.ask) for _ in range(repeats)):.2f}")
            print(f"{name}, {points:,} points: {cells[-1]} s", file=sys.stderr, flush=True)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["ratio", "table"])
    parser.add_argument("--only", nargs="*", choices=list(BLACK_BOX_OPTIMIZERS), default=list(BLACK_BOX_OPTIMIZERS))
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.mode == "ratio":
        ratio()
    else:
        table(chosen.only, chosen.sizes, chosen.repeats)


if __name__ == "__main__":
    main()
