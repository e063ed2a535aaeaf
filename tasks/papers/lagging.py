"""The experiment of He et al. (2019), section 3: plain against aggressive training on sequences, with scalar z.

The encoder of the plain VAE lags behind the true posterior, and the model collapses. Weights are saved at given steps
of the trainings, and measurements of them as well, so that a repeated call continues. Imports torch only to train.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lso.tasks.training.plan import merge, plan
from lso.tasks.training.run_set import PlannedRun, check_folders
from lso.vae.callbacks import Callback, Event, PartCallback, as_callback
from lso.vae.errors import RunError
from lso.vae.runs import INFO, LAST, Run
from lso.vae.utils.files import make_folder
from lso.vae.utils.validation import require

if TYPE_CHECKING:
    from lso.vae.data.dataset import Dataset

Method = Literal["vae", "aggressive"]
# As in the authors' script for these data: windows of 15 inner steps, and the first fall of the MI, however small, ends
# the aggressive phase.
METHODS: Mapping[Method, str] = {
    "vae": "vae",
    "aggressive": "aggressive:window=15,patience=1,against=previous,tolerance=0",
}
# For the picture of one datum: all steps, inner ones too, take the same 50 sequences, and the phase does not end.
METHODS_OF_ONE: Mapping[Method, str] = {"vae": "vae", "aggressive": "aggressive:window=15,patience=1000,tolerance=0"}
OFFSET = {"architecture": {"name": "he2019-toy-offset"}}
SEQUENCES_OF_ONE = 50  # the batch of those trainings
END = "end"  # the stage that stands for the best weights of a finished training


@dataclass(frozen=True, slots=True, kw_only=True)
class LaggingConfig:
    """The size of the experiment; the defaults are the paper's.

    Raises:
        UsageError: if a value is out of range.
    """

    seeds: int = 1  # trainings of each method, with seeds 0, 1, ...
    limit: int = 0  # training sequences at most, the other splits in proportion; 0 is all
    epochs: int = 50  # at most
    stages: tuple[int, ...] = (0, 200, 1000, 2000)  # decoder steps at which posterior means are measured
    points: int = 500  # validation sequences whose posterior means are measured
    stride: float = 0.01  # of the grid on [-20, 20] that integrates the true posterior
    moves: int = 24  # steps in the picture of one datum
    offset: bool = True  # whether to train with offset initialization too, with seed 0 only

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds >= 1", self.seeds, "Give --seeds 3, say.")
        require(self.points >= 2, "points >= 2", self.points, "500 are those of the paper.")
        require(self.stride > 0, "stride > 0", self.stride, "0.01 is the paper's.")
        require(self.moves >= 1, "moves >= 1", self.moves, "24 is the default.")
        require(len(self.stages) > 0, "at least one stage", self.stages, "For example 0,200,1000,2000.")
        rising = all(a < b for a, b in zip((-1, *self.stages), self.stages, strict=False))
        require(rising, "rising stages >= 0", self.stages, "For example 0,200,1000,2000.")


QUICK = LaggingConfig(limit=1000, epochs=20, stages=(0, 60, 125, 250), points=125, stride=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One training of the experiment."""

    planned: PlannedRun
    method: Method
    series: Literal["plain", "offset", "one"]  # the picture that it is for; "one": that of one datum
    stages: tuple[int, ...]  # steps at which its weights are saved
    whole: bool = True  # whether it is trained to its end; else to the last stage


def parts(config: LaggingConfig, settings: Mapping[str, Any] | None = None) -> list[Part]:
    """The trainings in their order: both methods for each seed, after seed 0 also those of the other pictures.

    Args:
        config: the size of the experiment.
        settings: changes of the task's settings, nested as in config.toml.
    Returns:
        The trainings.
    Raises:
        UsageError: for a wrong value.
    """
    rule = {"monitor": "elbo", "monitor_from": 1}  # the paper keeps the epoch with the best validation -ELBO
    shared = {"data": {"task": "synthetic", "limit": config.limit}, "protocol": {"epochs": config.epochs, **rule}}
    own = merge(shared, settings or {})
    few = {
        "data": {"limit": SEQUENCES_OF_ONE},
        "protocol": {"batch_size": SEQUENCES_OF_ONE, "epochs": config.moves + 1, "patience": 0},
    }
    all_parts = []
    for seed in range(config.seeds):
        for method, label in METHODS.items():
            planned = _planned(f"{method}-s{seed}", label, seed, own)
            all_parts.append(Part(planned=planned, method=method, series="plain", stages=config.stages))
        if seed > 0:
            continue
        for method, label in METHODS_OF_ONE.items():
            steps = tuple(range(config.moves + 1))
            one = _planned(f"one-{method}-s{seed}", label, seed, merge(own, few))
            all_parts.append(Part(planned=one, method=method, series="one", stages=steps, whole=False))
        for method, label in METHODS.items() if config.offset else ():
            planned = _planned(f"offset-{method}-s{seed}", label, seed, merge(own, OFFSET))
            all_parts.append(Part(planned=planned, method=method, series="offset", stages=config.stages, whole=False))
    return all_parts


def _planned(name: str, label: str, seed: int, settings: Mapping[str, Any]) -> PlannedRun:
    return PlannedRun(name=name, label=label, config=plan(merge(settings, {"method": label, "seed": seed})))


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Session:
    """State of one call of the experiment: its folder, device and deadline, and the dataset read last."""

    root: Path  # the folder above the trainings
    device: str
    callback: Callback  # progress and stop requests
    deadline: float = math.inf  # on the clock of time.monotonic
    _key: Any = None
    _dataset: Any = field(default=None)

    def reason(self) -> str | None:
        """The reason to stop now; None to continue."""
        late = "reached the time limit" if time.monotonic() >= self.deadline else None
        return self.callback.should_stop() or late

    def data(self, part: Part) -> "Dataset":
        """The dataset of a training; it is kept, as the next training mostly has the same."""
        from lso.tasks.datasets.loading import load_dataset

        config = part.planned.config
        if self._dataset is None or self._key != config.data:
            self._key, self._dataset = config.data, load_dataset(config.data, "none", config.seed, trust=True)
        dataset: Dataset = self._dataset
        return dataset


def begin(
    parts: Sequence[Part],
    root: Path,
    device: str,
    callback: Callback | None = None,
    seconds: float | None = None,
) -> Session:
    """Check the folders of the trainings and the device before anything is trained."""
    from lso.tasks.training.experiment import resolve_device

    check_folders([part.planned for part in parts], root)
    resolve_device(device)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    return Session(root=root, device=device, callback=as_callback(callback), deadline=deadline)


def stage_file(part: Part, root: Path, step: int) -> Path:
    """The file of the weights that are saved at a step."""
    return root / part.planned.name / "stages" / f"{step}.safetensors"


def train_to_stages(part: Part, session: Session, place: tuple[int, int] = (1, 1)) -> str | None:
    """Train or continue a training, and save its weights at each stage.

    The training stops at each stage and is resumed. As a resumed training gives the same numbers as one that was never
    interrupted, the stops change nothing.

    Args:
        part: the training.
        session: folder, device and deadline.
        place: number of the training, and number of all trainings.
    Returns:
        Why it was cut off; None if it is complete.
    Raises:
        RunError: if the folder was begun with other stages.
        DivergedError: if a loss was not finite.
    """
    path = session.root / part.planned.name
    stops: list[int | None] = [s for s in part.stages if not stage_file(part, session.root, s).is_file()]
    stops += [None] if part.whole else []
    run = Run(path) if (path / INFO).is_file() else None
    if (run and run.info["status"] == "finished") or not stops:
        return None
    if reason := session.reason():
        return reason
    number, total = place
    session.callback.on_step(Event(work="sweep", done=number - 1, total=total))
    about: dict[str, Any] = {"work": "training in stages", "name": part.planned.name}
    callback = PartCallback(session.callback, **about)
    try:
        for stop in stops:
            if reason := _train_to(part, session, stop, callback):
                return reason
            if Run(path).info["status"] == "finished":
                return None
    finally:
        if (path / INFO).is_file():
            session.callback.on_log(Event(**about, text=f"  {part.planned.name}: {Run(path).info['sentence']}"))
    return None


def _train_to(part: Part, session: Session, stop: int | None, callback: Any) -> str | None:
    """Train up to a stage, or to the end if ``stop`` is None, and save the weights; returns why it was cut off."""
    from lso.tasks.training import experiment
    from lso.vae.training.callbacks import Limits

    path, left = session.root / part.planned.name, session.deadline - time.monotonic()
    limits = Limits(steps=stop, seconds=None if math.isinf(left) else max(0.0, left))
    options: Any = {"device": experiment.resolve_device(session.device), "callback": callback, "limits": limits}
    from lso.vae.training import loop as training

    if (path / INFO).is_file():
        run = training.resume_training(Run(path), session.data(part), **options)
    else:
        run = training.train_model(part.planned.config, session.data(part), path, **options)
    if run.info["status"] == "finished":
        experiment.resume(run)  # writes the report of the finished training
        return None
    step = _save_stage(part, session, run, stop)
    if stop is None or step < stop:
        return session.reason() or str(run.info["sentence"])
    return None


def _save_stage(part: Part, session: Session, run: Run, stop: int | None) -> int:
    """Save the weights if the training has reached the stage ``stop``; returns the step that it has reached."""
    from lso.vae.checkpoint import load_last, save_model

    values = load_last(run.path / LAST, "cpu")
    step = int(values["position"]["step"])
    if stop is not None and step > stop:
        raise RunError(
            f"{run.path} is at step {step} already, and its weights at step {stop} were not saved",
            "Give the --stages that it was begun with, or another --out.",
        )
    if step == stop:
        file = stage_file(part, session.root, step)
        make_folder(file.parent)
        save_model(run.model(), values["model"], file)
    return step
