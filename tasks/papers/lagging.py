"""The lagging experiment of He et al. (2019), section 3: plain against aggressive training on sequences with scalar z.

While they train, models are kept at given steps; what is measured of them afterwards is kept too, so that a repeated
call goes on. Torch-free until it trains.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lso.tasks.training.plan import merge, plan
from lso.tasks.training.run_set import Planned, check
from lso.vae.errors import RunError
from lso.vae.runs import INFO, LAST, Run
from lso.vae.utils.files import make_folder
from lso.vae.utils.validation import require

if TYPE_CHECKING:
    from lso.tasks.training.multi_run import MultiRunCallback
    from lso.vae.data.dataset import Dataset

Method = Literal["vae", "aggressive"]
# As the authors' script for these data: windows of 15 inner steps, and one fall of the MI, however small, ends it.
METHODS: Mapping[Method, str] = {
    "vae": "vae",
    "aggressive": "aggressive:window=15,patience=1,against=previous,tolerance=0",
}
# The picture of one datum: 50 sequences are the batch of every step, inner ones too, and the phase does not end.
ALONE: Mapping[Method, str] = {"vae": "vae", "aggressive": "aggressive:window=15,patience=1000,tolerance=0"}
OFFSET = {"architecture": {"name": "he2019-toy-offset"}}
FEW = 50  # sequences of that picture
END = "end"  # stage of the best weights of a finished training


@dataclass(frozen=True, slots=True, kw_only=True)
class LaggingConfig:
    """What to train and to look at.

    Args:
        seeds: trainings of each method: seeds 0, 1, ...
        limit: training sequences at most, the other splits in proportion; 0 is all.
        epochs: at most.
        stages: steps of the decoder at which a training is looked at, besides its end.
        points: validation sequences that are looked at.
        stride: of the grid on [-20, 20] that gives the true posterior means.
        moves: steps of the picture of one datum.
        offset: whether to train with offset initialization too, seed 0 alone.
    Raises:
        UsageError: if a value is out of range.
    """

    seeds: int = 1
    limit: int = 0
    epochs: int = 50
    stages: tuple[int, ...] = (0, 200, 1000, 2000)
    points: int = 500
    stride: float = 0.01
    moves: int = 24
    offset: bool = True

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
    """One training of the experiment.

    Args:
        planned: folder and configuration.
        method: row of `METHODS`.
        series: which picture it belongs to.
        stages: steps at which its weights are kept.
        whole: whether it is trained to its end, or to the last of them.
    """

    planned: Planned
    method: Method
    series: Literal["plain", "offset", "one"]
    stages: tuple[int, ...]
    whole: bool = True


def parts(config: LaggingConfig, settings: Mapping[str, Any] | None = None) -> list[Part]:
    """The trainings, in the order in which they run: the first seed with its pictures, then the others.

    Args:
        config: what to train.
        settings: laid over the task's own, nested as in the TOML file.
    Returns:
        Both methods for each seed, and for seed 0 those of the other pictures.
    Raises:
        UsageError: for a wrong value.
    """
    rule = {"monitor": "elbo", "monitor_from": 1}  # the paper's
    shared = {"data": {"task": "synthetic", "limit": config.limit}, "protocol": {"epochs": config.epochs, **rule}}
    own = merge(shared, settings or {})
    few = {"data": {"limit": FEW}, "protocol": {"batch_size": FEW, "epochs": config.moves + 1, "patience": 0}}
    found = []
    for seed in range(config.seeds):
        for method, label in METHODS.items():
            planned = _planned(f"{method}-s{seed}", label, seed, own)
            found.append(Part(planned=planned, method=method, series="plain", stages=config.stages))
        if seed > 0:
            continue
        for method, label in ALONE.items():
            steps = tuple(range(config.moves + 1))
            one = _planned(f"one-{method}-s{seed}", label, seed, merge(own, few))
            found.append(Part(planned=one, method=method, series="one", stages=steps, whole=False))
        for method, label in METHODS.items() if config.offset else ():
            planned = _planned(f"offset-{method}-s{seed}", label, seed, merge(own, OFFSET))
            found.append(Part(planned=planned, method=method, series="offset", stages=config.stages, whole=False))
    return found


def _planned(name: str, label: str, seed: int, settings: Mapping[str, Any]) -> Planned:
    return Planned(name=name, label=label, config=plan(merge(settings, {"method": label, "seed": seed})))


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Session:
    """What one call holds: where, until when, and the data of the last training.

    Args:
        root: the folder above the trainings.
        device: where to train.
        callback: progress and stop requests.
        deadline: of the clock.
    """

    root: Path
    device: str
    callback: "MultiRunCallback"
    deadline: float = math.inf
    _key: Any = None
    _dataset: Any = field(default=None)

    def reason(self) -> str | None:
        """Why to stop now, if at all."""
        late = "reached the time limit" if time.monotonic() >= self.deadline else None
        return self.callback.stop() or late

    def data(self, part: Part) -> "Dataset":
        """The data of a training, kept for the next."""
        from lso.tasks.datasets.loading import load_dataset

        config = part.planned.config
        if self._dataset is None or self._key != config.data:
            self._key, self._dataset = config.data, load_dataset(config.data, "none", config.seed, trust=True)
        found: Dataset = self._dataset
        return found


def begin(
    parts: Sequence[Part],
    root: Path,
    device: str,
    callback: "MultiRunCallback | None" = None,
    seconds: float | None = None,
) -> Session:
    """Look at the folders before anything is trained."""
    from lso.tasks.training.experiment import resolve_device
    from lso.tasks.training.multi_run import MultiRunCallback

    check([part.planned for part in parts], root)
    resolve_device(device)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    return Session(root=root, device=device, callback=callback or MultiRunCallback(), deadline=deadline)


def stage_file(part: Part, root: Path, step: int) -> Path:
    """Where the weights of a stage are kept."""
    return root / part.planned.name / "stages" / f"{step}.safetensors"


def train(part: Part, session: Session, place: tuple[int, int] = (1, 1)) -> str | None:
    """Train, or go on, stopping at each stage to keep its weights.

    A session ends at a stage and the next one begins there: as a resumed training gives the very numbers of an unbroken
    one, the stops leave no trace.

    Args:
        part: the training.
        session: where and until when.
        place: number of the training, and how many there are.
    Returns:
        Why it was cut off; None if it is as far as it is to go.
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
    callback = session.callback.training(part.planned, *place)
    try:
        for stop in stops:
            if reason := _stretch(part, session, stop, callback):
                return reason
            if Run(path).info["status"] == "finished":
                return None
    finally:
        session.callback.left(part.planned)
    return None


def _stretch(part: Part, session: Session, stop: int | None, callback: Any) -> str | None:
    """Train up to a stage, or to the end, and keep what is there."""
    from lso.tasks.training import experiment
    from lso.vae.training.callbacks import Limits

    path, left = session.root / part.planned.name, session.deadline - time.monotonic()
    limits = Limits(steps=stop, seconds=None if math.isinf(left) else max(0.0, left))
    options: Any = {"device": experiment.resolve_device(session.device), "callback": callback, "limits": limits}
    from lso.vae.training import loop as training

    if (path / INFO).is_file():
        run = training.resume(Run(path), session.data(part), **options)
    else:
        run = training.train(part.planned.config, session.data(part), path, **options)
    if run.info["status"] == "finished":
        experiment.resume(run)  # its report
        return None
    step = _keep(part, session, run, stop)
    if stop is None or step < stop:
        return session.reason() or str(run.info["sentence"])
    return None


def _keep(part: Part, session: Session, run: Run, stop: int | None) -> int:
    """Write the weights of a stage, if training is there; the step it is at."""
    from lso.vae.checkpoint import load_last, save_model

    values = load_last(run.path / LAST, "cpu")
    step = int(values["position"]["step"])
    if stop is not None and step > stop:
        raise RunError(
            f"{run.path} is at step {step} and was not looked at in step {stop}",
            "Give the --stages that it was begun with, or another --out.",
        )
    if step == stop:
        file = stage_file(part, session.root, step)
        make_folder(file.parent)
        save_model(run.model(), values["model"], file)
    return step
