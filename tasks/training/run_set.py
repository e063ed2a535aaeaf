"""Trainings planned side by side, below one folder, and what has become of each. Torch-free, as it reads JSON alone."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lso.tasks.training.plan import PARAMETERS, Settings, merge
from lso.vae.config.training import PARAMETERS_BEFORE, TrainConfig, load_config, to_dict
from lso.vae.errors import LsoError, RunError, UsageError
from lso.vae.runs import CONFIG, INFO, Run
from lso.vae.utils.reading import read_json
from lso.vae.utils.validation import require

# Metrics of a model with latents; without them there is nothing to measure.
OF_LATENTS = ("kl", "mi", "active_units", "reencoding_error")
PHASE_BEFORE = {"tolerance": 0.0, **PARAMETERS_BEFORE}  # what `aggressive` was by default
EVALUATION = "evaluation.json"  # in the folder of a finished run


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One training of several.

    Args:
        name: of its folder.
        label: of its method, as it was asked for.
        config: the training.
        turn: those of a later turn are trained after all of an earlier one.
    """

    name: str
    label: str
    config: TrainConfig
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """How finished runs are measured, on the test split.

    Args:
        iw_samples: of the importance-weighted NLL; 0 leaves it out.
        limit: use the first so many data; 0 is all.
        repeats: how often, with the evaluation seeds 0, 1, ...
    Raises:
        UsageError: if a number is out of range.
    """

    iw_samples: int = 500
    limit: int = 0
    repeats: int = 1

    def __post_init__(self) -> None:
        require(self.iw_samples >= 0, "iw_samples >= 0", self.iw_samples, "500 is usual; 0 leaves the estimate out.")
        require(self.limit >= 0, "a limit >= 0", self.limit, "0 takes all test data.")
        require(self.repeats >= 1, "repeats >= 1", self.repeats, "10 is He et al.'s number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A planned training as it lies on disk.

    Args:
        planned: what it is.
        run: its run, None before it began.
        evaluations: metrics of the finished run, one mapping for each evaluation seed.
    """

    planned: Planned
    run: Run | None = None
    evaluations: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def info(self) -> dict[str, Any]:
        """The run's run.json; empty before it began."""
        return self.run.info if self.run else {}

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``stopped``, ``running`` (or killed), or ``not begun``."""
        return str(self.info.get("status", "not begun"))


def folder_name(label: str, latent_dim: int, seed: int) -> str:
    """A folder's name for a training, the same at every call."""
    method = re.sub(r"[^A-Za-z0-9.+=-]+", "-", label).strip("-")
    return method + (f"-d{latent_dim}" if latent_dim else "") + f"-s{seed}"


def check(planned: Sequence[Planned], root: Path, *, longer: bool = False) -> None:
    """Refuse folders that hold another training than the one planned.

    A folder of trainings is of one protocol: under a name that told the configuration's hash instead, two protocols
    would lie side by side and a table would mix them.

    Args:
        planned: the trainings.
        root: the folder above theirs.
        longer: whether a folder may be of fewer epochs than planned, to go on to them.
    Raises:
        UsageError: if two have one name.
        RunError: if a folder's configuration differs; the message names the first difference.
    """
    names = [one.name for one in planned]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is planned twice", "Name each method, latent size and row once.")
    for one in planned:
        if not (root / one.name / INFO).is_file():
            continue
        there = Run(root / one.name).config
        if found := _differences(lengthened(there, one.config) if longer else there, one.config):
            others = f", and {len(found) - 1} more differ" if found[1:] else ""
            raise RunError(
                f"{root / one.name} is another training: {found[0]}{others}",
                "Give the settings it was begun with to go on, or another --out to begin anew.",
            )


def lengthened(there: TrainConfig, asked: TrainConfig) -> TrainConfig:
    """A folder's configuration once it goes on for as many epochs as are asked for.

    Args:
        there: of the folder.
        asked: the training as it is planned.
    Returns:
        That of the folder with the epochs of the plan, where these are more.
    """
    most = max(there.protocol.epochs, asked.protocol.epochs)
    return replace(there, protocol=replace(there.protocol, epochs=most))


def as_begun(root: Path, settings: Settings) -> Settings:
    """Settings under which a folder's trainings go on, where some were begun by version 0.1.

    What has not begun yet keeps its weights by the same rule, has networks of the same edition and ends its aggressive
    phase alike then, so that a table does not mix two.

    Args:
        root: the folder above the trainings.
        settings: nested as in the TOML file; what they say of these wins.
    Returns:
        The settings, with those of the folder below them.
    """
    for path in sorted(root.glob(f"*/{CONFIG}")):
        try:
            said = load_config(path).get("protocol", {})
            old = Run(path.parent).config
        except LsoError:  # damaged, or of something else
            continue
        before: Settings = {}
        if not {"monitor_from", "judge_from"} & said.keys():  # whichever word the folder has
            rule = {"monitor": old.protocol.monitor, "monitor_from": old.protocol.monitor_from}
            before = {"protocol": rule, "architecture": {"edition": old.architecture.edition}}
        if "mi_lengths" not in said:
            before = merge(before, {"protocol": {"mi_lengths": old.protocol.mi_lengths}, PARAMETERS: PHASE_BEFORE})
        if before:
            return merge(before, settings)
    return settings


def accept_changes(planned: Sequence[Planned], root: Path) -> None:
    """Take the files of trainings that are there as they are now, see `Run`.

    Args:
        planned: the trainings; what else lies below the folder is left alone.
        root: the folder above theirs.
    """
    for one in planned:
        if (root / one.name / INFO).is_file():
            Run(root / one.name, accept_changes=True)


def is_finished(planned: Planned, root: Path) -> bool:
    """Whether a folder holds a training, finished and as planned."""
    run = Run(root / planned.name)
    try:
        return run.info.get("status") == "finished" and not _differences(run.config, planned.config)
    except LsoError:  # damaged
        return False


def _differences(there: TrainConfig, asked: TrainConfig) -> list[str]:
    old, new = to_dict(there), to_dict(asked)
    found = [f"seed {old['seed']}, not {new['seed']}"] if old["seed"] != new["seed"] else []
    for section in [name for name in new if name != "seed"]:
        for key in {**old[section], **new[section]}:
            before, after = old[section].get(key), new[section].get(key)
            if before != after:
                found.append(f"{section}.{key} = {before!r}, not {after!r}")
    return found


def read(planned: Sequence[Planned], root: Path, asked: EvaluationSpec | None = None) -> list[Member]:
    """The trainings as they lie on disk.

    Args:
        planned: what they are.
        root: the folder above theirs.
        asked: how they should have been measured; None reads no evaluations.
    Returns:
        One member for each, in order.
    """
    found = []
    for one in planned:
        path = root / one.name
        run = Run(path) if (path / INFO).is_file() else None
        done = evaluations(run, asked) if run and asked else []
        found.append(Member(planned=one, run=run, evaluations=done))
    return found


def evaluations(run: Run, asked: EvaluationSpec) -> list[dict[str, Any]]:
    """What was measured of a run before, in the way asked for.

    Args:
        run: the run.
        asked: how it should have been measured.
    Returns:
        Metrics for the evaluation seeds 0, 1, ...; empty where it was measured otherwise, or a file is damaged.
    """
    try:
        content = read_json(run.path / EVALUATION)
        found = [dict(one) for one in content["metrics"]]
        # Of sequences, mutual information was once that of batches of mixed lengths, and is measured anew.
        same = content["how"] == how(asked) and all("mi_mixed" in one or one.get("tokens") is None for one in found)
        return found[: asked.repeats] if same else []
    except (RunError, ValueError, KeyError, TypeError):
        return []


def how(asked: EvaluationSpec) -> dict[str, Any]:
    """The part of the question that one evaluation answers."""
    return {key: value for key, value in asdict(asked).items() if key != "repeats"}


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation.

    Args:
        values: at least one.
    Returns:
        Both; the deviation (n - 1) is None for a single value.
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
