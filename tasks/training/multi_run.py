"""Several trainings below one folder: what is missing is trained, what is begun goes on, what is finished stays."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lso.tasks.datasets.loading import load_dataset
from lso.tasks.training import experiment
from lso.tasks.training.run_set import (
    EVALUATION,
    EvaluationSpec,
    Member,
    Planned,
    check,
    evaluations,
    how,
    is_finished,
    read,
)
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, DivergedError
from lso.vae.runs import INFO, Run
from lso.vae.training.batchable import MOST, batch_key, max_batched_runs, reason_not_batchable
from lso.vae.training.callbacks import Limits, TrainingCallback
from lso.vae.training.extension import lengthen
from lso.vae.utils.files import clean_below
from lso.vae.utils.reading import replace_sealed

Count = Callable[[int, int], None]


class MultiRunCallback:
    """What a caller may see and say while several trainings run; every method may be left as it is."""

    def training(self, planned: Planned, number: int, of: int) -> TrainingCallback:
        """A training begins or goes on.

        Args:
            planned: which.
            number: from 1.
            of: how many there are.
        Returns:
            Its callback.
        """
        return TrainingCallback()

    def together(self, planned: Sequence[Planned], number: int, of: int) -> Sequence[TrainingCallback]:
        """Trainings begin or go on in lockstep.

        Args:
            planned: which.
            number: of the first, from 1.
            of: how many there are in all.
        Returns:
            The callback of each.
        """
        return [TrainingCallback() for _ in planned]

    def alone(self, planned: Sequence[Planned], why: str) -> None:
        """Trainings were to go in lockstep and cannot.

        Args:
            planned: which.
            why: half a sentence.
        """

    def evaluating(self, planned: Planned, seed: int) -> Count:
        """A finished run is measured.

        Args:
            planned: which.
            seed: of the evaluation.
        Returns:
            Called with (data done, data to do).
        """
        return lambda done, total: None

    def left(self, planned: Planned) -> None:
        """The session leaves a training: it is finished, failed or cut.

        Args:
            planned: which.
        """

    def stop(self) -> str | None:
        """Asked between trainings and, by way of their own callback, in them.

        Returns:
            A reason to stop now, else None.
        """
        return None


class _Cut(Exception):
    """An evaluation was cut off."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Session:
    """What one call of `train_all` holds. The datasets of the last trainings are kept: their neighbours share them."""

    root: Path
    device: str
    callback: MultiRunCallback
    deadline: float
    datasets: dict[Any, Dataset] = dataclasses.field(default_factory=dict)
    room: int = 1  # datasets kept at a time

    def reason(self) -> str | None:
        late = "reached the time limit" if time.monotonic() >= self.deadline else None
        return self.callback.stop() or late

    def data(self, planned: Planned) -> Dataset:
        config = planned.config
        mode = config.protocol.binarize
        key = (config.data, mode, 0 if mode == "none" else config.seed)  # which fixes the noise of pixels alone
        if key not in self.datasets:
            while len(self.datasets) >= self.room:
                self.datasets.pop(next(iter(self.datasets)))
            self.datasets[key] = load_dataset(*key, trust=True)  # planned by the user
        return self.datasets[key]

    def faster(self, group: Sequence[Planned]) -> bool:
        """Whether trainings of one kind are faster in lockstep, as far as was measured: on a CPU."""
        on_cpu = experiment.resolve_device(self.device).type == "cpu"
        most = max_batched_runs(group[0].config, len(group)) if on_cpu else 0
        return most > 0 and math.prod(self.data(group[0]).shape) <= most

    def limits(self) -> Limits:
        left = self.deadline - time.monotonic()
        return Limits(seconds=None if math.isinf(left) else max(0.0, left))


def train_all(
    planned: Sequence[Planned],
    root: Path,
    *,
    asked: EvaluationSpec | None = None,
    device: str = "auto",
    callback: MultiRunCallback | None = None,
    seconds: float | None = None,
    together: bool | None = False,
    longer: bool = False,
) -> tuple[list[Member], str | None]:
    """Train and measure what is planned; calling it again goes on where it was cut.

    They run in order of their turns, then of their seeds, so that every method of a turn has one run before any has
    two, and that those which share their data come together; or those that can in lockstep, as one batched model, which
    gives each the same numbers to rounding (see `lso.vae.training.batched`). A training that diverges is recorded as
    failed and the others go on; at the next call it is tried again from its last checkpoint. One process at a time may
    work below a folder.

    Args:
        planned: the trainings.
        root: the folder above theirs.
        asked: how finished ones are measured, beside the weights in ``evaluation.json``; None measures nothing.
        device: where.
        callback: progress and stop requests.
        seconds: of this call; None is no limit.
        together: whether they train in lockstep where they can; None where that was measured to be faster.
        longer: whether trainings that were begun for fewer epochs go on to those that are planned.
    Returns:
        All members in the order planned, and why the call ended early, None if everything is done.
    Raises:
        UsageError: if two have one name, or a device or configuration is wrong.
        RunError: if a folder holds another training, or a checkpoint is damaged.
        DataError: if the data cannot be read or changed.
    """
    check(planned, root, longer=longer)
    clean_below(root)
    experiment.resolve_device(device)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    session = _Session(root=root, device=device, callback=callback or MultiRunCallback(), deadline=deadline)
    reason, done = None, 0
    groups = _groups(session, sorted(planned, key=lambda one: (one.turn, one.config.seed)), together)
    if together:
        _tell_alone(session, groups)
    for group in groups:
        place = (done + 1, len(planned))
        session.room = len(group)
        reason = _group(session, group, asked, place) if len(group) > 1 else _member(session, group[0], asked, place)
        if reason:
            break
        done += len(group)
    return read(planned, root, asked), reason


def _groups(session: _Session, planned: Sequence[Planned], together: bool | None) -> list[list[Planned]]:
    """What is trained in lockstep, in the order of the first of each; what is finished goes alone."""
    of_kind: dict[Any, list[Planned]] = {}
    for number, one in enumerate(planned):
        alike = None if together is False or _is_done(one, session.root) else batch_key(one.config)
        of_kind.setdefault(number if alike is None else alike, []).append(one)
    made = []
    for one_kind in of_kind.values():
        parts = -(-len(one_kind) // MOST)
        size = -(-len(one_kind) // parts)
        size = size if together or session.faster(one_kind[:size]) else 1
        made += [one_kind[start : start + size] for start in range(0, len(one_kind), size)]
    return sorted(made, key=lambda group: planned.index(group[0]))


def _tell_alone(session: _Session, groups: Sequence[Sequence[Planned]]) -> None:
    """Say which trainings go alone although they were to go in lockstep, once for each reason."""
    of_reason: dict[str, list[Planned]] = {}
    for group in groups:
        if len(group) == 1 and not _is_done(group[0], session.root):
            why = (
                reason_not_batchable(group[0].config)
                or "no other still to be trained differs in seed or KL weight alone"
            )
            of_reason.setdefault(why, []).append(group[0])
    for why, alone in of_reason.items():
        session.callback.alone(alone, why)


def _is_done(planned: Planned, root: Path) -> bool:
    return (root / planned.name / INFO).is_file() and is_finished(planned, root)


def _group(session: _Session, group: list[Planned], asked: EvaluationSpec | None, place: tuple[int, int]) -> str | None:
    """Train several in lockstep and measure each; a reason is returned where the session ends here."""
    if reason := session.reason():
        return reason
    for one in group:
        if (session.root / one.name / INFO).is_file():
            _lengthened(Run(session.root / one.name), one)
    callbacks = session.callback.together(group, *place)
    try:
        jobs = [
            experiment.TrainingJob(
                config=one.config, dataset=session.data(one), path=session.root / one.name, callback=callback
            )
            for one, callback in zip(group, callbacks, strict=True)
        ]
        runs = experiment.train_together(jobs, device=session.device, limits=session.limits())
    finally:
        done = [one for one in group if _is_done(one, session.root)]
        for one in group:
            if asked is None or one not in done:
                session.callback.left(one)  # of the others it is told after they are measured
    if cut := [run.info["sentence"] for run in runs if run.info["status"] == "stopped"]:
        return session.reason() or str(cut[0])
    return next(filter(None, (_member(session, one, asked, place) for one in done)), None)


def _member(session: _Session, planned: Planned, asked: EvaluationSpec | None, place: tuple[int, int]) -> str | None:
    """Train and measure one; a reason is returned where the session ends here."""
    path = session.root / planned.name
    run = Run(path) if (path / INFO).is_file() else None
    begun = False
    try:
        if run is not None and run.config.protocol.epochs < planned.config.protocol.epochs:
            if reason := session.reason():
                return reason
            run = _lengthened(run, planned)
        if run is None or run.info["status"] != "finished":
            if reason := session.reason():
                return reason
            begun = True
            run = _train(session, planned, run, session.callback.training(planned, *place))
        if run.info["status"] != "finished":
            return session.reason() or run.info["sentence"]
        if asked and len(evaluations(run, asked)) < asked.repeats:
            begun = True
            _evaluate(session, planned, run, asked)
    except DivergedError:
        return None  # its run.json says so
    except _Cut as cut:
        return f"{cut} while {planned.name} was evaluated"
    finally:
        if begun:
            session.callback.left(planned)
    return None


def _lengthened(run: Run, planned: Planned) -> Run:
    """A run with at least the epochs of its plan; what was measured after fewer is forgotten, before it grows stale."""
    if run.config.protocol.epochs < planned.config.protocol.epochs:
        (run.path / EVALUATION).unlink(missing_ok=True)
        return lengthen(run, planned.config.protocol.epochs)
    return run


def _train(session: _Session, planned: Planned, run: Run | None, callback: TrainingCallback) -> Run:
    dataset = session.data(planned)
    options: Any = {"device": session.device, "callback": callback, "limits": session.limits()}
    if run is None:
        return experiment.train_planned(planned.config, dataset, out=session.root / planned.name, **options)
    return experiment.resume(run, dataset=dataset, **options)


def _evaluate(session: _Session, planned: Planned, run: Run, asked: EvaluationSpec) -> None:
    """Measure a finished run with each evaluation seed, writing after each, so that little is lost by a cut."""
    done, dataset = evaluations(run, asked), session.data(planned)
    if dataset.hash() != run.info["dataset"]["hash"]:
        raise DataError(f"the data of {run.path} have changed since it was trained", "Bring the same files back.")
    model = experiment.load(run, session.device)
    for seed in range(len(done), asked.repeats):
        shown = session.callback.evaluating(planned, seed)

        def count(measured: int, of: int, shown: Count = shown) -> None:
            if measured < of and (reason := session.reason()):
                raise _Cut(reason)
            shown(measured, of)

        if reason := session.reason():
            raise _Cut(reason)
        metrics = experiment.evaluate(
            model, dataset, iw_samples=asked.iw_samples, limit=asked.limit or None, seed=seed, callback=count
        )
        done.append(json.loads(metrics.to_json()))
        content = {"how": how(asked), "metrics": done}
        replace_sealed(run.path / EVALUATION, content, indent=1)
