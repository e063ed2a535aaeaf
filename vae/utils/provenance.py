"""Where, when and with what a run was made. Torch-free."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
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
        """Read it off this process."""
        return cls(
            command=shlex.join(sys.argv),
            versions=versions(("lso", "torch", "botorch", "gpytorch", "numpy")),
            python=platform.python_version(),
            platform=platform.platform(),
            git=_git_commit(),
            started=now(),
        )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, without importing anything."""

    def one(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    return {name: one(name) for name in packages}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git_commit() -> str:
    """Commit of the code's checkout, with a + when it has changes; empty outside one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
