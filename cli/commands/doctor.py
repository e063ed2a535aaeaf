"""``lso doctor``: what is installed and what this machine has, or what went wrong in a run."""

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.console import Console
from lso.cli.options import AcceptChanges, Json, Trust, complete_runs
from lso.cli.run_argument import takes_run
from lso.vae.runs import runs_root, versions
from lso.vae.utils.validation import pluralize

GIB = 2**30
REPOSITORY = Path(__file__).resolve().parents[2]

DoctorRun = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        help="Run folder to check. Default: check the installation.",
        show_default=False,
        autocompletion=complete_runs,
    ),
]


@takes_run
def doctor(
    run: DoctorRun = None, trust: Trust = False, accept_changes: AcceptChanges = False, json: Json = False
) -> None:
    """Check the installation: versions, devices, folders, missing packages. With RUN, say what is wrong with a run."""
    console = Console(json=json)
    console.loading()
    if run is not None:
        from lso.tasks.doctor import check_run

        findings = check_run(run, trust=trust, accept_changes=accept_changes)
        console.emit(
            {"run": run, "findings": [{"level": f.level, "what": f.what, "remedy": f.remedy} for f in findings]}
        )
        for finding in findings:
            console.result(f"{finding.level:>7}  {finding.what}")
            if finding.remedy:
                console.result(f"{'':>7}  -> {finding.remedy}")
        return
    tables = {"versions": _find_versions(), "devices": _find_devices(), "folders": _find_folders()}
    missing = _find_missing()
    console.emit({**tables, "missing": missing})
    for title, rows in tables.items():
        console.table((title, ""), list(rows.items()))
        console.result()
    _print_missing(console, missing)


def _find_versions() -> dict[str, str]:
    own = versions(("lso",))["lso"]
    if own == "not installed":
        from lso import __version__

        own = f"{__version__} (not installed, run from {REPOSITORY})"
    return {"lso": own, "python": f"{platform.python_version()} ({platform.platform()})", **versions(_core_packages())}


def _requirements() -> list[tuple[str, str, str]]:
    """(package, minimum version, extra) of everything that lso depends on; empty where lso is not installed."""
    try:
        lines = requires("lso") or []
    except PackageNotFoundError:
        return []
    requirements = []
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*(?:>=\s*([\d.]+))?.*?(?:extra\s*==\s*['\"](\w+)['\"])?$", line)
        if match:
            requirements.append((match[1], match[2] or "", match[3] or ""))
    return requirements


def _core_packages() -> list[str]:
    """Packages that lso needs without extras; from a bare checkout, whose metadata is missing, the most telling."""
    core = [name for name, _, extra in _requirements() if not extra]
    return core or ["torch", "botorch", "gpytorch", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "typer"]


def _find_devices() -> dict[str, str]:
    import torch

    memory = _read_memory()
    free = f", {memory[0] / GIB:z.1f} of {memory[1] / GIB:z.1f} GiB memory free" if memory else ""
    devices = {"cpu": f"{os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()} threads{free}"}
    for index in range(torch.cuda.device_count()):
        left, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        devices[f"cuda:{index}"] = f"{name}, {left / GIB:z.1f} of {total / GIB:z.1f} GiB free"
    if len(devices) == 1:
        built = torch.version.cuda
        devices["cuda"] = (
            f"no device (PyTorch is built for CUDA {built})" if built else "no device (PyTorch is built without CUDA)"
        )
    return devices


def _read_memory() -> tuple[int, int] | None:
    """(free, total) memory in bytes; None where the system does not say (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return values["MemAvailable"], values["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _find_folders() -> dict[str, str]:
    from lso.tasks.datasets.download import cache_folder

    return {
        "runs": _describe_folder(runs_root(), "LSO_RUNS", len([*runs_root().glob("*/run.json")]), "run"),
        "downloads": _describe_folder(
            cache_folder(), "LSO_CACHE", sum(p.is_file() for p in cache_folder().rglob("*")), "file"
        ),
    }


def _describe_folder(path: Path, variable: str, count: int, noun: str) -> str:
    """What a folder holds, whether it can be written, the free space, and the variable that names another folder."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    state = pluralize(count, noun) if path.exists() else "does not exist yet"
    writable = "" if os.access(existing, os.W_OK) else ", CANNOT BE WRITTEN"
    free = shutil.disk_usage(existing).free / GIB
    return f"{path}: {state}{writable}, {free:z.0f} GiB free (set {variable} for another folder)"


def _find_missing() -> list[dict[str, Any]]:
    """Packages that are not installed or too old, by extra, with the command that installs them."""
    missing = []
    for extra in dict.fromkeys(extra for _, _, extra in _requirements()):
        required = [(name, minimum) for name, minimum, of in _requirements() if of == extra]
        installed = versions([name for name, _ in required])
        lacking = [
            f"{name} {installed[name]}, needs {minimum or 'any'}"
            for name, minimum in required
            if not _is_recent_enough(installed[name], minimum)
        ]
        if lacking:
            missing.append({"extra": extra or "core", "lacking": lacking, "install": _install_command(extra)})
    return missing


def _is_recent_enough(version: str, minimum: str) -> bool:
    def key(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text.split("+")[0])][:3]

    return version != "not installed" and key(version) >= key(minimum)


def _install_command(extra: str) -> str:
    suffix = f"[{extra}]" if extra else ""
    return (
        f"pip install -e '{REPOSITORY}{suffix}'"
        if (REPOSITORY / "pyproject.toml").is_file()
        else f"pip install 'lso{suffix}'"
    )


def _print_missing(console: Console, missing: list[dict[str, Any]]) -> None:
    if not missing:
        unknown = f"cannot tell what is missing, as lso is not installed; to install it: {_install_command('')}"
        console.result("nothing is missing" if _requirements() else unknown)
    for row in missing:
        label = "needed" if row["extra"] == "core" else f"extra {row['extra']}"
        console.result(f"{label}: {'; '.join(row['lacking'])}")
        console.result(f"  {row['install']}")
