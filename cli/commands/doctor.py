"""``lso doctor``: what is installed and what this machine has; or what went wrong in a run."""

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.console import Console
from lso.cli.options import AcceptChanges, Json, complete_runs
from lso.vae.runs import runs_root, versions

GIB = 2**30
CHECKOUT = Path(__file__).resolve().parents[2]

Target = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="A run to look into.", show_default=False, autocompletion=complete_runs),
]


def doctor(run: Target = None, accept_changes: AcceptChanges = False, json: Json = False) -> None:
    """Show versions, devices, folders and missing extras; with RUN, what went wrong in it and what to do."""
    console = Console(json=json)
    console.loading()
    if run is not None:
        from lso.tasks.doctor import checkup

        findings = checkup(run, accept_changes=accept_changes)
        console.emit(
            {"run": run, "findings": [{"level": f.level, "what": f.what, "remedy": f.remedy} for f in findings]}
        )
        for finding in findings:
            console.result(f"{finding.level:>7}  {finding.what}")
            if finding.remedy:
                console.result(f"{'':>7}  -> {finding.remedy}")
        return
    found = {"versions": _versions(), "devices": _devices(), "folders": _folders()}
    missing = _missing()
    console.emit({**found, "missing": missing})
    for title, rows in found.items():
        console.table((title, ""), list(rows.items()))
        console.result()
    _print_missing(console, missing)


def _versions() -> dict[str, str]:
    own = versions(("lso",))["lso"]
    if own == "not installed":
        from lso import __version__

        own = f"{__version__} (not installed, run from {CHECKOUT})"
    return {"lso": own, "python": f"{platform.python_version()} ({platform.platform()})", **versions(_needed())}


def _requirements() -> list[tuple[str, str, str]]:
    """(package, least version, extra) of everything that lso asks for; empty where it is not installed."""
    try:
        lines = requires("lso") or []
    except PackageNotFoundError:
        return []
    found = []
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*(?:>=\s*([\d.]+))?.*?(?:extra\s*==\s*['\"](\w+)['\"])?$", line)
        if match:
            found.append((match[1], match[2] or "", match[3] or ""))
    return found


def _needed() -> list[str]:
    core = [name for name, _, extra in _requirements() if not extra]
    return core or ["torch", "botorch", "gpytorch", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "typer"]


def _devices() -> dict[str, str]:
    import torch

    memory = _memory()
    free = f", {memory[0] / GIB:z.1f} of {memory[1] / GIB:z.1f} GiB memory free" if memory else ""
    found = {"cpu": f"{os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()} threads{free}"}
    for index in range(torch.cuda.device_count()):
        left, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found[f"cuda:{index}"] = f"{name}, {left / GIB:z.1f} of {total / GIB:z.1f} GiB free"
    if len(found) == 1:
        built = torch.version.cuda
        found["cuda"] = (
            f"no device (PyTorch is built for CUDA {built})" if built else "no device (PyTorch is built without CUDA)"
        )
    return found


def _memory() -> tuple[int, int] | None:
    """(free, total) bytes where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return values["MemAvailable"], values["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _folders() -> dict[str, str]:
    from lso.tasks.datasets.download import cache_folder

    return {
        "runs": _folder(runs_root(), "LSO_RUNS", len([*runs_root().glob("*/run.json")]), "runs"),
        "downloads": _folder(cache_folder(), "LSO_CACHE", sum(p.is_file() for p in cache_folder().rglob("*")), "files"),
    }


def _folder(path: Path, variable: str, count: int, what: str) -> str:
    """The folder, or what will be made, and whether one may write there."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    state = f"{count} {what}" if path.exists() else "not there yet"
    writable = "" if os.access(place, os.W_OK) else ", CANNOT BE WRITTEN"
    free = shutil.disk_usage(place).free / GIB
    return f"{path}: {state}{writable}, {free:z.0f} GiB free; {variable} names another"


def _missing() -> list[dict[str, Any]]:
    """What is not installed or too old, with the line that installs it."""
    found = []
    for extra in dict.fromkeys(extra for _, _, extra in _requirements()):
        wanted = [(name, least) for name, least, of in _requirements() if of == extra]
        have = versions([name for name, _ in wanted])
        lacking = [
            f"{name} {have[name]}, needs {least or 'any'}" for name, least in wanted if not _enough(have[name], least)
        ]
        if lacking:
            found.append({"extra": extra or "core", "lacking": lacking, "install": _install(extra)})
    return found


def _enough(have: str, least: str) -> bool:
    def key(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text.split("+")[0])][:3]

    return have != "not installed" and key(have) >= key(least)


def _install(extra: str) -> str:
    suffix = f"[{extra}]" if extra else ""
    return (
        f"pip install -e '{CHECKOUT}{suffix}'"
        if (CHECKOUT / "pyproject.toml").is_file()
        else f"pip install 'lso{suffix}'"
    )


def _print_missing(console: Console, missing: list[dict[str, Any]]) -> None:
    if not missing:
        console.result("nothing is missing" if _requirements() else f"extras: cannot tell; install lso: {_install('')}")
    for row in missing:
        what = "needed" if row["extra"] == "core" else f"extra {row['extra']}"
        console.result(f"{what}: {'; '.join(row['lacking'])}")
        console.result(f"  {row['install']}")
