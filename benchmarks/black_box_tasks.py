"""Black-box searches of three tasks, beside published figures: the tables in docs/log.md.

    OMP_NUM_THREADS=1 python benchmarks/black_box_tasks.py expressions --data FOLDER     (resumes)
    OMP_NUM_THREADS=1 python benchmarks/black_box_tasks.py squares
    OMP_NUM_THREADS=1 python benchmarks/black_box_tasks.py ehrlich

500 unique valid objects, three seeds. One model for all searches of a task, trained at the task's defaults by the
method said below (squares: a KL weight raised to 10, as published); retraining over the best begins with it (k = 1e-3,
every 50 objects) and searches with `turbo`. Searches are told 500 training data and their values beforehand
(expressions: the 100 best of a pool and 400 at random, the published proportion of one to four), `random` and `grid`
have no use for them. `genetic_search` works on the sequences themselves and starts from the same data. `grid` is the
published search of the squares: the true area at 50 x 50 points of [-3, 3]^2, 2,500 calls in truth.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lso
from lso.tasks.goals import task_goal
from lso.tasks.papers.published_tables import search_tables
from lso.tasks.problems.genetic_baseline import genetic_search
from lso.tasks.problems.squares import grid_search, is_one_square
from lso.tasks.retraining.run import weighted_retraining
from lso.tasks.search.gradient import freeze_decoder
from lso.tasks.search.initial_data import goal_objective, known_codes
from lso.vae import runs
from lso.vae.runs import Run

BUDGET, BATCH, KNOWN = 500, 5, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task's study.

    Args:
        method: that its model is trained by.
        searches: rows.
    """

    method: str
    searches: tuple[str, ...]


CASES = {
    "expressions": Case(method="beta-vae:beta=0.05", searches=("random", "cmaes", "gp", "turbo", "retraining")),
    "squares": Case(
        method="beta-vae:beta=10,anneal=5,start=0.0001", searches=("random", "grid", "turbo", "retraining")
    ),
    "ehrlich": Case(method="beta-vae:beta=0.05", searches=("random", "turbo", "retraining", "genetic")),
}


def model_of(task: str, data: str | None, out: Path) -> Run:
    """The task's model."""
    path = out / "model"
    return lso.resume(path) if path.exists() else lso.train(CASES[task].method, task=task, data=data, out=path)


def over_latents(task: str, run: Run, name: str, seed: int, path: Path) -> dict[str, Any]:
    """A search by an optimizer."""
    decoder, space, _ = freeze_decoder(run, "cpu")
    goal = task_goal(task, run)
    objective = goal_objective(goal, decoder, space)
    known = known_codes(run, goal, decoder, KNOWN, seed)
    again = (path / runs.INFO).is_file()
    result = lso.optimize(objective, name, BUDGET, BATCH, known=known, seed=seed, out=path, resume=again)
    ask = statistics.median(result.ask_seconds)
    best = result.best
    told = _told(task, best.decoded if best is not None else None, objective, result)
    return {"value": result.best_value, "best": told, "status": result.status, "ask": ask, **dict(result.counters)}


def _told(task: str, text: str | None, objective: Any, result: Any) -> str:
    if task != "squares" or result.best is None:
        return str(text)
    image = objective.decode(result.best_z[None])[0]
    return "one square" if is_one_square(image.numpy()) else "no square"


def on_a_grid(task: str, run: Run, name: str, seed: int, path: Path) -> dict[str, Any]:
    """The published search of the squares."""
    found = grid_search(freeze_decoder(run, "cpu")[0])
    best = int(found.values.argmax())
    told = "one square" if found.square[best] else "no square"
    return {"value": float(found.values[best]), "best": told, "status": "finished", "calls": found.evaluations}


def over_data(task: str, run: Run, name: str, seed: int, path: Path) -> dict[str, Any]:
    """The genetic baseline."""
    goal = task_goal(task, run)
    assert goal.known is not None
    found = genetic_search(goal.score, goal.known(KNOWN, seed), BUDGET, seed, maximize=goal.maximize)
    valid = [(value, text) for text, value in found if value is not None]
    value, text = (max if goal.maximize else min)(valid)
    return {"value": value, "best": text, "status": "finished", "calls": len(found), "unique": len(valid)}


def retrained(task: str, run: Run, name: str, seed: int, path: Path) -> dict[str, Any]:
    """Weighted retraining."""
    result = weighted_retraining(
        run,
        task_goal(task, run),
        "turbo",
        budget=BUDGET,
        batch=BATCH,
        every=50,
        known=KNOWN,
        seed=seed,
        out=path,
        resume=path.exists(),
    )
    best = result.best
    return {"value": result.best_value, "best": None if best is None else best.decoded, "status": result.status}


SEARCHES: dict[str, Callable[[str, Run, str, int, Path], dict[str, Any]]] = {
    "grid": on_a_grid,
    "genetic": over_data,
    "retraining": retrained,
}


def row(task: str, run: Run, name: str, seed: int, out: Path) -> dict[str, Any]:
    """One search, begun or gone on with; its outcome is kept."""
    path = out / f"{name}-{seed}"
    done = path.with_suffix(".json")
    if not done.is_file():
        begun = time.perf_counter()
        found = SEARCHES.get(name, over_latents)(task, run, name, seed, path)
        runs.replace_file(done, json.dumps({"seconds": time.perf_counter() - begun, **found}).encode())
    outcome: dict[str, Any] = json.loads(done.read_text())
    return outcome


def main() -> None:
    """Search, print the table as far as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=CASES)
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--searches", nargs="+")
    options = parser.parse_args()
    out = options.out or Path("runs") / f"black-box-{options.task}"
    run = model_of(options.task, options.data, out)
    print("| search | best of each seed | median | found | s |\n| --- | --- | --- | --- | --- |")
    for name in options.searches or CASES[options.task].searches:
        ends = [row(options.task, run, name, seed, out) for seed in range(options.seeds)]
        values = [end["value"] for end in ends]
        seconds = statistics.median(float(end["seconds"]) for end in ends)
        found = f"| {', '.join(f'{v:.4g}' for v in values)} | {statistics.median(values):.4g} | `{ends[0]['best']}` "
        print(f"| {name} {found}| {seconds:.0f} |", flush=True)
    for table in search_tables().values():
        if table.task == options.task:
            for published in table.rows:
                seeds = ", ".join(f"{v:g}" for v in published.values)
                mean = "" if published.average is None else f"mean {published.average:.4g}"
                print(f"| published: {published.label} | {seeds} | {mean} | | |")


if __name__ == "__main__":
    main()
