"""Runs several trainings below one folder: begins those that are missing, resumes unfinished ones, evaluates all."""

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
    EVALUATION_FILE,
    EvaluationSpec,
    Member,
    PlannedRun,
    check_folders,
    evaluation_options,
    is_finished,
    read_members,
    stored_evaluations,
)
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, DivergedError
from lso.vae.runs import INFO, Run
from lso.vae.training.batchable import MOST, batch_key, max_batched_runs, reason_not_batchable
from lso.vae.training.callbacks import Limits, TrainingCallback
from lso.vae.training.extension import lengthen
from lso.vae.utils.files import remove_leftovers_below
from lso.vae.utils.reading import replace_sealed

CountCallback = Callable[[int, int], None]


class MultiRunCallback:
    """Callback of several trainings: override the methods that are needed."""

    def training(self, planned: PlannedRun, number: int, of: int) -> TrainingCallback:
        """Training ``number`` (from 1) of ``of`` begins or is resumed; gives the callback of this training."""
        return TrainingCallback()

    def together(self, planned: Sequence[PlannedRun], number: int, of: int) -> Sequence[TrainingCallback]:
        """A batch of trainings begins or is resumed, the first being ``number`` of ``of``; gives their callbacks."""
        return [TrainingCallback() for _ in planned]

    def not_batched(self, planned: Sequence[PlannedRun], why: str) -> None:
        """Trainings that were to be batched run one by one, for a reason given in half a sentence."""

    def evaluating(self, planned: PlannedRun, seed: int) -> CountCallback:
        """The evaluation of a finished run begins; gives a callback for (data done, all data)."""
        return lambda done, total: None

    def left(self, planned: PlannedRun) -> None:
        """This session is done with a training, which is finished, failed or interrupted."""

    def stop(self) -> str | None:
        """A reason to stop now, or None; asked between trainings."""
        return None


class _EvaluationInterrupted(Exception):
    """An evaluation was interrupted; the text says why."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Session:
    """State of one call of `train_all`; it keeps the last datasets, as neighbouring trainings mostly share them."""

    root: Path
    device: str
    callback: MultiRunCallback
    deadline: float
    datasets: dict[Any, Dataset] = dataclasses.field(default_factory=dict)
    room: int = 1  # datasets kept at a time

    def reason(self) -> str | None:
        late = "reached the time limit" if time.monotonic() >= self.deadline else None
        return self.callback.stop() or late

    def data(self, planned: PlannedRun) -> Dataset:
        config = planned.config
        mode = config.protocol.binarize
        key = (config.data, mode, 0 if mode == "none" else config.seed)  # which fixes the noise of pixels alone
        if key not in self.datasets:
            while len(self.datasets) >= self.room:
                self.datasets.pop(next(iter(self.datasets)))
            self.datasets[key] = load_dataset(*key, trust=True)  # planned by the user
        return self.datasets[key]

    def faster(self, group: Sequence[PlannedRun]) -> bool:
        """Whether batching these trainings was measured to be faster, which was done on CPUs only."""
        on_cpu = experiment.resolve_device(self.device).type == "cpu"
        most = max_batched_runs(group[0].config, len(group)) if on_cpu else 0
        return most > 0 and math.prod(self.data(group[0]).shape) <= most

    def limits(self) -> Limits:
        left = self.deadline - time.monotonic()
        return Limits(seconds=None if math.isinf(left) else max(0.0, left))


def train_all(
    planned: Sequence[PlannedRun],
    root: Path,
    *,
    spec: EvaluationSpec | None = None,
    device: str = "auto",
    callback: MultiRunCallback | None = None,
    seconds: float | None = None,
    together: bool | None = False,
    longer: bool = False,
) -> tuple[list[Member], str | None]:
    """Train and evaluate all planned trainings; a call after an interruption continues where the last one stopped.

    Trainings run in the order of their turns, then of their seeds: every method of a turn has one run before any has
    two, and runs that share their data are neighbours. Those that can be batched may train as one batched model, which
    gives each the same numbers up to rounding (see `lso.vae.training.batched`). A training that diverges is recorded as
    failed, and tried again from its last checkpoint by the next call. One process at a time may work below a folder.

    Args:
        planned: the trainings.
        root: the folder above theirs.
        spec: how finished runs are evaluated, into their ``evaluation.json``; None evaluates nothing.
        device: see `lso.tasks.training.experiment.resolve_device`.
        callback: gets the progress, and may ask to stop.
        seconds: time limit of this call; None is no limit.
        together: whether trainings are batched where they can be; None batches where that was measured to be faster.
        longer: whether trainings that were begun with fewer epochs are extended to those planned.
    Returns:
        All members in the order planned, and why the call ended early, or None if everything is done.
    """
    check_folders(planned, root, longer=longer)
    remove_leftovers_below(root)
    experiment.resolve_device(device)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    session = _Session(root=root, device=device, callback=callback or MultiRunCallback(), deadline=deadline)
    reason, done = None, 0
    groups = _group_batchable(session, sorted(planned, key=lambda one: (one.turn, one.config.seed)), together)
    if together:
        _report_unbatched(session, groups)
    for group in groups:
        place = (done + 1, len(planned))
        session.room = len(group)
        reason = (
            _train_group(session, group, spec, place)
            if len(group) > 1
            else _train_member(session, group[0], spec, place)
        )
        if reason:
            break
        done += len(group)
    return read_members(planned, root, spec), reason


def _group_batchable(session: _Session, planned: Sequence[PlannedRun], together: bool | None) -> list[list[PlannedRun]]:
    """Groups of trainings to be batched, in the order of their first members; a finished one is a group by itself."""
    of_kind: dict[Any, list[PlannedRun]] = {}
    for number, plan in enumerate(planned):
        alike = None if together is False or _is_done(plan, session.root) else batch_key(plan.config)
        of_kind.setdefault(number if alike is None else alike, []).append(plan)
    made = []
    for one_kind in of_kind.values():
        parts = -(-len(one_kind) // MOST)
        size = -(-len(one_kind) // parts)
        size = size if together or session.faster(one_kind[:size]) else 1
        made += [one_kind[start : start + size] for start in range(0, len(one_kind), size)]
    return sorted(made, key=lambda group: planned.index(group[0]))


def _report_unbatched(session: _Session, groups: Sequence[Sequence[PlannedRun]]) -> None:
    """Tell the callback which trainings run one by one although batching was asked for, once for each reason."""
    of_reason: dict[str, list[PlannedRun]] = {}
    for group in groups:
        if len(group) == 1 and not _is_done(group[0], session.root):
            why = (
                reason_not_batchable(group[0].config)
                or "no other still to be trained differs in seed or KL weight alone"
            )
            of_reason.setdefault(why, []).append(group[0])
    for why, alone in of_reason.items():
        session.callback.not_batched(alone, why)


def _is_done(planned: PlannedRun, root: Path) -> bool:
    return (root / planned.name / INFO).is_file() and is_finished(planned, root)


def _train_group(
    session: _Session, group: list[PlannedRun], spec: EvaluationSpec | None, place: tuple[int, int]
) -> str | None:
    """Train a group as one batched model and evaluate each run; gives a reason if the session ends here."""
    if reason := session.reason():
        return reason
    for plan in group:
        if (session.root / plan.name / INFO).is_file():
            _extend(Run(session.root / plan.name), plan)
    callbacks = session.callback.together(group, *place)
    try:
        jobs = [
            experiment.TrainingJob(
                config=plan.config, dataset=session.data(plan), path=session.root / plan.name, callback=callback
            )
            for plan, callback in zip(group, callbacks, strict=True)
        ]
        runs = experiment.train_jobs(jobs, device=session.device, limits=session.limits())
    finally:
        done = [plan for plan in group if _is_done(plan, session.root)]
        for plan in group:
            if spec is None or plan not in done:
                session.callback.left(plan)  # for the others the call comes after their evaluation
    if cut := [run.info["sentence"] for run in runs if run.info["status"] == "stopped"]:
        return session.reason() or str(cut[0])
    return next(filter(None, (_train_member(session, plan, spec, place) for plan in done)), None)


def _train_member(
    session: _Session, planned: PlannedRun, spec: EvaluationSpec | None, place: tuple[int, int]
) -> str | None:
    """Train and evaluate one training; gives a reason if the session ends here."""
    path = session.root / planned.name
    run = Run(path) if (path / INFO).is_file() else None
    begun = False
    try:
        if run is not None and run.config.protocol.epochs < planned.config.protocol.epochs:
            if reason := session.reason():
                return reason
            run = _extend(run, planned)
        if run is None or run.info["status"] != "finished":
            if reason := session.reason():
                return reason
            begun = True
            run = _train(session, planned, run, session.callback.training(planned, *place))
        if run.info["status"] != "finished":
            return session.reason() or run.info["sentence"]
        if spec and len(stored_evaluations(run, spec)) < spec.repeats:
            begun = True
            _evaluate(session, planned, run, spec)
    except DivergedError:
        return None  # its run.json says so
    except _EvaluationInterrupted as cut:
        return f"{cut} while {planned.name} was evaluated"
    finally:
        if begun:
            session.callback.left(planned)
    return None


def _extend(run: Run, planned: PlannedRun) -> Run:
    """Extend a run to the epochs of its plan, and delete the evaluation that was made after fewer epochs."""
    if run.config.protocol.epochs < planned.config.protocol.epochs:
        (run.path / EVALUATION_FILE).unlink(missing_ok=True)
        return lengthen(run, planned.config.protocol.epochs)
    return run


def _train(session: _Session, planned: PlannedRun, run: Run | None, callback: TrainingCallback) -> Run:
    dataset = session.data(planned)
    options: Any = {"device": session.device, "callback": callback, "limits": session.limits()}
    if run is None:
        return experiment.train_planned(planned.config, dataset, out=session.root / planned.name, **options)
    return experiment.resume(run, dataset=dataset, **options)


def _evaluate(session: _Session, planned: PlannedRun, run: Run, spec: EvaluationSpec) -> None:
    """Evaluate a finished run with each evaluation seed, writing after each, so that an interruption loses little."""
    done, dataset = stored_evaluations(run, spec), session.data(planned)
    if dataset.hash() != run.info["dataset"]["hash"]:
        raise DataError(f"the data of {run.path} have changed since it was trained", "Bring the same files back.")
    model = experiment.load(run, session.device)
    for seed in range(len(done), spec.repeats):
        shown = session.callback.evaluating(planned, seed)

        def count(measured: int, of: int, shown: CountCallback = shown) -> None:
            if measured < of and (reason := session.reason()):
                raise _EvaluationInterrupted(reason)
            shown(measured, of)

        if reason := session.reason():
            raise _EvaluationInterrupted(reason)
        metrics = experiment.evaluate(
            model, dataset, iw_samples=spec.iw_samples, limit=spec.limit or None, seed=seed, callback=count
        )
        done.append(json.loads(metrics.to_json()))
        content = {"how": evaluation_options(spec), "metrics": done}
        replace_sealed(run.path / EVALUATION_FILE, content, indent=1)
