"""Run folders, which hold all that is needed to repeat, resume or read a training or a search."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lso.vae.errors import LsoError, RunError, UsageError, WriteError
from lso.vae.launch import is_main_process
from lso.vae.utils import integrity as seals
from lso.vae.utils import run_schema
from lso.vae.utils.files import overwrite, remove_leftovers_below, replace_file, utf8, whole_folder
from lso.vae.utils.integrity import SEALS, digest
from lso.vae.utils.notebook import html_table
from lso.vae.utils.provenance import Provenance as Provenance
from lso.vae.utils.provenance import now as now
from lso.vae.utils.provenance import versions as versions
from lso.vae.utils.reading import changed_error, format_sealed, read_content, read_json, read_lines, unreadable_error
from lso.vae.utils.trust import Trust
from lso.vae.zoo import find_run, refuse_changes, run_reference, zoo_name

if TYPE_CHECKING:
    import numpy as np

    from lso.vae.checkpoint import Codes
    from lso.vae.config.training import TrainConfig
    from lso.vae.models.vae import VAE

Kind = Literal["train", "search"]
CONFIG, INFO, METRICS, MODEL, LAST, CODES, REPORT, START, EXAMPLES = (
    "config.toml",
    "run.json",
    "metrics.jsonl",
    "model.safetensors",
    "last.pt",
    "codes.npz",
    "report.html",
    "start.safetensors",
    "examples.npz",
)


def runs_root() -> Path:
    """The folder of new runs: ``$LSO_RUNS``, else ``runs/`` below the working folder."""
    return Path(os.environ.get("LSO_RUNS", "runs"))


class Run:
    """A run folder; its files are read when they are asked for.

    Args:
        path: the folder, or ``"zoo:NAME"``: a model that is installed with the package, see `lso.vae.zoo`.
        made: False where another process makes the folder, which this one may not see yet.
        trust: which code named in the folder may run: all (True), none (False), or these names.
        accept_changes: whether to accept files that differ from what was written: they are sealed anew.
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
        self.path, self.trust = find_run(path), trust
        if made and not (self.path / INFO).is_file():
            fault = "is not a run folder (no run.json)" if self.path.exists() else "does not exist"
            raise RunError(f"{self.path} {fault}", "`lso list runs` shows the runs there are.")
        if accept_changes:
            refuse_changes(self.path)
            seals.accept_files(self.path)

    def __repr__(self) -> str:
        return f"Run({(zoo_name(self.path) or str(self.path))!r})"

    @property
    def reference(self) -> str:
        """What names this run elsewhere: ``zoo:NAME``, which holds on every machine, or its full path."""
        return run_reference(self.path)

    def _repr_html_(self) -> str:
        """What a notebook shows: how the run ended, and the numbers of a training's weights."""
        info, kind = self.info, self.kind
        facts = {key: info.get(key) for key in ("status", "sentence", "seconds", "device")}
        numbers: dict[str, Any] = {"verdict": self.verdict or None}
        if kind == "train":
            best = self.best()
            shown = ("epoch", "neg_elbo", "reconstruction", "kl", "mi", "active_units")
            facts = {"method": self.config.method.name, "data": self.config.data.task} | facts
            numbers |= {key: best.get(key) for key in shown}
        return html_table(f"{kind} · {zoo_name(self.path) or self.path}", facts | numbers)

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json, read at each access, without the seals of other files."""
        info = read_json(self.path / INFO)
        info.pop(SEALS, None)
        run_schema.require_known_format(info, self.path)
        if mistyped := run_schema.find_mistyped(info):
            raise changed_error(self.path / INFO, mistyped)
        return info

    @property
    def seals(self) -> seals.Seals | None:
        """The seals of the run's files, read at each access; None in a folder written before there were seals."""
        return seals.read_seals(read_json(self.path / INFO), self.path)

    def checked(self, name: str) -> Path:
        """The path of a file of the run, once it was checked to be as it was written.

        Args:
            name: of the file, e.g. ``"model.safetensors"``.
        Returns:
            The path.
        Raises:
            RunError: if the file was damaged or edited.
        """
        before = self.seals
        while before is not None and (error := seals.find_damage(self.path, name, before)):
            now = self.seals
            if now == before:  # otherwise another process replaced the file after run.json was read: check again
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
    def config(self) -> "TrainConfig":
        """The training's configuration."""
        from lso.vae.config.training import from_folder  # a command's help opens no folder

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
        """Check that run.json has the keys that work on a run of its kind needs.

        Args:
            kind: the kind that it must be; None allows either.
        Returns:
            Its kind.
        Raises:
            RunError: if it is of the other kind, or a key is missing.
        """
        actual, info = self.kind, self.info
        if kind is not None and actual != kind:
            got, expected = {"train": ("search", "training run"), "search": ("training run", "search")}[kind]
            raise RunError(f"{self.path} is a {got}, expected a {expected}", "`lso list runs` tells which is which.")
        if missing := run_schema.find_missing(actual, info):
            raise changed_error(self.path / INFO, f"it does not say its {missing}")
        return actual

    @property
    def verdict(self) -> str:
        """A sentence on latents that the decoder does not use; empty where it uses them."""
        return str(self.info.get("verdict", ""))

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one for each epoch.

        Returns:
            The rows in order; empty before the first evaluation.
        """
        path = self.checked(METRICS)
        rows = read_lines(path) if path.is_file() else []
        for row in rows:
            if not isinstance(row.get("epoch"), int) or not isinstance(row.get("best"), bool):
                raise changed_error(path, "a row is not that of an epoch")
            # Before there was ``mi_mixed``, rows of sequences held its value under ``mi``.
            if "tokens" in row and "mi" in row and "mi_mixed" not in row:
                row["mi_mixed"] = row.pop("mi")
        return rows

    def best(self) -> dict[str, Any]:
        """The row of metrics.jsonl of the epoch whose weights are kept, see `Protocol.monitor`.

        Returns:
            The row; empty before the first evaluation.
        """
        return next((row for row in reversed(self.metrics()) if row["best"]), {})

    def kept_by(self) -> str:
        """Which epoch's weights are kept, and by what rule.

        Returns:
            Part of a sentence, such as ``kept epoch 17, of the least validation -ELBO (24.31)``; empty before the first
            evaluation.
        """
        from lso.vae.checkpoint_selection import describe_selection

        row = self.best()
        return describe_selection(self.config, row) if row else ""

    def model(self, device: str = "cpu") -> "VAE":
        """The model with the weights that were kept, in eval mode.

        Args:
            device: of its weights.
        Returns:
            The model.
        Raises:
            RunError: if there are no weights or the file is damaged.
        """
        from lso.vae.checkpoint import load_model, read_model

        try:
            return load_model(self.checked(MODEL), device, trust=self.trust)
        except RunError:
            read_model(self.path / MODEL)  # raises first where the file cannot be read at all: a clearer error
            raise

    def codes(self) -> "Codes | None":
        """The posteriors of the validation data under the weights that were kept.

        Returns:
            The codes, or None where the run has none yet.
        """
        from lso.vae.checkpoint import load_codes

        path = self.checked(CODES)
        return load_codes(path) if path.is_file() else None

    def examples(self) -> "dict[str, np.ndarray]":
        """Images that a training decoded for its report, see `lso.tasks.exploration.image_examples`.

        Returns:
            Arrays of bytes by name; empty where the run has none.
        """
        from lso.vae.checkpoint import load_examples

        path = self.checked(EXAMPLES)
        return load_examples(path) if path.is_file() else {}


def searched_model(search: Run, trust: Trust = False) -> Run:
    """The training run whose model a search was made in.

    Args:
        search: the search.
        trust: which code named by the folder of the model may run.
    Raises:
        RunError: if it is not where it was.
    """
    where = str(search.info.get("model", ""))
    if not where or not find_run(where).is_dir():
        raise RunError(f"the model of {search.path} is missing: {where}", "Restore its run folder there.")
    return Run(where, trust=trust)


def output_folder(run: Run) -> Path:
    """Where files made from a run are written: its folder, or ``runs/zoo-NAME`` of an installed ``zoo:NAME``."""
    shipped = zoo_name(run.path)  # nothing is written into the installed package
    return run.path if shipped is None else runs_root() / shipped.replace(":", "-")


def choose_folder(label: str, out: str | Path | None = None) -> Path:
    """A path for a new run, not yet made: ``out``, which must be free, or the label with date and time.

    Args:
        label: e.g. ``"digits-ne-vae-se"``.
        out: the user's own choice.
    """
    if out is not None:  # only the first of several processes checks it: the folder may be made before others look
        path = Path(out)
        if is_main_process() and path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise _exists_error(path)
        return path
    stem = f"{label}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    path, count = runs_root() / stem, 1
    while path.exists():
        count += 1
        path = runs_root() / f"{stem}-{count}"
    return path


def _exists_error(path: Path) -> RunError:
    return RunError(f"{path} exists and runs are never overwritten", "Choose another --out, or continue it: --resume.")


def create(
    path: Path,
    kind: Kind,
    info: Mapping[str, Any],
    config: "TrainConfig | None" = None,
    files: Mapping[str, bytes] | None = None,
) -> Run:
    """Make a run folder with its first files; it appears complete or not at all."""
    if path.is_dir() and any(path.iterdir()):  # made meanwhile by another process
        raise _exists_error(path)
    from lso.vae.config.training import to_toml

    parts = dict(files or {}) | ({} if config is None else {CONFIG: utf8(to_toml(config))})
    hashes = {name: [digest(part)] for name, part in parts.items()}
    parts[INFO] = format_sealed({"format": run_schema.FORMAT, "kind": kind, **info, SEALS: hashes})
    with whole_folder(path) as half:
        for name, part in parts.items():
            replace_file(half / name, part)
    return Run(path)


def update_run(run: Run, **values: Any) -> None:
    """Change keys of run.json; a new status drops the ``error`` of the session before, unless one is given."""
    earlier = {key: value for key, value in run.info.items() if key != "error" or "status" not in values}
    info = earlier | values
    known = _current_seals(run) | seals.journal_seal(info, run.path)
    try:
        _write_info(run, info, known)
    except WriteError:  # on a full disk overwriting in place may still work, so that the run's end is recorded
        overwrite(run.path / INFO, format_sealed({**info, SEALS: known}))


def write_files(run: Run, files: Mapping[str, bytes]) -> None:
    """Replace files of a run, each by an atomic rename, and their seals in run.json."""
    info, known = run.info, _current_seals(run)
    after = {name: [digest(raw)] for name, raw in files.items()}
    # While files are being replaced both hashes are valid, see `lso.vae.utils.integrity`.
    both = {name: [*dict.fromkeys([*known.get(name, [seals.ABSENT]), *after[name]])] for name in files}
    rows = seals.seal_metrics(run.path)
    _write_info(run, info, known | both | rows)
    for name, raw in files.items():
        replace_file(run.path / name, raw)
    _write_info(run, info, known | after | rows)


def allow_shorter_metrics(run: Run) -> None:
    """Take the seal of metrics.jsonl out of run.json, before rows of it are removed."""
    _write_info(run, run.info, _current_seals(run) | {METRICS: []})


def _current_seals(run: Run) -> seals.Seals:
    """The seals of a run's files; for a folder written before there were seals, those of its files as they are now."""
    current = run.seals
    return seals.seal_files(run.path) if current is None else current


def _write_info(run: Run, info: Mapping[str, Any], known: seals.Seals) -> None:
    replace_file(run.path / INFO, format_sealed({**info, "format": run_schema.FORMAT, SEALS: known}))


def describe_end(error: BaseException) -> dict[str, str]:
    """Status, sentence and, of a failure, the class of the error for run.json of a session that an exception ended."""
    if isinstance(error, KeyboardInterrupt):
        return {"status": "stopped", "sentence": "Stopped early (interrupted); resume to go on."}
    sentence = error.message if isinstance(error, LsoError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "sentence": sentence, "error": type(error).__name__}


def record_end(run: Run, error: BaseException) -> None:
    """Record in run.json the exception that ended a session."""
    with suppress(LsoError):  # the exception itself is raised again by the caller, and matters more than this record
        update_run(run, **describe_end(error), finished=now())


def remove_half_written(run: Run) -> None:
    """Remove half-written files of killed processes; only the process that holds the run's lock may call it."""
    remove_leftovers_below(run.path)
    for name in (INFO, MODEL, LAST, CODES):  # temporary files of version 0.1 had other names
        for leftover in run.path.glob(f".{name}.[0-9]*"):
            leftover.unlink(missing_ok=True)


def list_runs(root: Path | None = None) -> list[Run]:
    """All runs below a folder, the oldest first; damaged ones come before all others."""
    base = root or runs_root()
    runs = [Run(path.parent) for path in base.glob(f"*/{INFO}") if not path.parent.name.startswith(".")]
    return sorted(runs, key=lambda run: (str(_info_or_empty(run).get("started", "")), run.path.name))


def _info_or_empty(run: Run) -> dict[str, Any]:
    """The content of run.json, empty where it is damaged: one broken folder must not hide the others."""
    try:
        return run.info
    except RunError:
        return {}


def newest_run(kind: Kind = "train", root: Path | None = None) -> Run:
    """The search that was started last, or the last training that has a model."""
    base = root or runs_root()
    of_kind = [run for run in list_runs(base) if _info_or_empty(run).get("kind") == kind]
    usable = [run for run in of_kind if kind == "search" or (run.path / MODEL).is_file()]
    if not usable:
        command = (
            "lso train --method ne-vae-se" if kind == "train" else "lso optimize --target images/ --optimizer adam"
        )
        noun = "trained model" if kind == "train" else "search"
        raise RunError(f"no {noun} found under {base}/", f"Make one first: {command}")
    return usable[-1]
