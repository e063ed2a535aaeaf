"""Searches by gradient from names to run folders: `lso.tasks.search_targets` and `search_goal`.

A run's decoder is frozen, codes are optimized so that they reproduce targets or improve a goal, and records and report
are written.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.gradient import initial_points as starts
from lso.gradient.elementwise import DescentCallback, gradient_callback
from lso.gradient.search import minimize, resolve_optimizer
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.scores import not_differentiable_error
from lso.reports.search_report import search_report
from lso.results.export import write_evaluations
from lso.results.result import Result
from lso.space import LatentSpace
from lso.tasks.goals import Goal
from lso.tasks.search.initial_data import goal_objective
from lso.tasks.search.options import GradientSession, SearchConfig
from lso.tasks.search.targets import GREY, Targets, load_data
from lso.tasks.training.experiment import resolve_device
from lso.vae import runs
from lso.vae.callbacks import Callback, PartCallback
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.progress import draw_progress
from lso.vae.runs import Run
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.random import generator

# What a report says of the values before a pixel or token, on which an autoregressive decoder is conditioned.
IMAGE_CONTEXTS = {
    "target": "teacher-forced on the target, as in training: the context tells it much of what it is to reproduce, so "
    "a good value says less about the code than a factorised decoder's would",
    "own": "its own draw for each code, from common uniforms; gradients flow through the last pass alone",
    "blank": "an empty image",
}
TEXT_CONTEXTS = {
    "target": "teacher-forced on the target: the value is the exact likelihood; texts are decoded from codes alone",
    "blank": "unknown tokens alone, as many as the target has; texts are decoded from codes alone",
}


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
    callback: Callback | DescentCallback | None = None,
    progress: bool = False,
    told: Callable[[Sequence[str]], None] | None = None,
) -> Run:
    """Search by gradient for codes that reproduce target data, and write a run folder with records and report.

    Args:
        run: the training run of the model.
        target: a folder, image file or array file, or ``"test:20"`` for the first 20 data of a split of the run's own
            data. For a model of sequences, a text file with one sequence a line, or the sentence itself.
        config: settings of the search.
        seed: seed of random starts.
        out: run folder to make; None makes one under ``runs/``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda[:N]"``.
        pixels: settings of how files become pixels that differ from the run's: channels, invert, fit, bad_files,
            binarize.
        control: a second optimizer that starts from the same codes, for comparison in the report; ``"none"`` leaves
            it out.
        limit: search for the first ``limit`` targets only.
        callback: gets the progress, and may ask to stop.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        told: called once, before the search, with sentences on how the targets were read.
    Returns:
        The search run, whose folder has ``report.html``, ``report.json``, ``evaluations.jsonl`` and ``results/``.
    Raises:
        UsageError: for a wrong name or value.
        DataError: if the targets cannot be read or do not fit the model.
        RunError: if the run has no model, or the folder ``out`` is taken.
    """
    GradientSession(control=control, limit=limit)  # checks them
    resolve_optimizer(config.optimizer, config.lr, {})  # a wrong name must not leave a run folder behind
    decoder, space, where = freeze_decoder(run, device)
    targets = load_data(run, target, pixels=pixels)
    if limit is not None:
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
    with draw_progress(gradient_callback(callback), progress) as seen:
        return _run_search(run, objective, targets, config, facts, seed, out, control, seen)


def search_goal(
    run: Run,
    goal: Goal,
    config: SearchConfig = SearchConfig(start=("prior",)),
    *,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    control: str = "lbfgs",
    callback: Callback | DescentCallback | None = None,
) -> Run:
    """Search by gradient for codes whose decoded data score well, and write a run folder as `search_targets` does.

    The goal's score must consist of differentiable torch operations (``on="tensors"``), and starts cannot encode a
    target. The other arguments are those of `search_targets`.
    """
    resolve_optimizer(config.optimizer, config.lr, {})
    decoder, space, where = freeze_decoder(run, device)
    objective = goal_objective(goal, decoder, space, prior_weight=config.prior_weight)
    if not objective.differentiable:
        raise not_differentiable_error(goal.name, "its score takes objects, not tensors", config.optimizer)
    facts, seen = {"goal": goal.name, "device": where}, gradient_callback(callback)
    return _run_search(run, objective, None, config, facts, seed, out, control, seen)


def freeze_decoder(run: Run, device: str, **options: Any) -> tuple[Decoder, LatentSpace, str]:
    """The frozen decoder of a run, its latent space with the codes of the data, and the device."""
    where = resolve_device(device)
    model, codes = run.model(str(where)), run.codes()
    known = DiagonalGaussian(codes.mean, codes.log_var) if codes else None
    return Decoder(model), LatentSpace(model.latent_dim, codes=known, **options), str(where)


def _run_search(
    run: Run,
    objective: LatentObjective,
    targets: Targets | None,
    config: SearchConfig,
    facts: Mapping[str, Any],
    seed: int,
    out: str | Path | None,
    control: str,
    callback: Callback,
) -> Run:
    decoder, space = objective.decoder, objective.space
    z0 = starts.make_starts(config.kinds(), space, decoder, objective.targets, config.starts, generator(seed, "starts"))
    info = _run_facts(run, config, seed) | {"control": control, **facts}
    search_run = runs.create(
        runs.choose_folder(f"{run.config.data.task}-search-{config.optimizer}", out), "search", info
    )
    try:
        part = PartCallback(callback, name="searching")
        result = _minimize(objective, z0, config, config.optimizer, part)
        # The same search by another optimizer, unless that is the same one or the search was stopped.
        second = control not in ("none", config.optimizer) and result.status != "stopped"
        part = PartCallback(callback, name="control")
        other = _minimize(objective, z0, config, control, part) if second else None
        if other is not None and other.status == "stopped":
            other = None  # half a control would be read as a complete one
        _write_results(search_run, run, targets, result, other)
    except BaseException as error:
        runs.record_end(search_run, error)
        raise
    runs.update_run(
        search_run,
        status="stopped" if result.status == "stopped" else "finished",
        sentence=result.sentence,
        finished=runs.now(),
        seconds=result.seconds,
    )
    return search_run


def _run_facts(run: Run, config: SearchConfig, seed: int) -> dict[str, Any]:
    return {
        "status": "running",
        "sentence": "",
        "seed": seed,
        "model": run.reference,
        "search": dataclasses.asdict(config),
        "verdict": run.verdict,
        **dataclasses.asdict(runs.Provenance.here()),
    }


def _minimize(
    objective: LatentObjective, z0: Tensor, config: SearchConfig, optimizer: str, callback: Callback
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


def _write_results(search_run: Run, run: Run, targets: Targets | None, result: Result, control: Result | None) -> None:
    names = None if targets is None else targets.names
    write_evaluations(search_run.path, result, names=names)
    told = IMAGE_CONTEXTS if result.objective.decoder.vocabulary is None else TEXT_CONTEXTS
    context = told.get(result.objective.context, "")
    if targets is not None and GREY in targets.notes and result.objective.context == "target":
        context += "; in training it saw no grey before a pixel, as here"
    model = f"{run.path.name} ({run.config.method.name}, {run.config.architecture.name}, {run.info['sentence']})"
    extra = {"model": model, "data of the model": run.info["dataset"]["name"]}
    extra |= {} if targets is None else {"targets": " ".join(targets.notes)}
    extra |= {"decoder's context": context} if context else {}
    search_report(
        result,
        search_run.path,
        codes=run.codes(),
        control=control,
        verdict=run.verdict,
        target_names=names,
        extra=extra,
    )
