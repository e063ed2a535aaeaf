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
from lso.vae.callbacks import Callback, Event, PartCallback, as_callback, count_steps
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError, DivergedError
from lso.vae.progress import draw_progress
from lso.vae.runs import INFO, Run
from lso.vae.training.batchable import MOST, batch_key, max_batched_runs, reason_not_batchable
from lso.vae.training.callbacks import Limits
from lso.vae.training.extension import lengthen
from lso.vae.utils.files import remove_leftovers_below
from lso.vae.utils.reading import replace_sealed
from lso.vae.utils.validation import pluralize

SWEEP, TRAINING, BATCHED, EVALUATION = "sweep", "training in a sweep", "batched training", "evaluation"  # in events


class _EvaluationInterrupted(Exception):
    """An evaluation was interrupted; the text says why."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Session:
    """State of one call of `train_all`; it keeps the last datasets, as neighbouring trainings mostly share them."""

    root: Path
    device: str
    callback: Callback
    deadline: float
    datasets: dict[Any, Dataset] = dataclasses.field(default_factory=dict)
    room: int = 1  # datasets kept at a time

    def reason(self) -> str | None:
        late = "reached the time limit" if time.monotonic() >= self.deadline else None
        return self.callback.should_stop() or late

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
    callback: Callback | None = None,
    progress: bool = False,
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
        callback: gets the progress of all trainings and evaluations, and may ask to stop.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
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
    with draw_progress(as_callback(callback), progress) as seen:
        session = _Session(root=root, device=device, callback=seen, deadline=deadline)
        in_order = sorted(planned, key=lambda one: (one.turn, one.config.seed))
        reason = _train_groups(session, _group_batchable(session, in_order, together), spec, bool(together))
    return read_members(planned, root, spec), reason


def _train_groups(
    session: _Session, groups: Sequence[Sequence[PlannedRun]], spec: EvaluationSpec | None, together: bool
) -> str | None:
    """Train and evaluate all groups; gives a reason if the session ends earlier."""
    reason, event = None, Event(work=SWEEP, total=sum(map(len, groups)))
    session.callback.on_start(event)
    try:
        if together:
            _report_unbatched(session, groups)
        for group in groups:
            session.room = len(group)
            train = _train_group if len(group) > 1 else _train_member
            if reason := train(session, group, spec, event):
                break
            event = dataclasses.replace(event, done=event.done + len(group))
            session.callback.on_step(event)
    finally:
        session.callback.on_end(event)
    return reason


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
        labels = ", ".join(dict.fromkeys(one.label for one in alone))
        text = f"not batched, trained one after the other: {labels} ({pluralize(len(alone), 'training')}): {why}"
        session.callback.on_log(Event(work=SWEEP, text=text, source=tuple(alone)))


def _is_done(planned: PlannedRun, root: Path) -> bool:
    return (root / planned.name / INFO).is_file() and is_finished(planned, root)


def _train_group(
    session: _Session, group: Sequence[PlannedRun], spec: EvaluationSpec | None, event: Event
) -> str | None:
    """Train a group as one batched model and evaluate each run; gives a reason if the session ends here."""
    if reason := session.reason():
        return reason
    for plan in group:
        if (session.root / plan.name / INFO).is_file():
            _extend(Run(session.root / plan.name), plan)
    text = f"training {len(group)} together, as one batched model:"
    last = event.done + len(group)
    text = f"[{event.done + 1}-{last}/{event.total}] {text}"
    session.callback.on_log(dataclasses.replace(event, text=text, source=tuple(group)))
    jobs = [
        experiment.TrainingJob(
            config=one.config,
            dataset=session.data(one),
            path=session.root / one.name,
            callback=PartCallback(session.callback, work=BATCHED, name=one.name),
        )
        for one in group
    ]
    runs = experiment.train_jobs(jobs, device=session.device, limits=session.limits())
    done = [one for one in group if _is_done(one, session.root)]
    if cut := [run.info["sentence"] for run in runs if run.info["status"] == "stopped"]:
        return session.reason() or str(cut[0])
    return next(filter(None, (_train_member(session, [plan], spec, event) for plan in done)), None)


def _train_member(
    session: _Session, group: Sequence[PlannedRun], spec: EvaluationSpec | None, event: Event
) -> str | None:
    """Train and evaluate one training; gives a reason if the session ends here."""
    planned = group[0]
    path = session.root / planned.name
    run = Run(path) if (path / INFO).is_file() else None
    try:
        if run is not None and run.config.protocol.epochs < planned.config.protocol.epochs:
            if reason := session.reason():
                return reason
            run = _extend(run, planned)
        if run is None or run.info["status"] != "finished":
            if reason := session.reason():
                return reason
            run = _train(session, planned, run)
        if run.info["status"] != "finished":
            return session.reason() or run.info["sentence"]
        if spec and len(stored_evaluations(run, spec)) < spec.repeats:
            _evaluate(session, planned, run, spec)
    except DivergedError:
        return None  # its run.json says so
    except _EvaluationInterrupted as cut:
        return f"{cut} while {planned.name} was evaluated"
    return None


def _extend(run: Run, planned: PlannedRun) -> Run:
    """Extend a run to the epochs of its plan, and delete the evaluation that was made after fewer epochs."""
    if run.config.protocol.epochs < planned.config.protocol.epochs:
        (run.path / EVALUATION_FILE).unlink(missing_ok=True)
        return lengthen(run, planned.config.protocol.epochs)
    return run


def _train(session: _Session, planned: PlannedRun, run: Run | None) -> Run:
    dataset, callback = session.data(planned), PartCallback(session.callback, work=TRAINING, name=planned.name)
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
        if reason := session.reason():
            raise _EvaluationInterrupted(reason)
        name = planned.name + f", seed {seed}" * (seed > 0)
        with count_steps(session.callback, EVALUATION, name) as report:

            def count(measured: int, of: int, report: Callable[[int, int], None] = report) -> None:
                if measured < of and (reason := session.reason()):
                    raise _EvaluationInterrupted(reason)
                report(measured, of)

            metrics = experiment.evaluate(
                model, dataset, iw_samples=spec.iw_samples, limit=spec.limit or None, seed=seed, callback=count
            )
        done.append(json.loads(metrics.to_json()))
        content = {"how": evaluation_options(spec), "metrics": done}
        replace_sealed(run.path / EVALUATION_FILE, content, indent=1)
