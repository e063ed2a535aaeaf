"""The run folder: everything needed to repeat, resume or read a training or a search."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lso.vae.config.training import TrainConfig, from_folder, to_toml
from lso.vae.errors import LsoError, RunError, UsageError, WriteError
from lso.vae.launch import is_main_process
from lso.vae.utils import integrity as seals
from lso.vae.utils import run_schema as facts
from lso.vae.utils.files import overwrite, remove_leftovers_below, replace_file, utf8, whole_folder
from lso.vae.utils.integrity import SEALS, digest
from lso.vae.utils.provenance import Provenance as Provenance
from lso.vae.utils.provenance import now as now
from lso.vae.utils.provenance import versions as versions
from lso.vae.utils.reading import changed_error, format_sealed, read_content, read_json, read_lines, unreadable_error
from lso.vae.utils.trust import Trust

if TYPE_CHECKING:
    from lso.vae.checkpoint import Codes
    from lso.vae.models.vae import VAE

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
    """Where new runs go: ``$LSO_RUNS``, else ``runs/`` below the working folder."""
    return Path(os.environ.get("LSO_RUNS", "runs"))


class Run:
    """A run folder, read as it lies on disk.

    Args:
        path: the folder.
        made: False where another process makes it, which this one may not see yet.
        trust: what the user lets run of the code that the folder names, see `lso.vae.utils.trust`.
        accept_changes: whether files that are not as they were written are what the user means: they are sealed anew.
    Raises:
        RunError: if it is not a run folder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        made: bool = True,
        *,
        trust: Trust = False,
        accept_changes: bool = False,
    ) -> None:
        self.path, self.trust = Path(path), trust
        if made and not (self.path / INFO).is_file():
            what = "is not a run folder (no run.json)" if self.path.exists() else "does not exist"
            raise RunError(f"{self.path} {what}", "`lso list runs` shows the runs there are.")
        if accept_changes:
            seals.accept_files(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json, read anew, without the hashes of other files."""
        info = read_json(self.path / INFO)
        info.pop(SEALS, None)
        facts.require_known_format(info, self.path)
        if told := facts.find_mistyped(info):
            raise changed_error(self.path / INFO, told)
        return info

    @property
    def seals(self) -> seals.Seals | None:
        """The hashes of its files, read anew; None of a folder that was written before there were any."""
        return seals.read_seals(read_json(self.path / INFO), self.path)

    def checked(self, name: str) -> Path:
        """A file of the run, after a look whether it is as it was written.

        Args:
            name: of the file.
        Returns:
            Where it is.
        Raises:
            RunError: if it is not.
        """
        before = self.seals
        while before is not None and (error := seals.find_damage(self.path, name, before)):
            now = self.seals
            if now == before:  # else it was written anew since run.json was read
                raise error
            before = now
        return self.path / name

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
        path = self.path / CONFIG
        if not path.is_file():
            raise RunError(f"{self.path} has no {CONFIG}", "Only a training run has one; is this a search?")
        try:
            text = read_content(self.checked(CONFIG)).decode()
            return from_folder(text, str(path))
        except UnicodeDecodeError as error:
            raise unreadable_error(path, error) from None
        except UsageError as error:
            raise RunError(f"{path}: {error.message}", error.hint) from None

    def require(self, kind: Kind | None = None) -> Kind:
        """Look whether run.json has what work on such a run needs.

        Args:
            kind: that it should be; None is either.
        Returns:
            What it is.
        Raises:
            RunError: if it is another one, or something is missing.
        """
        found, info = self.kind, self.info
        if kind is not None and found != kind:
            what = {"train": ("search", "training run"), "search": ("training run", "search")}[kind]
            raise RunError(f"{self.path} is a {what[0]}, expected a {what[1]}", "`lso list runs` tells which is which.")
        if told := facts.find_missing(found, info):
            raise changed_error(self.path / INFO, f"it does not say its {told}")
        return found

    @property
    def verdict(self) -> str:
        """One sentence if the latents are not in use, else empty."""
        return str(self.info.get("verdict", ""))

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch.

        Returns:
            Rows in order; empty before the first. Those of sequences that were written before there was ``mi_mixed``
            had it under ``mi``, and have no ``mi`` here.
        """
        path = self.checked(METRICS)
        rows = read_lines(path) if path.is_file() else []
        for row in rows:
            if not isinstance(row.get("epoch"), int) or not isinstance(row.get("best"), bool):
                raise changed_error(path, "a row is not that of an epoch")
            if "tokens" in row and "mi" in row and "mi_mixed" not in row:
                row["mi_mixed"] = row.pop("mi")
        return rows

    def best(self) -> dict[str, Any]:
        """The row of the weights in model.safetensors, which `Protocol.monitor` chose; see `describe_selection`.

        Returns:
            The row; empty before the first.
        """
        return next((row for row in reversed(self.metrics()) if row["best"]), {})

    def kept_by(self) -> str:
        """Which epoch's weights are in model.safetensors, and by what rule.

        Returns:
            Words to go on with; empty before the first epoch.
        """
        from lso.vae.checkpoint_selection import describe_selection

        row = self.best()
        return describe_selection(self.config, row) if row else ""

    def model(self, device: str = "cpu") -> "VAE":
        """The weights that were kept, in eval mode.

        Args:
            device: where to put them.
        Returns:
            The model.
        Raises:
            RunError: if there are none or the file is damaged.
        """
        from lso.vae.checkpoint import load_model, read_model

        try:
            return load_model(self.checked(MODEL), device)
        except RunError:
            read_model(self.path / MODEL)  # what cannot be read at all is told as such
            raise

    def codes(self) -> "Codes | None":
        """Validation posteriors of the weights that were kept.

        Returns:
            The codes, or None where the run has none yet.
        """
        from lso.vae.checkpoint import load_codes

        path = self.checked(CODES)
        return load_codes(path) if path.is_file() else None


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
        if is_main_process() and path.exists() and not (path.is_dir() and not any(path.iterdir())):
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
    """Make a run folder in one move: it appears complete or not at all."""
    if path.is_dir() and any(path.iterdir()):  # made meanwhile by another process
        raise _taken(path)
    parts = dict(files or {}) | ({} if config is None else {CONFIG: utf8(to_toml(config))})
    hashes = {name: [digest(part)] for name, part in parts.items()}
    parts[INFO] = format_sealed({"format": facts.FORMAT, "kind": kind, **info, SEALS: hashes})
    with whole_folder(path) as half:
        for name, part in parts.items():
            replace_file(half / name, part)
    return Run(path)


def update(run: Run, **values: Any) -> None:
    """Change keys of run.json, written beside and then put in place."""
    info = run.info | values
    known = _known(run) | seals.journal_seal(info, run.path)
    try:
        _write(run, info, known)
    except WriteError:  # the disk is full, and how a session ended is to be known all the same
        overwrite(run.path / INFO, format_sealed({**info, SEALS: known}))


def put(run: Run, files: Mapping[str, bytes]) -> None:
    """Write files of a run, each beside and then put in place, and their hashes into run.json."""
    info, known = run.info, _known(run)
    after = {name: [digest(raw)] for name, raw in files.items()}
    both = {name: [*dict.fromkeys([*known.get(name, [seals.ABSENT]), *after[name]])] for name in files}
    rows = seals.seal_metrics(run.path)
    _write(run, info, known | both | rows)
    for name, raw in files.items():
        replace_file(run.path / name, raw)
    _write(run, info, known | after | rows)


def shorten(run: Run) -> None:
    """Say in run.json that rows of metrics.jsonl may go, before they do."""
    _write(run, run.info, _known(run) | {METRICS: []})


def _known(run: Run) -> seals.Seals:
    """The hashes of its files; a folder from before there were any has them from now on."""
    found = run.seals
    return seals.seal_files(run.path) if found is None else found


def _write(run: Run, info: Mapping[str, Any], known: seals.Seals) -> None:
    replace_file(run.path / INFO, format_sealed({**info, "format": facts.FORMAT, SEALS: known}))


def ended(error: BaseException) -> dict[str, str]:
    """Status and sentence of a session that something was raised in."""
    if isinstance(error, KeyboardInterrupt):
        return {"status": "stopped", "sentence": "Stopped early (interrupted); resume to go on."}
    said = error.message if isinstance(error, LsoError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "sentence": said}


def note_end(run: Run, error: BaseException) -> None:
    """Say in run.json what ended a session, where that can be written; it is the error that is to be told."""
    with suppress(LsoError):
        update(run, **ended(error), finished=now())


def sweep(run: Run) -> None:
    """Remove the half-written files of processes that were killed; only the process that holds a run may call it."""
    remove_leftovers_below(run.path)
    for name in (INFO, MODEL, LAST, CODES):  # as version 0.1 called them
        for leftover in run.path.glob(f".{name}.[0-9]*"):
            leftover.unlink(missing_ok=True)


def list_runs(root: Path | None = None) -> list[Run]:
    """All runs below a folder, oldest first; damaged ones are among them, at the front."""
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
    """The run started last."""
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
