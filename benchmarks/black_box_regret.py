"""Simple regret of black-box searches through affine decoders onto test functions, beside a bare BoTorch loop.

Command (one core, `OMP_NUM_THREADS=1`): `python benchmarks/black_box_regret.py branin hartmann6 --seeds 10`
Expected: branin, 40 calls: median of `gp` <= 0.05; hartmann6, 100 calls: medians of `gp` and `turbo` <= 0.2; ackley20,
400 calls: median of `turbo` <= 1. For `turbo` see also `--only bare-turbo`, TuRBO as its paper has it.

An affine decoder maps [-3, 3]^d to the function's domain, so that a search over codes is one over the domain; the
optima are off the centre. `turbo` asks for 4 points at a time, the others for one. The guard is off: typicality means
nothing here. `bare` is BoTorch's own loop on the unit cube: the same numbers of Sobol points, SingleTaskGP, qLogNEI,
`optimize_acqf` with its default starts.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from bare_turbo import bare_turbo
from torch import Tensor

from lso._botorch import importing_botorch
from lso.black_box.ask_tell import make_optimizer
from lso.black_box.bayesopt.surrogates import isolated_botorch
from lso.space import LatentSpace
from lso.vae.utils.random import mix_seed

DESIGN, RESTARTS, RAW = 10, 8, 512


@dataclass(frozen=True, kw_only=True)
class Case:
    """A function to minimize.

    Args:
        problem: name of the class in `botorch.test_functions`.
        calls: budget.
        searches: optimizer -> options.
        options: of the class.
        batches: optimizer -> points an ask; one where it is not there.
    """

    problem: str
    calls: int
    searches: dict[str, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)


CASES = {
    "branin": Case(problem="Branin", calls=40, searches={"gp": {"guard": None}}),
    "hartmann6": Case(
        problem="Hartmann",
        calls=100,
        searches={"gp": {"guard": None}, "turbo": {"guard": None}},
        options={"dim": 6},
        batches={"turbo": 4},
    ),
    # The domain of BoTorch's TuRBO notebook; the optimum is at a third of each side.
    "ackley20": Case(
        problem="Ackley",
        calls=400,
        searches={"turbo": {"guard": None}},
        options={"dim": 20, "bounds": [(-5.0, 10.0)] * 20},
        batches={"turbo": 4},
    ),
}


def decoded(case: Case) -> tuple[Callable[[Tensor], Tensor], int, float]:
    """The function of codes, its dimension and its minimum."""
    with importing_botorch():
        from botorch import test_functions
    problem = getattr(test_functions, case.problem)(**case.options).double()
    lower, upper = problem.bounds

    def value(z: Tensor) -> Tensor:
        out: Tensor = problem.evaluate_true((lower + (z + 3) / 6 * (upper - lower)).clamp(lower, upper))
        return out

    return value, problem.dim, problem.optimal_value


def ours(case: Case, name: str, seed: int) -> float:
    """Simple regret of one of our searches."""
    value, dim, optimum = decoded(case)
    box = make_optimizer(name, LatentSpace(dim), seed=seed, maximize=False, **case.searches[name])
    batch = case.batches.get(name, 1)
    for _ in range(case.calls // batch):
        z = box.ask(batch)
        box.tell(z, value(z))
    best = box.best()
    assert best is not None
    return best[1] - optimum


def bare(case: Case, name: str, seed: int) -> float:
    """Simple regret of BoTorch's loop, as its tutorials have it."""
    with importing_botorch():
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.optim.optimize import optimize_acqf
        from botorch.utils.sampling import draw_sobol_samples
        from gpytorch.mlls import ExactMarginalLogLikelihood

    value, dim, optimum = decoded(case)
    bounds = torch.stack([torch.zeros(dim), torch.ones(dim)]).double()
    with isolated_botorch(mix_seed(seed, "bare")):
        x = draw_sobol_samples(bounds, DESIGN, 1, seed=seed).squeeze(1)
        y = -value(x * 6 - 3).unsqueeze(-1)
        while len(x) < case.calls:
            model = SingleTaskGP(x, y)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            acquisition = qLogNoisyExpectedImprovement(model, X_baseline=x)
            found, _ = optimize_acqf(acquisition, bounds, 1, RESTARTS, RAW)
            x, y = torch.cat([x, found]), torch.cat([y, -value(found * 6 - 3).unsqueeze(-1)])
    return float(-y.max()) - optimum


def bare_region(case: Case, name: str, seed: int) -> float:
    """Simple regret of TuRBO as its paper has it."""
    value, dim, optimum = decoded(case)
    return bare_turbo(value, dim, case.calls, case.batches["turbo"], seed) - optimum


BARE = {"bare": bare, "bare-turbo": bare_region}


def main() -> None:
    """Run and print a line a search, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="first seed, to go on where a study was cut")
    parser.add_argument("--only", nargs="*")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.cases:
        case = CASES[name]
        for search in chosen.only or [*case.searches, "bare"]:
            regrets, started = [], time.perf_counter()
            for seed in range(chosen.first, chosen.first + chosen.seeds):
                regrets.append(BARE.get(search, ours)(case, search, seed))
                print(json.dumps({"case": name, "search": search, "seed": seed, "regret": regrets[-1]}), flush=True)
            seconds = (time.perf_counter() - started) / chosen.seeds
            print(
                f"{name} {search}: median {statistics.median(regrets):.4g}, worst {max(regrets):.4g}, "
                f"{case.calls} calls, {chosen.seeds} seeds, {seconds:.0f} s a search",
                flush=True,
            )


if __name__ == "__main__":
    main()
