"""The run folder: everything needed to repeat, resume or read a training or a search."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lso.vae.config import TrainConfig, from_folder, to_toml
from lso.vae.errors import LsoError, RunError, WriteError
from lso.vae.files import clean_below, overwrite, replace_file, utf8, whole_folder
from lso.vae.launch import first
from lso.vae.trust import Trust

if TYPE_CHECKING:
    from lso.vae.checkpoint import Codes
    from lso.vae.model import VAE

Kind = Literal["train", "search"]
CONFIG, INFO, METRICS, MODEL, LAST, CODES, REPORT, START = (
    "config.toml",
    "run.json",
    "metrics.jsonl",
    "model.safetensors",
    "last.pt",
    "codes.npz",
    "report.html",
    "start.safetensors",
)


def runs_root() -> Path:
    """Where new runs go: ``$LSO_RUNS``, else ``runs/`` below the working folder.

    Returns:
        The folder, which need not exist.
    """
    return Path(os.environ.get("LSO_RUNS", "runs"))


class Run:
    """A run folder, read as it lies on disk.

    Args:
        path: the folder.
        made: False where another process makes it, which this one may not see yet.
        trust: what the user lets run of the code that the folder names, see `lso.vae.trust`.
    Raises:
        RunError: if it is not a run folder.
    """

    def __init__(self, path: str | os.PathLike[str], made: bool = True, *, trust: Trust = False) -> None:
        self.path, self.trust = Path(path), trust
        if made and not (self.path / INFO).is_file():
            what = "is not a run folder (no run.json)" if self.path.exists() else "does not exist"
            raise RunError(f"{self.path} {what}", "`lso list runs` shows the runs there are.")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json, read anew."""
        try:
            return dict(json.loads((self.path / INFO).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"cannot read {self.path / INFO}: {error}", "The run is damaged; train it again.") from None

    @property
    def kind(self) -> Kind:
        """``"train"`` or ``"search"``."""
        kind: Kind = self.info.get("kind", "")
        if kind not in get_args(Kind):
            raise RunError(
                f"{self.path / INFO} does not say that it is a training or a search", "It is not a run of lso."
            )
        return kind

    @cached_property
    def config(self) -> TrainConfig:
        """The training's configuration."""
        try:
            text = (self.path / CONFIG).read_text(encoding="utf-8")
        except OSError:
            raise RunError(f"{self.path} has no {CONFIG}", "Only a training run has one; is this a search?") from None
        return from_folder(text, str(self.path / CONFIG))

    @property
    def verdict(self) -> str:
        """One sentence if the latents collapsed, else empty."""
        return str(self.info.get("verdict", ""))

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch.

        Returns:
            Rows in order; empty before the first.
        """
        path = self.path / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]  # a line being written is left out

    def best(self) -> dict[str, Any]:
        """The row of the weights in model.safetensors, which `Protocol.judge` chose; see `kept_by`.

        Returns:
            The row; empty before the first.
        """
        return next((row for row in reversed(self.metrics()) if row["best"]), {})

    def kept_by(self) -> str:
        """Which epoch's weights are in model.safetensors, and by what rule.

        Returns:
            Words to go on with; empty before the first epoch.
        """
        from lso.vae.kept import kept_by

        row = self.best()
        return kept_by(self.config, row) if row else ""

    def model(self, device: str = "cpu") -> "VAE":
        """The weights that were kept, in eval mode.

        Args:
            device: where to put them.
        Returns:
            The model.
        Raises:
            RunError: if there are none or the file is damaged.
        """
        from lso.vae.checkpoint import load_model

        return load_model(self.path / MODEL, device)

    def codes(self) -> "Codes | None":
        """Validation posteriors of the weights that were kept.

        Returns:
            The codes, or None where the run has none yet.
        """
        from lso.vae.checkpoint import load_codes

        path = self.path / CODES
        return load_codes(path) if path.is_file() else None


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
        """Read it off this process.

        Returns:
            The provenance.
        """
        return cls(
            command=shlex.join(sys.argv),
            versions=versions(("lso", "torch", "botorch", "gpytorch", "numpy")),
            python=platform.python_version(),
            platform=platform.platform(),
            git=_git_commit(),
            started=now(),
        )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, without importing anything.

    Args:
        packages: distribution names.
    Returns:
        Name -> version, ``"not installed"`` where there is none.
    """

    def one(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    return {name: one(name) for name in packages}


def now() -> str:
    """The time in UTC, ISO 8601, to the second.

    Returns:
        e.g. ``2026-01-31T12:00:00+00:00``.
    """
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git_commit() -> str:
    """Commit of the code's checkout, with a + when it has changes; empty outside one."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return ""
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def choose_folder(label: str, out: str | Path | None = None) -> Path:
    """A folder for a new run that does not exist yet.

    Args:
        label: e.g. ``"digits-ne-vae-se"``; the date and time are appended.
        out: the user's own choice; only the first of several processes looks whether it is free.
    Returns:
        The path, not yet made.
    Raises:
        RunError: if ``out`` is there already.
    """
    if out is not None:
        path = Path(out)
        if first() and path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise _taken(path)
        return path
    stem = f"{label}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    path, count = runs_root() / stem, 1
    while path.exists():
        count += 1
        path = runs_root() / f"{stem}-{count}"
    return path


def _taken(path: Path) -> RunError:
    return RunError(f"{path} exists and runs are never overwritten", "Choose another --out, or continue it: --resume.")


def create(
    path: Path,
    kind: Kind,
    info: Mapping[str, Any],
    config: TrainConfig | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Run:
    """Make a run folder in one move: it appears complete or not at all.

    Args:
        path: where; an empty folder there is taken.
        kind: training or search.
        info: first content of run.json.
        config: of a training.
        files: what else it begins with, by name.
    Returns:
        The run.
    Raises:
        RunError: if the place is taken.
        WriteError: if it cannot be written.
    """
    if path.is_dir() and any(path.iterdir()):  # made meanwhile by another process
        raise _taken(path)
    contents = {INFO: _dump({"kind": kind, **info}), **(files or {})}
    if config is not None:
        contents[CONFIG] = utf8(to_toml(config))
    with whole_folder(path) as half:
        for name, content in contents.items():
            replace_file(half / name, content)
    return Run(path)


def update(run: Run, **values: Any) -> None:
    """Change keys of run.json, written beside and then put in place.

    Args:
        run: the run.
        values: new keys and values.
    Raises:
        WriteError: if it cannot be written, not even over what is there.
    """
    content = _dump({**run.info, **values})
    try:
        replace_file(run.path / INFO, content)
    except WriteError:  # the disk is full, and how a session ended is to be known all the same
        overwrite(run.path / INFO, content)


def ended(error: BaseException) -> dict[str, str]:
    """Status and sentence of a session that something was raised in.

    Args:
        error: what was raised.
    Returns:
        ``status`` and ``sentence`` of run.json.
    """
    if isinstance(error, KeyboardInterrupt):
        return {"status": "stopped", "sentence": "Stopped early (interrupted); resume to go on."}
    said = error.message if isinstance(error, LsoError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "sentence": said}


def note_end(run: Run, error: BaseException) -> None:
    """Say in run.json what ended a session, where that can be written; it is the error that is to be told.

    Args:
        run: the run.
        error: what was raised in its session.
    """
    with suppress(LsoError):
        update(run, **ended(error), finished=now())


def sweep(run: Run) -> None:
    """Remove the half-written files of processes that were killed; only the process that holds a run may call it.

    Args:
        run: the run.
    """
    clean_below(run.path)


def list_runs(root: Path | None = None) -> list[Run]:
    """All runs below a folder, oldest first; damaged ones are among them, at the front.

    Args:
        root: where to look; None is `runs_root`.
    Returns:
        Runs by start time.
    """
    base = root or runs_root()
    found = [Run(path.parent) for path in base.glob(f"*/{INFO}") if not path.parent.name.startswith(".")]
    return sorted(found, key=lambda run: (str(_readable(run).get("started", "")), run.path.name))


def _readable(run: Run) -> dict[str, Any]:
    """run.json, or nothing where it is damaged: one broken folder must not stand in the way of the others."""
    try:
        return run.info
    except RunError:
        return {}


def newest_run(kind: Kind = "train", root: Path | None = None) -> Run:
    """The run started last.

    Args:
        kind: training or search.
        root: where to look; None is `runs_root`.
    Returns:
        The run.
    Raises:
        RunError: if there is none; names the command that makes one.
    """
    base = root or runs_root()
    mine = [run for run in list_runs(base) if _readable(run).get("kind") == kind]
    found = [run for run in mine if kind == "search" or (run.path / MODEL).is_file()]
    if not found:
        command = (
            "lso train --method ne-vae-se" if kind == "train" else "lso optimize --target images/ --optimizer adam"
        )
        what = "trained model" if kind == "train" else "search"
        raise RunError(f"no {what} found under {base}/", f"Make one first: {command}")
    return found[-1]


def _dump(values: Mapping[str, Any]) -> bytes:
    return utf8(json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n")
