"""Every speed claim, as a ratio in one run between the straightforward way and ours: `make bench`.

    python benchmarks/bench.py [--only training generation ...] [--device cpu] [--quick] [--json FILE]

Results are checked equal before anything is timed. Each ratio is the median of pairs run one after the other, beside
its least and greatest; where the plain way is too slow it is timed on a stated slice. About half an hour on two cores;
on a GPU the same command times the same work there.
"""

import argparse
import importlib
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from speed.pairs import Row, Skipped

MODULES = ("training", "together", "refinement", "generation", "importance", "search", "asks")
HEAD = "| work | plain | ours | s | s | ratio | least to greatest | target | equal |"


def line(row: Row | Skipped) -> str:
    """A row as a line of Markdown."""
    if isinstance(row, Skipped):
        return f"| {row.work} | skipped: {row.why} " + "| " * (HEAD.count(" | ") - 1) + "|"
    target = f"{'<= ' if row.at_most else ''}{row.target:g}" if row.target is not None else ""
    low, high = row.spread
    cells = [row.work, row.plain, row.ours, f"{row.plain_seconds:.3g}", f"{row.ours_seconds:.3g}"]
    cells += [f"{row.median:.3g}", f"{low:.3g} to {high:.3g}", target, row.equal]
    notes = [note for note in (row.scaled, row.note) if note]
    cells[1] += f" ({'; '.join(notes)})" if notes else ""
    return "| " + " | ".join(cells) + " |"


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    """Time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="small networks, three pairs: a look, not a figure")
    parser.add_argument("--json", type=Path, default=Path("runs") / "bench.json", help="where the figures go")
    options = parser.parse_args()
    device = torch.device(options.device)
    about, found = machine(device), list[dict[str, Any]]()
    print(", ".join(f"{key} {value}" for key, value in about.items()), "\n", flush=True)
    print(HEAD, "\n", "| --- " * HEAD.count(" | "), "| --- |", sep="", flush=True)
    for name in options.only:
        begun = time.perf_counter()
        for row in importlib.import_module(f"speed.{name}").rows(device, options.quick):
            print(line(row), flush=True)
            found.append({"module": name, **asdict(row)})
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps({**about, "rows": found}, indent=1))
        found[-1]["module_seconds"] = round(time.perf_counter() - begun)
    print(f"\nwritten to {options.json}")


if __name__ == "__main__":
    main()
