"""Several trainings below one folder: what is missing is trained, what is begun goes on, what is finished stays."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lso.tasks import experiment
from lso.tasks.datasets import load_dataset
from lso.tasks.members import EVALUATION, Asked, Member, Planned, check, evaluations, how, read
from lso.vae.data import Dataset
from lso.vae.errors import DataError, DivergedError
from lso.vae.files import replace_file
from lso.vae.runs import INFO, Run
from lso.vae.watch import Limits, Watch

Count = Callable[[int, int], None]


class GridWatch:
    """What a caller may see and say while several trainings run; every method may be left as it is."""

    def training(self, planned: Planned, number: int, of: int) -> Watch:
        """A training begins or goes on.

        Args:
            planned: which.
            number: from 1.
            of: how many there are.
        Returns:
            What watches it.
        """
        return Watch()

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
        """Asked between trainings and, by way of their own watch, in them.

        Returns:
            A reason to stop now, else None.
        """
        return None


class _Cut(Exception):
    """An evaluation was cut off."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Session:
    """What one call of `train_all` holds. The dataset of the last training is kept: its neighbours share it."""

    root: Path
    device: str
    watch: GridWatch
    deadline: float
    key: Any = None
    dataset: Dataset | None = None

    def reason(self) -> str | None:
        late = "reached the time limit" if time.monotonic() >= self.deadline else None
        return self.watch.stop() or late

    def data(self, planned: Planned) -> Dataset:
        config = planned.config
        key = (config.data, config.protocol.binarize, config.seed)
        if self.dataset is None or key != self.key:
            self.key, self.dataset = key, load_dataset(*key)
        return self.dataset


def train_all(
    planned: Sequence[Planned],
    root: Path,
    *,
    asked: Asked | None = None,
    device: str = "auto",
    watch: GridWatch | None = None,
    seconds: float | None = None,
) -> tuple[list[Member], str | None]:
    """Train and measure what is planned; calling it again goes on where it was cut.

    They run in order of their seeds, so that every method has one run before any has two, and that those which share
    their data come together. A training that diverges is recorded as failed and the others go on; at the next call it
    is tried again from its last checkpoint. One process at a time may work below a folder.

    Args:
        planned: the trainings.
        root: the folder above theirs.
        asked: how finished ones are measured, beside the weights in ``evaluation.json``; None measures nothing.
        device: where.
        watch: progress and stop requests.
        seconds: of this call; None is no limit.
    Returns:
        All members in the order planned, and why the call ended early, None if everything is done.
    Raises:
        UsageError: if two have one name, or a device or configuration is wrong.
        RunError: if a folder holds another training, or a checkpoint is damaged.
        DataError: if the data cannot be read or changed.
    """
    check(planned, root)
    experiment.resolve_device(device)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    session = _Session(root=root, device=device, watch=watch or GridWatch(), deadline=deadline)
    reason = None
    for number, one in enumerate(sorted(planned, key=lambda one: one.config.seed), start=1):
        reason = _member(session, one, asked, (number, len(planned)))
        if reason:
            break
    return read(planned, root, asked), reason


def _member(session: _Session, planned: Planned, asked: Asked | None, place: tuple[int, int]) -> str | None:
    """Train and measure one; a reason is returned where the session ends here."""
    path = session.root / planned.name
    run = Run(path) if (path / INFO).is_file() else None
    begun = False
    try:
        if run is None or run.info["status"] != "finished":
            if reason := session.reason():
                return reason
            begun = True
            run = _train(session, planned, run, session.watch.training(planned, *place))
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
            session.watch.left(planned)
    return None


def _train(session: _Session, planned: Planned, run: Run | None, watch: Watch) -> Run:
    dataset, left = session.data(planned), session.deadline - time.monotonic()
    options: Any = {"device": session.device, "watch": watch}
    options["limits"] = Limits(seconds=None if math.isinf(left) else max(0.0, left))
    if run is None:
        return experiment.train_planned(planned.config, dataset, out=session.root / planned.name, **options)
    return experiment.resume(run, dataset=dataset, **options)


def _evaluate(session: _Session, planned: Planned, run: Run, asked: Asked) -> None:
    """Measure a finished run with each evaluation seed, writing after each, so that little is lost by a cut."""
    done, dataset = evaluations(run, asked), session.data(planned)
    if dataset.hash() != run.info["dataset"]["hash"]:
        raise DataError(f"the data of {run.path} have changed since it was trained", "Bring the same files back.")
    model = experiment.load(run, session.device)
    for seed in range(len(done), asked.repeats):
        shown = session.watch.evaluating(planned, seed)

        def count(measured: int, of: int, shown: Count = shown) -> None:
            if measured < of and (reason := session.reason()):
                raise _Cut(reason)
            shown(measured, of)

        if reason := session.reason():
            raise _Cut(reason)
        metrics = experiment.evaluate(
            model, dataset, iw_samples=asked.iw_samples, limit=asked.limit or None, seed=seed, watch=count
        )
        done.append(json.loads(metrics.to_json()))
        content = {"how": how(asked), "metrics": done}
        replace_file(run.path / EVALUATION, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
