"""Several planned trainings below one folder, and the state of each on disk. Torch-free, as it only reads JSON."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lso.tasks.training.plan import METHOD_PARAMETERS, Settings, merge
from lso.vae.config.training import OLD_FOLDER_PARAMETERS, TrainConfig, load_config, to_dict
from lso.vae.errors import LsoError, RunError, UsageError
from lso.vae.runs import CONFIG, INFO, Run
from lso.vae.utils.reading import read_json
from lso.vae.utils.validation import require

# Metrics that a model without latents does not have.
LATENT_METRICS = ("kl", "mi", "active_units", "reencoding_error")
OLD_PHASE_DEFAULTS = {"tolerance": 0.0, **OLD_FOLDER_PARAMETERS}  # what `aggressive` was by default
EVALUATION_FILE = "evaluation.json"  # in the folder of a finished run


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One of several planned trainings."""

    name: str  # of its folder
    label: str  # its method as the user wrote it
    config: TrainConfig
    turn: int = 0  # trainings of a later turn run after all of an earlier one


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """How finished runs are evaluated on the test split."""

    iw_samples: int = 500  # samples of the importance-weighted NLL; 0 leaves it out
    limit: int = 0  # use only the first so many data; 0 uses all
    repeats: int = 1  # number of evaluations, with the seeds 0, 1, ...

    def __post_init__(self) -> None:
        require(self.iw_samples >= 0, "iw_samples >= 0", self.iw_samples, "500 is usual; 0 leaves the estimate out.")
        require(self.limit >= 0, "a limit >= 0", self.limit, "0 takes all test data.")
        require(self.repeats >= 1, "repeats >= 1", self.repeats, "10 is He et al.'s number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A planned training with its run on disk."""

    planned: PlannedRun
    run: Run | None = None  # None before the training began
    evaluations: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # test metrics, one entry a seed

    @property
    def info(self) -> dict[str, Any]:
        """The run's run.json; empty before it began."""
        return self.run.info if self.run else {}

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``stopped``, ``running`` (or killed), or ``not begun``."""
        return str(self.info.get("status", "not begun"))


def folder_name(label: str, latent_dim: int, seed: int) -> str:
    """The name of a training's folder, made of method, latent size and seed."""
    method = re.sub(r"[^A-Za-z0-9.+=-]+", "-", label).strip("-")
    return method + (f"-d{latent_dim}" if latent_dim else "") + f"-s{seed}"


def check_folders(planned: Sequence[PlannedRun], root: Path, *, longer: bool = False) -> None:
    """Refuse folders that hold another training than the one planned under their name.

    With ``longer`` a folder may have fewer epochs than planned, as it is going to be extended.
    """
    # Names do not hold a hash of the configuration: trainings of two protocols would then lie side by side below one
    # folder, and a table of it would mix them.
    names = [plan.name for plan in planned]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"the training {twice[0]} is planned twice", "Name each method, latent size and row once.")
    for plan in planned:
        if not (root / plan.name / INFO).is_file():
            continue
        there = Run(root / plan.name).config
        if differences := _differences(with_planned_epochs(there, plan.config) if longer else there, plan.config):
            others = f", and {len(differences) - 1} more differ" if differences[1:] else ""
            raise RunError(
                f"{root / plan.name} holds another training: {differences[0]}{others}",
                "Give the settings it was begun with to resume it, or another --out to begin anew.",
            )


def with_planned_epochs(there: TrainConfig, planned: TrainConfig) -> TrainConfig:
    """The configuration of an existing run, with the epochs of the plan where these are more."""
    most = max(there.protocol.epochs, planned.protocol.epochs)
    return replace(there, protocol=replace(there.protocol, epochs=most))


def settings_as_begun(root: Path, settings: Settings) -> Settings:
    """Add the defaults of version 0.1 to the settings of new trainings, where the folder holds trainings begun by it.

    New trainings then keep their weights by the same rule, have networks of the same edition and end the aggressive
    phase by the same rule as those begun before, so that a table does not mix two protocols. Given settings win.
    """
    for path in sorted(root.glob(f"*/{CONFIG}")):
        try:
            said = load_config(path).get("protocol", {})
            old = Run(path.parent).config
        except LsoError:  # damaged, or no training
            continue
        before: Settings = {}
        if not {"monitor_from", "judge_from"} & said.keys():  # whichever word the folder has
            rule = {"monitor": old.protocol.monitor, "monitor_from": old.protocol.monitor_from}
            before = {"protocol": rule, "architecture": {"edition": old.architecture.edition}}
        if "mi_lengths" not in said:
            before = merge(
                before, {"protocol": {"mi_lengths": old.protocol.mi_lengths}, METHOD_PARAMETERS: OLD_PHASE_DEFAULTS}
            )
        if before:
            return merge(before, settings)
    return settings


def accept_changes(planned: Sequence[PlannedRun], root: Path) -> None:
    """Accept the files of existing planned trainings as they are now, see `Run`; other folders are left alone."""
    for plan in planned:
        if (root / plan.name / INFO).is_file():
            Run(root / plan.name, accept_changes=True)


def is_finished(planned: PlannedRun, root: Path) -> bool:
    """Whether a folder holds a training, finished and as planned."""
    run = Run(root / planned.name)
    try:
        return run.info.get("status") == "finished" and not _differences(run.config, planned.config)
    except LsoError:  # damaged
        return False


def _differences(there: TrainConfig, planned: TrainConfig) -> list[str]:
    old, new = to_dict(there), to_dict(planned)
    differences = [f"seed {old['seed']}, not {new['seed']}"] if old["seed"] != new["seed"] else []
    for section in [name for name in new if name != "seed"]:
        for key in {**old[section], **new[section]}:
            before, after = old[section].get(key), new[section].get(key)
            if before != after:
                differences.append(f"{section}.{key} = {before!r}, not {after!r}")
    return differences


def read_members(planned: Sequence[PlannedRun], root: Path, spec: EvaluationSpec | None = None) -> list[Member]:
    """Read the planned trainings from disk, in order, with the evaluations made as ``spec`` says, or without any."""
    members = []
    for plan in planned:
        path = root / plan.name
        run = Run(path) if (path / INFO).is_file() else None
        done = stored_evaluations(run, spec) if run and spec else []
        members.append(Member(planned=plan, run=run, evaluations=done))
    return members


def stored_evaluations(run: Run, spec: EvaluationSpec) -> list[dict[str, Any]]:
    """The stored metrics of a run for the evaluation seeds 0, 1, ...; none if made otherwise or damaged."""
    try:
        content = read_json(run.path / EVALUATION_FILE)
        evaluations = [dict(evaluation) for evaluation in content["metrics"]]
        # Earlier versions estimated the mutual information of sequences in batches of mixed lengths; it is made anew.
        same = content["how"] == evaluation_options(spec) and all(
            "mi_mixed" in evaluation or evaluation.get("tokens") is None for evaluation in evaluations
        )
        return evaluations[: spec.repeats] if same else []
    except (RunError, ValueError, KeyError, TypeError):
        return []


def evaluation_options(spec: EvaluationSpec) -> dict[str, Any]:
    """The settings of an `EvaluationSpec` that one evaluation depends on."""
    return {key: value for key, value in asdict(spec).items() if key != "repeats"}


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1), which is None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
