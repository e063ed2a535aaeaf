"""Does the help come at once? Processor time of `lso --help` and `lso train --help` beside that of a small typer app.

    python benchmarks/help_time.py [--rounds N] [--json]            (a minute; expected: ratios of at most 1.4)

The app has two commands that do nothing, so that its `--help` costs what Python, typer and rich cost. Each round starts
every command once, one after the other; a figure is the median over the rounds of user and system time, and a ratio is
that of such medians.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AT_MOST = 1.4
SMALL = "small app --help"
SMALL_APP = '''\
import typer

app = typer.Typer()


@app.command()
def greet(name: str, loud: bool = False) -> None:
    """Greet somebody."""


@app.command()
def count(numbers: int = 10) -> None:
    """Count to a number."""


app()
'''


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what is timed, by name, and write the small app into the folder."""
    small = folder / "small.py"
    small.write_text(SMALL_APP, encoding="utf-8")
    return {
        SMALL: [sys.executable, str(small), "--help"],
        "lso --help": [sys.executable, "-m", "lso", "--help"],
        "lso train --help": [sys.executable, "-m", "lso", "train", "--help"],
    }


def processor_seconds(command: Sequence[str], folder: Path) -> float:
    """Return the user and system time of a command, which must succeed; bytecode is kept in the folder."""
    # Where the environment forbids bytecode, the checkout would be compiled at each start and installed packages not.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the processor seconds of each command in each round, after one round that compiles what is imported."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        timed = commands(folder)
        for command in timed.values():
            processor_seconds(command, folder)
        taken: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name, command in timed.items():
                taken[name].append(processor_seconds(command, folder))
    return taken


def summarize(taken: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Return the median seconds of each command, and their ratio to those of the small app."""
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {name: {"seconds": seconds, "ratio": seconds / medians[SMALL]} for name, seconds in medians.items()}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="how often each command is timed (default: 11)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    found = summarize(measure(options.rounds))
    if options.json:
        print(json.dumps({"rounds": options.rounds, "at_most": AT_MOST, "commands": found}))
        return
    print("| command | processor seconds | ratio |\n| --- | ---: | ---: |")
    for name, figures in found.items():
        print(f"| `{name}` | {figures['seconds']:.3f} | {figures['ratio']:.2f} |")


if __name__ == "__main__":
    main()
