"""The demonstration, ``make demo``: three acts, each the commands that a user would type.

    python docs/demo.py [FOLDER] [--seed N] [--digit D]

What it says between the commands is made from the report.json of the runs it has just made.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Any

from lso.vae.runs import Run
from lso.vae.zoo import PREFIX, read_test_metrics

TARGETS, STARTS, EPOCHS, BUDGET = 20, 4, 60, 100
COLLAPSED, ALIVE = "digits-collapsed", "digits-alive"
WORDS = {"fine": "Believe it", "care": "Believe it with care", "doubt": "Do not believe it"}


def run(command: str) -> None:
    """Show a command and run it; its output is not captured. An error of it ends the demonstration."""
    print(f"\n$ {command}", flush=True)
    done = subprocess.run([sys.executable, "-m", *shlex.split(command), "--quiet"], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def quoted(path: Path) -> str:
    """A path as it stands in a command."""
    return shlex.quote(str(path))


def say(text: str) -> None:
    """Print a paragraph."""
    print("\n" + textwrap.fill(" ".join(text.split()), 100), flush=True)


def read(folder: Path) -> tuple[str, dict[str, Any]]:
    """The level of a search's verdict, and its key numbers."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report["verdict"]["level"], report["essence"]


def main_job(folder: Path, seed: int) -> None:
    """Act 1: train a model and search for pictures that it never saw."""
    say(f"ACT 1. Train a VAE on small pictures of digits, then search its latent space for {TARGETS} it never saw.")
    model, search = folder / "model", folder / "search"
    run(f"lso train --method ne-vae-se --epochs {EPOCHS} --seed {seed} --out {quoted(model)}")
    targets = f"--target test:{TARGETS} --starts {STARTS} --optimizer adam"
    run(f"lso optimize --model {quoted(model)} {targets} --seed {seed} --out {quoted(search)}")
    level, numbers = read(search)
    missed = numbers["targets not reproduced"]
    say(
        f"""{WORDS[level]}: {TARGETS - missed} of {TARGETS} pictures are reproduced, the median one by
        {numbers["share of the target reproduced"]:.0%} of what sets it apart from the model's average picture, and it
        does not matter where a search starts."""
        if level == "fine"
        else f"{WORDS[level]}: the report says why, {search / 'report.html'}"
    )


def the_point(folder: Path, seed: int, digit: int) -> None:
    """Act 2: one and the same search in a collapsed model and in its living twin."""
    used = {name: read_test_metrics(name)["used_dimensions"] for name in (COLLAPSED, ALIVE)}
    latents = Run(f"{PREFIX}{ALIVE}").config.architecture.latent_dim
    say(
        f"""ACT 2. Why a verdict is needed. Two models come with lso, of the same data and networks. In one the
        posterior has collapsed: of {latents} latent dimensions the decoder uses {used[COLLAPSED]}; in the other
        {used[ALIVE]}. In both we look for a picture that a classifier takes for the digit {digit}, and, as a control,
        among random draws."""
    )
    task = f"--task digits-preference:{digit} --budget {BUDGET} --seed {seed}"
    run(f"lso optimize --model zoo:{COLLAPSED} {task} --optimizer turbo --out {quoted(folder / 'collapsed')}")
    run(f"lso optimize --model zoo:{ALIVE} {task} --optimizer turbo --out {quoted(folder / 'alive')}")
    run(f"lso optimize --model zoo:{ALIVE} {task} --optimizer random --out {quoted(folder / 'alive-random')}")
    found = {name: read(folder / name) for name in ("collapsed", "alive", "alive-random")}
    best = {name: numbers["best value"] for name, (_, numbers) in found.items()}
    say(
        f"""Collapsed: {WORDS[found["collapsed"][0]].lower()}. After {BUDGET} pictures the best one shows the
        digit {digit} with probability {best["collapsed"]:.2f}; the search itself ended as quietly as the others. Alive:
        {WORDS[found["alive"][0]].lower()}. The best one shows it with probability {best["alive"]:.2f}; the best
        of {BUDGET} random draws from the same model with {best["alive-random"]:.2f}."""
    )


def one_page(folder: Path) -> None:
    """Act 3: a page that compares the three searches."""
    say("ACT 3. One page that compares them: what each found, its verdict, and the dimensions that are alive.")
    searches = " ".join(quoted(folder / name) for name in ("collapsed", "alive", "alive-random"))
    run(f"lso report {searches} --out {quoted(folder / 'comparison')}")
    say(f"Open {folder / 'comparison' / 'report.html'}")


def main() -> None:
    """Play the acts in a new folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = Path(os.environ.get("LSO_RUNS", "runs"))
    parser.add_argument("folder", nargs="?", type=Path, default=runs / f"demo-{datetime.now():%Y%m%d-%H%M%S}")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of all searches")
    parser.add_argument("--digit", type=int, default=8, help="which digit act 2 looks for, 0 to 9")
    options = parser.parse_args()
    main_job(options.folder, options.seed)
    the_point(options.folder, options.seed, options.digit)
    one_page(options.folder)


if __name__ == "__main__":
    main()
