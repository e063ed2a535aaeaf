"""Does resistance to collapse pay in a search? The table in docs/log.md.

    OMP_NUM_THREADS=1 python benchmarks/collapse_and_search.py expressions --data FOLDER   (resumes; hours)
    OMP_NUM_THREADS=1 python benchmarks/collapse_and_search.py digits                      (resumes)

Models: `vae`, `ne-vae-se`, `skip-vae`, `beta-vae` and `aggressive`, three seeds each, everything else at the task's
defaults; for the digits the decoder is a small PixelCNN, trained for 150 epochs: after 30 the plain VAE has not
collapsed yet.
Of each the test split gives AU (active units), MI in nats (batches of 50 or 32) and "used": dimensions whose redraw
from the prior costs the reconstruction more than 0.01 nat.

Searches: three seeds in each model by `turbo` and by the control `random`, so many unique valid objects, four at a
time, nothing known beforehand. Expressions: the score, 0 at best. Digits: 1 minus the mean probability of the digit
that the classifier of task digits-preference gives, 0 at best, for the digit 8. A search that ends early, as its
decoder makes nothing new, counts with the best that it found (the worst score where it found nothing valid).

Intervals: mean difference to `vae`, paired by (model seed, search seed), 95 % bootstrap.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import lso
from lso.analysis.statistics import paired_bootstrap
from lso.tasks.goals import Goal, task_goal
from lso.tasks.problems.digits_preference import Preference
from lso.tasks.search.gradient import freeze_decoder
from lso.tasks.search.initial_data import goal_objective
from lso.tasks.training.experiment import reload_dataset
from lso.vae import runs
from lso.vae.runs import Run

METHODS = ("vae", "ne-vae-se", "skip-vae", "beta-vae:beta=0.05", "aggressive:budget=10,tolerance=0")
OPTIMIZERS = ("turbo", "random")
USED = 0.01  # nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One task of the study.

    Args:
        task: trained on.
        settings: of the training.
        budget: of each search.
        worst: value of a search that found nothing.
        best: value that can be attained.
    """

    task: str
    settings: dict[str, Any]
    budget: int
    worst: float
    best: float


CASES = {
    "expressions": Case(task="expressions", settings={}, budget=150, worst=7.0, best=0.0),
    "digits": Case(
        task="digits",
        settings={"architecture": {"name": "he2019-small", "latent_dim": 32}, "protocol": {"epochs": 150}},
        budget=50,
        worst=0.0,
        best=1.0,
    ),
}


def trained(case: Case, method: str, seed: int, data: str | None, out: Path) -> Run:
    """A model, trained or gone on with."""
    path = out / "models" / f"{method.replace(':', '-')}-seed{seed}"
    if path.exists():
        return lso.resume(path)
    return lso.train(method, task=case.task, data=data, seed=seed, out=path, settings=case.settings)


def account(run: Run) -> dict[str, Any]:
    """What there is to know of a model."""
    path = run.path / "account.json"
    if not path.is_file():
        values = json.loads(lso.evaluate(lso.load(run), reload_dataset(run), iw_samples=0).to_json())
        used = sum(use > USED for use in values["decoder_use"])
        kept = {key: values[key] for key in ("neg_elbo", "kl", "active_units", "mi", "reencoding_error")}
        runs.replace_file(path, json.dumps({**kept, "used": used, "seconds": run.info["seconds"]}).encode())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def goal_of(name: str, run: Run) -> Goal:
    """What is searched for."""
    if name == "digits":
        return Goal(name="digit 8", score=Preference(8), maximize=True, on="tensors", best=1.0)
    return task_goal(name, run)


def searched(name: str, case: Case, run: Run, optimizer: str, seed: int) -> dict[str, Any]:
    """One search, begun or gone on with."""
    path = run.path / f"search-{optimizer}-{seed}"
    done = path / "outcome.json"
    if not done.is_file():
        decoder, space, _ = freeze_decoder(run, "cpu")
        objective = goal_objective(goal_of(name, run), decoder, space)
        result = lso.optimize(
            objective, optimizer, case.budget, 4, out=path, resume=(path / runs.INFO).is_file(), seed=seed
        )
        value = result.best_value if result.best is not None else case.worst
        counters = dict(result.counters)
        runs.replace_file(done, json.dumps({"value": value, "status": result.status, **counters}).encode())
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def main() -> None:
    """Train, search, print the table as far as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="of models, and of searches in each")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    options = parser.parse_args()
    case = CASES[options.case]
    out = options.out or Path("runs") / f"collapse-{options.case}"
    regret: dict[tuple[str, str], list[float]] = {}
    print("| method | AU | used | MI | " + " | ".join(f"{o}: regret | early | - vae" for o in OPTIMIZERS) + " |")
    print("| --- | --- | --- | --- |" + " --- | --- | --- |" * len(OPTIMIZERS))
    for method in options.methods:
        models = [trained(case, method, seed, options.data, out) for seed in range(options.seeds)]
        accounts = [account(run) for run in models]
        cells = [cell([a[key] for a in accounts]) for key in ("active_units", "used", "mi")]
        for optimizer in OPTIMIZERS:
            ends = [searched(options.case, case, run, optimizer, s) for run in models for s in range(options.seeds)]
            regret[method, optimizer] = [abs(end["value"] - case.best) for end in ends]
            early = sum(end["status"] != "finished" for end in ends)
            found = regret[method, optimizer]
            first = regret[options.methods[0], optimizer]
            away = paired_bootstrap(torch.tensor(found) - torch.tensor(first))
            cells += [cell(found), f"{early} of {len(ends)}", f"{away.mean:+.3f} [{away.low:+.3f}, {away.high:+.3f}]"]
        print(f"| `{method}` | " + " | ".join(cells) + " |", flush=True)


def cell(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.fmean(values):.3g} ± {statistics.stdev(values) if len(values) > 1 else 0:.2g}"


if __name__ == "__main__":
    main()
