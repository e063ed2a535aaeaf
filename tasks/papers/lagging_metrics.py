"""Measurements of the lagging experiment: means of the true and the encoder's posteriors, and metrics at the end."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.tasks.datasets.arrays import load_arrays
from lso.tasks.datasets.loading import model_inputs
from lso.tasks.papers.lagging import END, LaggingConfig, Part, Session, stage_file, train_to_stages
from lso.vae.callbacks import count_steps
from lso.vae.checkpoint import load_model
from lso.vae.data.dataset import Data, take_batch
from lso.vae.errors import DataError, RunError
from lso.vae.metrics.evaluation import validate
from lso.vae.metrics.inference_gap import PosteriorGrid, posterior_mean
from lso.vae.metrics.passes import eval_mode
from lso.vae.models.vae import VAE
from lso.vae.runs import INFO, MODEL, Run
from lso.vae.utils.files import make_folder, replace_arrays
from lso.vae.utils.reading import read_json, replace_sealed

DRAWS = 10  # evaluations that are averaged: near collapse one alone has an error of 0.7 / sqrt(n) nats in its MI
AVERAGED = ("mi", "kl", "neg_elbo")  # metrics that are averaged over those draws
# Bounds within which the paper's claim counts as confirmed.
MIN_WORKING = {"mi": 0.5, "correlation": 0.9}  # aggressive training: above both
MAX_COLLAPSED = {"mi": 0.05, "deviation": 0.1}  # plain training: below both


class TimeLimitReached(Exception):
    """The time limit was reached, or a signal came, during a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PosteriorMeans:
    """Posterior means of n data at one stage of a training, or of one datum at several stages."""

    true: Float[Tensor, " n"]  # of the true posterior p(z|x), integrated on a grid
    encoder: Float[Tensor, " n"]  # of the encoder's q(z|x)

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
        """Correlation of the encoder's means with the true ones; 0 where either of them do not vary."""
        both = torch.stack([self.true, self.encoder])
        varied = bool((both.std(1) > 0).all())
        return torch.corrcoef(both)[0, 1].item() if varied else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinalMetrics:
    """Metrics of a finished training, at its best weights; MI, KL and -ELBO are means over draws on the test split."""

    part: Part
    mi: float  # nats, within batches of 32
    kl: float  # nats
    active_units: int  # 0 or 1
    neg_elbo: float  # nats
    place: PosteriorMeans  # of the validation points
    aggressive_epochs: int  # in which the encoder was trained ahead of the decoder
    inner_steps: float  # for each step of the decoder, mean over those epochs
    epochs: int
    seconds: float  # of training

    @property
    def as_claimed(self) -> bool:
        """Whether the training did as the paper claims: plain training collapsed, or aggressive training did not."""
        if self.part.method == "vae":
            return self.mi < MAX_COLLAPSED["mi"] and self.place.deviation < MAX_COLLAPSED["deviation"]
        return self.mi > MIN_WORKING["mi"] and self.place.correlation > MIN_WORKING["correlation"]


def measure_means(
    part: Part, stage: int | str, config: LaggingConfig, session: Session, one: int | None = None
) -> PosteriorMeans | None:
    """Posterior means of a training at one of its stages; they are saved for the next call.

    Args:
        part: the training. The data are validation data, or training data for the picture of one datum.
        stage: step of the decoder, or ``"end"``.
        config: number of data and stride of the grid.
        session: folder and device.
        one: number of the datum to measure alone; None measures ``config.points`` data.
    Returns:
        The means; None if the training has not reached the stage, or ended before it.
    Raises:
        TimeLimitReached: if the session's time is over.
    """
    weights = _weights(part, stage, session.root)
    if not weights.is_file() or (stage == END and _status(part, session.root) != "finished"):
        return None
    kept = _kept_file(part, stage, config, session.root, one)
    if (before := _read_means(kept)) is not None:
        return before
    chosen = slice(config.points) if one is None else slice(one, one + 1)
    data = model_inputs(session.data(part), "train" if part.series == "one" else "validation")[chosen]
    with _progress(part, session) as count:
        means = measure_posterior_means(
            load_model(weights, _device(session)), data, PosteriorGrid(stride=config.stride), count
        )
    make_folder(kept.parent)
    replace_arrays(kept, {"true": means.true.numpy(), "encoder": means.encoder.numpy()})
    return means


def _read_means(kept: Path) -> PosteriorMeans | None:
    """Means that were measured before; None if there are none or the file is damaged: then they are measured again."""
    if not kept.is_file():
        return None
    try:
        arrays = load_arrays(kept)
        means = PosteriorMeans(**{name: torch.from_numpy(arrays[name]) for name in ("true", "encoder")})
    except (DataError, KeyError, TypeError):
        return None
    fits = means.true.shape == means.encoder.shape and means.true.dtype == means.encoder.dtype == torch.float64
    return means if fits and bool(torch.stack([means.true, means.encoder]).isfinite().all()) else None


def measure_posterior_means(
    model: VAE, data: Data, grid: PosteriorGrid, callback: Callable[[int, int], None] | None = None
) -> PosteriorMeans:
    """Measure the true and the encoder's posterior means of data."""
    device = next(model.parameters()).device
    true = posterior_mean(model, data, grid, callback=callback)
    with torch.no_grad(), eval_mode(model):
        mean = model.encode(take_batch(data, slice(None)).to(device)).mean
    return PosteriorMeans(true=true.cpu(), encoder=mean[:, 0].double().cpu())


def measure_end(part: Part, config: LaggingConfig, session: Session) -> FinalMetrics | None:
    """The metrics of a finished training; None if it is not finished."""
    at = measure_means(part, END, config, session)
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
    """All measurements of the experiment so far."""

    endings: list[FinalMetrics] = field(default_factory=list)  # of finished trainings, seed by seed
    # (series, seed) -> method -> (step, posterior means) of each stage
    spaces: dict[tuple[str, int], dict[str, list[tuple[int, PosteriorMeans]]]] = field(default_factory=dict)
    paths: dict[str, PosteriorMeans] = field(default_factory=dict)  # method -> means of one datum, step after step
    datum: int = 0  # number of that datum among the training data
    infos: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # name of a training -> its run.json
    cut: str = ""  # why something is missing; empty if nothing is


def explore(parts: Sequence[Part], config: LaggingConfig, session: Session) -> Findings:
    """Train what is missing and measure it, one training after the other; a repeated call continues.

    Args:
        parts: from `lagging.parts`.
        config: number of data and stride of the grid.
        session: from `lagging.begin`.
    Returns:
        All measurements, when everything is done or the session's time is over.
    """
    findings, cut = Findings(), ""
    try:
        for number, part in enumerate(parts, 1):
            cut = train_to_stages(part, session, (number, len(parts))) or ""
            if (session.root / part.planned.name / INFO).is_file():
                findings.infos[part.planned.name] = Run(session.root / part.planned.name).info
                _measure_training(part, config, session, findings)
            if cut:
                break
        ones = [part for part in parts if part.series == "one"]
        findings = replace(findings, datum=_measure_path(ones, config, session, findings))
    except TimeLimitReached as error:
        cut = str(error)
    return replace(findings, cut=cut)


def _measure_training(part: Part, config: LaggingConfig, session: Session, findings: Findings) -> None:
    """Measure a training at the stages that it has reached."""
    if part.series == "one":
        return
    stages = [(step, measure_means(part, step, config, session)) for step in part.stages]
    rows = findings.spaces.setdefault((part.series, part.planned.config.seed), {})
    rows[part.method] = [(step, at) for step, at in stages if at is not None]
    if part.whole and (end := measure_end(part, config, session)) is not None:
        findings.endings.append(end)


def _measure_path(ones: Sequence[Part], config: LaggingConfig, session: Session, found: Findings) -> int:
    """Measure one datum step after step in both trainings, and return its number.

    It is the datum whose true means end farthest from 0, summed over the methods: the one with most to see.
    """
    ends = [measure_means(part, part.stages[-1], config, session) for part in ones]
    last = [at.true.abs() for at in ends if at is not None]
    if not ones or len(last) < len(ones):
        return 0
    datum = int(torch.stack(last).sum(0).argmax())
    for part in ones:
        moves = [at for step in part.stages if (at := measure_means(part, step, config, session, datum)) is not None]
        true, encoder = (torch.cat([getattr(at, key) for at in moves]) for key in ("true", "encoder"))
        found.paths[part.method] = PosteriorMeans(true=true, encoder=encoder)
    return datum


def staircase(path: PosteriorMeans) -> PosteriorMeans:
    """The path of a datum under aggressive training as a staircase: the encoder's mean moves first, then the true mean.

    Inner steps leave the decoder as it is and outer steps the encoder, so the corners follow from the points before and
    after.
    """
    true = path.true[:-1].repeat_interleave(2)
    encoder = path.encoder[1:].repeat_interleave(2)
    return PosteriorMeans(true=torch.cat([true, path.true[-1:]]), encoder=torch.cat([path.encoder[:1], encoder]))


def _metrics(part: Part, run: Run, session: Session) -> dict[str, Any]:
    """Metrics on the test split, averaged over draws; they are saved beside the weights."""
    kept = run.path / "stages" / "test.json"
    try:
        before = read_json(kept)
        if set(before) == {*AVERAGED, "active_units"} and all(type(one) in (int, float) for one in before.values()):
            return before
    except RunError:  # not there, or damaged: measured again
        pass
    model, data = load_model(run.path / MODEL, _device(session)), model_inputs(session.data(part), "test")
    draws = [validate(model, data.to(_device(session)), seed)[0] for seed in range(DRAWS)]
    values = {key: statistics.fmean(float(one[key]) for one in draws) for key in AVERAGED}
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


@contextmanager
def _progress(part: Part, session: Session) -> Iterator[Callable[[int, int], None]]:
    """Progress callback of a measurement; it raises `TimeLimitReached` to stop it."""
    with count_steps(session.callback, "true posterior means", part.planned.name) as report:

        def count(done: int, total: int) -> None:
            if done < total and (reason := session.reason()):
                raise TimeLimitReached(reason)
            report(done, total)

        yield count
