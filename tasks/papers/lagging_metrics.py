"""Where a model of the lagging experiment stands: means of true and approximate posteriors, and its metrics."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.tasks.datasets.arrays import load_arrays
from lso.tasks.datasets.loading import seen
from lso.tasks.papers.lagging import END, LaggingConfig, Part, Session, stage_file, train
from lso.vae.checkpoint import load_model
from lso.vae.data.dataset import Data, take
from lso.vae.errors import DataError, RunError
from lso.vae.metrics.evaluation import validate
from lso.vae.metrics.inference_gap import PosteriorGrid, posterior_mean
from lso.vae.metrics.passes import eval_mode
from lso.vae.models.vae import VAE
from lso.vae.runs import INFO, MODEL, Run
from lso.vae.utils.files import make_folder, replace_arrays
from lso.vae.utils.reading import read_json, replace_sealed

DRAWS = 10  # evaluations whose mean is told: near collapse one has an error of 0.7 / sqrt(n) nats in its MI
MEANS = ("mi", "kl", "neg_elbo")  # over those draws
SURE = {"mi": 0.5, "correlation": 0.9}  # least of aggressive training
COLLAPSED = {"mi": 0.05, "deviation": 0.1}  # most of plain training


class TimeLimitReached(Exception):
    """The caller's time was over while something was measured."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PosteriorMeans:
    """Where the posteriors of some data have their means, in one stage of a training.

    Args:
        true: ``(n,)`` of the model's own posterior, by grid.
        encoder: ``(n,)`` of the encoder's.
    """

    true: Float[Tensor, " n"]
    encoder: Float[Tensor, " n"]

    @property
    def deviation(self) -> float:
        """Standard deviation of the encoder's means."""
        return self.encoder.std().item()

    @property
    def true_deviation(self) -> float:
        """Standard deviation of the true means."""
        return self.true.std().item()

    @property
    def correlation(self) -> float:
        """Of the encoder's means with the true ones; 0 where either do not vary."""
        both = torch.stack([self.true, self.encoder])
        varied = bool((both.std(1) > 0).all())
        return torch.corrcoef(both)[0, 1].item() if varied else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinalMetrics:
    """A finished training, with the weights of its best validation loss.

    Args:
        part: the training.
        mi: nats, within batches of 32 of the test split; mean over draws, as the others.
        kl: nats.
        active_units: 0 or 1.
        neg_elbo: nats.
        place: of the validation points.
        aggressive_epochs: in which the encoder was trained ahead.
        inner_steps: a step of the decoder, mean over those epochs.
        epochs: trained.
        seconds: of training.
    """

    part: Part
    mi: float
    kl: float
    active_units: int
    neg_elbo: float
    place: PosteriorMeans
    aggressive_epochs: int
    inner_steps: float
    epochs: int
    seconds: float

    @property
    def as_claimed(self) -> bool:
        """Whether plain training collapsed, aggressive training did not."""
        if self.part.method == "vae":
            return self.mi < COLLAPSED["mi"] and self.place.deviation < COLLAPSED["deviation"]
        return self.mi > SURE["mi"] and self.place.correlation > SURE["correlation"]


def place(
    part: Part, stage: int | str, config: LaggingConfig, session: Session, one: int | None = None
) -> PosteriorMeans | None:
    """Where the points of a training are in one of its stages.

    Args:
        part: the training; the points are validation data, but the training data of the picture of one.
        stage: step of the decoder, or ``"end"``.
        config: points and stride.
        session: where.
        one: look at this datum alone.
    Returns:
        The means, kept for the next call; None where training is not that far, or ended before.
    Raises:
        Cut: if the time is over.
    """
    weights = _weights(part, stage, session.root)
    if not weights.is_file() or (stage == END and _status(part, session.root) != "finished"):
        return None
    kept = _kept_file(part, stage, config, session.root, one)
    if (before := _measured(kept)) is not None:
        return before
    chosen = slice(config.points) if one is None else slice(one, one + 1)
    data = seen(session.data(part), "train" if part.series == "one" else "validation")[chosen]
    count = _counting(part, session)
    found = locate(load_model(weights, _device(session)), data, PosteriorGrid(stride=config.stride), count)
    session.callback.left(part.planned)
    make_folder(kept.parent)
    replace_arrays(kept, {"true": found.true.numpy(), "encoder": found.encoder.numpy()})
    return found


def _measured(kept: Path) -> PosteriorMeans | None:
    """What was measured before; None where nothing was, or the file is damaged: then it is measured again."""
    if not kept.is_file():
        return None
    try:
        arrays = load_arrays(kept)
        found = PosteriorMeans(**{name: torch.from_numpy(arrays[name]) for name in ("true", "encoder")})
    except (DataError, KeyError, TypeError):
        return None
    fits = found.true.shape == found.encoder.shape and found.true.dtype == found.encoder.dtype == torch.float64
    return found if fits and bool(torch.stack([found.true, found.encoder]).isfinite().all()) else None


def locate(
    model: VAE, data: Data, grid: PosteriorGrid, callback: Callable[[int, int], None] | None = None
) -> PosteriorMeans:
    """Where data are in the space of posterior means."""
    device = next(model.parameters()).device
    true = posterior_mean(model, data, grid, callback=callback)
    with torch.no_grad(), eval_mode(model):
        mean = model.encode(take(data, slice(None)).to(device)).mean
    return PosteriorMeans(true=true.cpu(), encoder=mean[:, 0].double().cpu())


def ending(part: Part, config: LaggingConfig, session: Session) -> FinalMetrics | None:
    """What has become of a training."""
    at = place(part, END, config, session)
    if at is None:
        return None
    run = Run(session.root / part.planned.name)
    rows = run.metrics()[1:]
    ahead = [row["inner_steps"] for row in rows if row["inner_steps"] > 0]
    return FinalMetrics(
        part=part,
        **_metrics(part, run, session),
        place=at,
        aggressive_epochs=len(ahead),
        inner_steps=statistics.fmean(ahead) if ahead else 0.0,
        epochs=len(rows),
        seconds=float(run.info["seconds"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """What there is of an experiment.

    Args:
        endings: of finished trainings, seed by seed.
        spaces: (series, seed) -> method -> stages: step and place.
        paths: method -> true and encoder's means of one datum, move after move.
        datum: number of that datum among the training data.
        infos: name of a training -> its run.json.
        cut: why something is missing; empty where nothing is.
    """

    endings: list[FinalMetrics] = field(default_factory=list)
    spaces: dict[tuple[str, int], dict[str, list[tuple[int, PosteriorMeans]]]] = field(default_factory=dict)
    paths: dict[str, PosteriorMeans] = field(default_factory=dict)
    datum: int = 0
    infos: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    cut: str = ""


def explore(parts: Sequence[Part], config: LaggingConfig, session: Session) -> Findings:
    """Train what is missing and measure it, training after training; calling it again goes on.

    Args:
        parts: of `lagging.parts`.
        config: points and stride.
        session: of `lagging.begin`.
    Returns:
        What there is when everything is done, or the time is over.
    """
    found, cut = Findings(), ""
    try:
        for number, part in enumerate(parts, 1):
            cut = train(part, session, (number, len(parts))) or ""
            if (session.root / part.planned.name / INFO).is_file():
                found.infos[part.planned.name] = Run(session.root / part.planned.name).info
                _look(part, config, session, found)
            if cut:
                break
        found = replace(found, datum=_walk([part for part in parts if part.series == "one"], config, session, found))
    except TimeLimitReached as error:
        cut = str(error)
    return replace(found, cut=cut)


def _look(part: Part, config: LaggingConfig, session: Session, found: Findings) -> None:
    """Measure one training, as far as it is."""
    if part.series == "one":
        return
    stages = [(step, place(part, step, config, session)) for step in part.stages]
    rows = found.spaces.setdefault((part.series, part.planned.config.seed), {})
    rows[part.method] = [(step, at) for step, at in stages if at is not None]
    if part.whole and (end := ending(part, config, session)) is not None:
        found.endings.append(end)


def _walk(ones: Sequence[Part], config: LaggingConfig, session: Session, found: Findings) -> int:
    """The way of the datum whose true means end farthest from 0, the methods' distances added up."""
    ends = [place(part, part.stages[-1], config, session) for part in ones]
    last = [at.true.abs() for at in ends if at is not None]
    if not ones or len(last) < len(ones):
        return 0
    datum = int(torch.stack(last).sum(0).argmax())
    for part in ones:
        moves = [at for step in part.stages if (at := place(part, step, config, session, datum)) is not None]
        true, encoder = (torch.cat([getattr(at, key) for at in moves]) for key in ("true", "encoder"))
        found.paths[part.method] = PosteriorMeans(true=true, encoder=encoder)
    return datum


def staircase(path: PosteriorMeans) -> PosteriorMeans:
    """The way of aggressive training with the corners: the encoder moves first, up or down, then the decoder, aside.

    As inner steps leave the decoder as it is, and outer ones the encoder, the corners are known from the ends.
    """
    true = path.true[:-1].repeat_interleave(2)
    encoder = path.encoder[1:].repeat_interleave(2)
    return PosteriorMeans(true=torch.cat([true, path.true[-1:]]), encoder=torch.cat([path.encoder[:1], encoder]))


def _metrics(part: Part, run: Run, session: Session) -> dict[str, Any]:
    """Means over draws on the test split, kept beside the weights."""
    kept = run.path / "stages" / "test.json"
    try:
        before = read_json(kept)
        if set(before) == {*MEANS, "active_units"} and all(type(one) in (int, float) for one in before.values()):
            return before
    except RunError:  # not there, or damaged: measured again
        pass
    model, data = load_model(run.path / MODEL, _device(session)), seen(session.data(part), "test")
    draws = [validate(model, data.to(_device(session)), seed)[0] for seed in range(DRAWS)]
    values = {key: statistics.fmean(float(one[key]) for one in draws) for key in MEANS}
    values["active_units"] = round(float(draws[0]["active_units"]))
    replace_sealed(kept, values)
    return values


def _weights(part: Part, stage: int | str, root: Path) -> Path:
    return root / part.planned.name / MODEL if isinstance(stage, str) else stage_file(part, root, stage)


def _kept_file(part: Part, stage: int | str, config: LaggingConfig, root: Path, one: int | None) -> Path:
    which = f"n{config.points}" if one is None else f"datum{one}"
    return root / part.planned.name / "stages" / f"{stage}-{which}-stride{config.stride:g}.npz"


def _status(part: Part, root: Path) -> str:
    return str(Run(root / part.planned.name).info["status"])


def _device(session: Session) -> str:
    from lso.tasks.training.experiment import resolve_device

    return str(resolve_device(session.device))


def _counting(part: Part, session: Session) -> Callable[[int, int], None]:
    shown = session.callback.evaluating(part.planned, 0)

    def count(done: int, total: int) -> None:
        if done < total and (reason := session.reason()):
            raise TimeLimitReached(reason)
        shown(done, total)

    return count
