"""A search from names to a run folder: freeze a decoder, look for given data in its latent space, write the report."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.gradient import initial_points as starts
from lso.gradient.elementwise import DescentCallback
from lso.gradient.search import minimize, resolve_optimizer
from lso.objectives.latent_objective import CONTEXTS, LatentObjective
from lso.objectives.losses import LOSSES
from lso.objectives.scores import not_differentiable_error
from lso.reports.search_report import search_report
from lso.results.export import write_evaluations
from lso.results.result import Result
from lso.space import LatentSpace
from lso.tasks.goals import Goal
from lso.tasks.search.initial_data import goal_objective
from lso.tasks.search.targets import GREY, Targets, pick
from lso.tasks.training.experiment import resolve_device
from lso.vae import runs
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import unknown_name
from lso.vae.runs import Run
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require

DEFAULT_START = ("mean", "prior")
# What a report says of an autoregressive decoder's context.
FORCED = {
    "target": "teacher-forced on the target, as in training: the context tells it much of what it is to reproduce, so "
    "a good value says less about the code than a factorised decoder's would",
    "own": "its own draw for each code, from common uniforms; gradients flow through the last pass alone",
    "blank": "an empty image",
}
SPOKEN = {
    "target": "teacher-forced on the target: the value is the exact likelihood; texts are decoded from codes alone",
    "blank": "unknown tokens alone, as many as the target has; texts are decoded from codes alone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How to search.

    Args:
        optimizer: row of `lso.optimizers.GRADIENT_OPTIMIZERS`, or the name of an elementwise torch optimizer.
        starts: of each target.
        start: kinds of start (rows of `lso.gradient.initial_points.STARTS`), the last repeated until there are enough.
        loss: row of `lso.objectives.losses.LOSSES`.
        prior_weight: weight of -log p(z) in the value; with ``nll`` and 1 the search is for the maximum a posteriori
            code. 0 is the pure reconstruction of NE-VAE's toy search, whose codes may leave what the model knows.
        lr: learning rate; None is the optimizer's default.
        tol: mean absolute loss change over 20 steps at which an element stops.
        max_steps: steps at most.
        context: what an autoregressive decoder is forced on: target, own or blank (see `LatentObjective.reconstruct`).
    Raises:
        UsageError: if a value is out of range.
    """

    optimizer: str = "adam"
    starts: int = 8
    start: Sequence[str] = DEFAULT_START
    loss: str = "nll"
    prior_weight: float = 1.0
    lr: float | None = None
    tol: float = 1e-3
    max_steps: int = 1000
    context: str = "target"

    def __post_init__(self) -> None:
        require(self.starts >= 1, "starts >= 1", self.starts, "4 to 16 show whether the start matters.")
        require(self.tol >= 0, "tol >= 0", self.tol, "0 stops where the loss is exactly unchanged.")
        require(self.max_steps >= 1, "max_steps >= 1", self.max_steps, "1000 is the default.")
        fits = len(self.start) <= self.starts or tuple(self.start) == DEFAULT_START
        require(len(self.start) > 0 and fits, "at most as many kinds as starts", self.start, "Raise --starts.")
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)
        if self.context not in CONTEXTS:
            raise unknown_name("context", self.context, CONTEXTS)
        for kind in self.start:
            if kind not in starts.STARTS:
                raise unknown_name("start", kind, starts.STARTS)

    def kinds(self) -> list[str]:
        """One kind for each start.

        Returns:
            ``starts`` rows of the table.
        """
        return [*self.start, *[self.start[-1]] * (self.starts - len(self.start))][: self.starts]


@renamed_arguments(watch="callback")
def search_targets(
    run: Run,
    target: str | Path,
    config: SearchConfig = SearchConfig(),
    *,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    pixels: Mapping[str, Any] | None = None,
    control: str = "lbfgs",
    limit: int | None = None,
    callback: DescentCallback | None = None,
    told: Callable[[Sequence[str]], None] | None = None,
) -> Run:
    """Look for codes that reproduce given data, and write a run folder with records and report.

    Args:
        run: a training run.
        target: a folder, image file or array file, or ``"test:20"``: the first 20 of a split of the run's own data.
            For a run on sequences a text file of one a line, or a sentence as it is.
        config: how to search.
        seed: of random starts.
        out: run folder to make; None makes one under ``runs/``.
        device: where to search.
        pixels: how files become pixels where that differs from the run: channels, invert, fit, bad_files, binarize.
        control: a second optimizer from the same starts, for the report; ``"none"`` leaves it out.
        limit: search for the first so many targets.
        callback: progress and stop requests.
        told: called once, before the search, with what was done to the targets.
    Returns:
        The search run: ``report.html``, ``report.json``, ``evaluations.jsonl`` and ``results/`` lie in it.
    Raises:
        UsageError: for a wrong name or value.
        DataError: if the targets cannot be read or do not fit the model.
        RunError: if the run has no model, or ``out`` is taken.
    """
    resolve_optimizer(config.optimizer, config.lr, {})  # a wrong name must not leave a run folder behind
    decoder, space, where = frozen(run, device)
    targets = pick(run, target, pixels=pixels)
    if limit is not None:
        require(limit >= 1, "limit >= 1", limit, "Leave it out to search for all targets.")
        targets = targets.first(limit)
    if told is not None:
        told(targets.notes)
    objective = LatentObjective.reconstruct(
        decoder,
        targets.batch,
        loss=config.loss,
        space=space,
        prior_weight=config.prior_weight,
        context=config.context,
    )
    facts = {"target": str(target), "notes": list(targets.notes), "pixels": dict(pixels or {}), "device": where}
    return _carry_out(run, objective, targets, config, facts, seed, out, control, callback)


def search_goal(
    run: Run,
    goal: Goal,
    config: SearchConfig = SearchConfig(start=("prior",)),
    *,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    control: str = "lbfgs",
    callback: DescentCallback | None = None,
) -> Run:
    """Look by gradient for codes of good value, and write a run folder with records and report.

    Args:
        run: a training run.
        goal: what is sought; its score must be made of differentiable torch operations, ``on="tensors"``.
        config: how to search; starts encode no target.
        seed: of random starts.
        out: run folder to make; None makes one under ``runs/``.
        device: where to search.
        control: see `search_targets`.
        callback: progress and stop requests.
    Returns:
        The search run.
    Raises:
        UsageError: for a wrong name or value, or a score without gradients.
        RunError: if the run has no model, or ``out`` is taken.
    """
    resolve_optimizer(config.optimizer, config.lr, {})
    decoder, space, where = frozen(run, device)
    objective = goal_objective(goal, decoder, space, prior_weight=config.prior_weight)
    if not objective.differentiable:
        raise not_differentiable_error(goal.name, "its score takes objects, not tensors", config.optimizer)
    return _carry_out(run, objective, None, config, {"goal": goal.name, "device": where}, seed, out, control, callback)


def frozen(run: Run, device: str, **options: Any) -> tuple[Decoder, LatentSpace, str]:
    """The decoder of a run and the space of its codes."""
    where = resolve_device(device)
    model, codes = run.model(str(where)), run.codes()
    known = DiagonalGaussian(codes.mean, codes.log_var) if codes else None
    return Decoder(model), LatentSpace(model.latent_dim, codes=known, **options), str(where)


def _carry_out(
    run: Run,
    objective: LatentObjective,
    targets: Targets | None,
    config: SearchConfig,
    facts: Mapping[str, Any],
    seed: int,
    out: str | Path | None,
    control: str,
    callback: DescentCallback | None,
) -> Run:
    decoder, space = objective.decoder, objective.space
    z0 = starts.make_starts(config.kinds(), space, decoder, objective.targets, config.starts, generator(seed, "starts"))
    info = _facts(run, config, seed) | {"control": control, **facts}
    found = runs.create(runs.choose_folder(f"{run.config.data.task}-search-{config.optimizer}", out), "search", info)
    try:
        result = _minimize(objective, z0, config, config.optimizer, callback)
        # The same search by another optimizer; none where it would be the same one, or the search was cut.
        second = control not in ("none", config.optimizer) and result.status != "stopped"
        other = _minimize(objective, z0, config, control, callback) if second else None
        if other is not None and other.status == "stopped":
            other = None  # half a control would be read as a whole one
        _write(found, run, targets, result, other)
    except BaseException as error:
        runs.note_end(found, error)
        raise
    runs.update(
        found,
        status="stopped" if result.status == "stopped" else "finished",
        sentence=result.sentence,
        finished=runs.now(),
        seconds=result.seconds,
    )
    return found


def _facts(run: Run, config: SearchConfig, seed: int) -> dict[str, Any]:
    return {
        "status": "running",
        "sentence": "",
        "seed": seed,
        "model": str(run.path.resolve()),
        "search": dataclasses.asdict(config),
        "verdict": run.verdict,
        **dataclasses.asdict(runs.Provenance.here()),
    }


def _minimize(
    objective: LatentObjective, z0: Tensor, config: SearchConfig, optimizer: str, callback: DescentCallback | None
) -> Result:
    return minimize(
        objective,
        z0,
        optimizer,
        lr=config.lr if optimizer == config.optimizer else None,
        tol=config.tol,
        max_steps=config.max_steps,
        start_names=starts.name_starts(config.kinds(), config.starts),
        callback=callback,
    )


def _write(found: Run, run: Run, targets: Targets | None, result: Result, control: Result | None) -> None:
    names = None if targets is None else targets.names
    write_evaluations(found.path, result, names=names)
    told = FORCED if result.objective.decoder.vocabulary is None else SPOKEN
    context = told.get(result.objective.context, "")
    if targets is not None and GREY in targets.notes and result.objective.context == "target":
        context += "; in training it saw no grey before a pixel, as here"
    model = f"{run.path.name} ({run.config.method.name}, {run.config.architecture.name}, {run.info['sentence']})"
    extra = {"model": model, "data of the model": run.info["dataset"]["name"]}
    extra |= {} if targets is None else {"targets": " ".join(targets.notes)}
    extra |= {"decoder's context": context} if context else {}
    search_report(
        result,
        found.path,
        codes=run.codes(),
        control=control,
        verdict=run.verdict,
        target_names=names,
        extra=extra,
    )
