"""Where, when and with what a run was made. Torch-free."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where, when and with what a run was made; becomes part of run.json."""

    command: str
    versions: Mapping[str, str]
    python: str
    platform: str
    git: str
    started: str

    @classmethod
    def here(cls) -> "Provenance":
        """The provenance of a run that this process makes."""
        return cls(
            command=shlex.join(sys.argv),
            versions=versions(("lso", "torch", "botorch", "gpytorch", "numpy")),
            python=platform.python_version(),
            platform=platform.platform(),
            git=_git_commit(),
            started=now(),
        )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of packages, without importing them."""

    from importlib.metadata import PackageNotFoundError, version  # it imports the reader of mails, for 15 ms

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    return {name: installed(name) for name in packages}


def now() -> str:
    """The current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git_commit() -> str:
    """The commit of the checkout that this code runs from, with a + if it has changes; empty where it is installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stdout.strip()
