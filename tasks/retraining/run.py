"""Weighted retraining (Tripp et al. 2020): searches alternate with training on data weighted by value."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.black_box.ask_tell import make_optimizer
from lso.black_box.export import COLUMNS, MAX_BEST_ROWS
from lso.black_box.workers import Workers
from lso.decoders.decoder import Decoder
from lso.objectives.failures import MAX_FAILURES
from lso.results.export import save_image, to_json
from lso.space import LatentSpace
from lso.tasks.goals import Goal, SearchTarget
from lso.tasks.retraining.options import RetrainingConfig, RetrainingSession
from lso.tasks.retraining.records import RetrainingCallback as RetrainingCallback
from lso.tasks.retraining.records import RetrainingResult as RetrainingResult
from lso.tasks.retraining.records import Round as Round
from lso.tasks.retraining.report import write_report_page
from lso.tasks.retraining.rounds import RetrainingLoop
from lso.tasks.retraining.summary import RetrainingSummary, decode_best, retraining_summary
from lso.tasks.training.experiment import IN_MEMORY, reload_dataset
from lso.vae import runs
from lso.vae.callbacks import Callback, as_callback
from lso.vae.data.dataset import Dataset
from lso.vae.errors import RunError, UsageError
from lso.vae.progress import draw_progress
from lso.vae.runs import Run
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.files import Lock, make_folder, replace_table
from lso.vae.utils.settings import field_settings
from lso.vae.utils.trust import Trust


@renamed_arguments(watch="callback")
def weighted_retraining(
    run: Run,
    goal: Goal,
    optimizer: str = "turbo",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    dataset: Dataset | None = None,
    device: str = "auto",
    executor: Any = None,
    timeout: float | None = None,
    chunk: int = 1,
    max_failures: int = MAX_FAILURES,
    callback: Callback | None = None,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
    **config: Any,
) -> RetrainingResult:
    """Search a model's latent space, and train the model on between searches.

    A round trains the model on, from its weights as they are, with the training data and all objects found, drawn with
    replacement by the rank of their values; encodes the known data and the objects found with the new model; and
    searches for so many unique valid objects more. What was scored once is answered from memory in all later rounds.

        data.safetensors  the training data, scored
        rounds/NN/train   a training run: config, weights begun with, metrics, model
        rounds/NN/search  a search: evaluations.jsonl
        rounds/NN/found.safetensors, round.json   written last: the round is complete

    Killed at any moment, the same call with ``resume=True`` goes on and ends as the unbroken one would have.

    Args:
        run: training run that gives model and training data. Its folder is left as it is.
        goal: what is sought. Training data are labelled by its score, once, which the budget does not count.
        optimizer: row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`, perhaps with options: ``"turbo:guard=none"``.
        out: folder to make, or to go on with; None makes one under ``runs/``.
        resume: go on with ``out``; the budget may differ.
        dataset: of a run that was given its data as tensors.
        device: of the model.
        executor: of the score's calls, of training data too, see `lso.black_box.loop.optimize`; may differ in going on.
        timeout: seconds for one object; may differ in going on.
        chunk: objects a call of the executor, see `lso.black_box.loop.optimize`; may differ in going on.
        max_failures: alike and in a row at which a score is taken for broken, see `lso.black_box.loop.optimize`; may
            differ, too.
        callback: progress and stop requests.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        facts: what else is to stand in run.json.
        **config: fields of `RetrainingConfig`; others are options of the optimizer. Defaults are the published ones
            (budget 500, batch 1); those of the command line are of all its black-box searches (100 and 4).
    Returns:
        The result; with status ``stopped`` it can be gone on with.
    Raises:
        UsageError: if an argument is wrong, or the score failed on the training data.
        ScoreError: if the score is broken.
        DataError: if the training data cannot be read again.
        RunError: if ``out`` is taken, of another search, or another process works there.
        DivergedError: if a retraining's loss was not finite.
    Source: Tripp, Daxberger, Hernandez-Lobato (2020), arXiv:2006.09191, and their code's settings for expressions.
        Deviations: duplicates and invalid objects are not counted by the budget and are no new data; the model that is
        begun with was trained without weights (theirs with); each epoch is one pass over a drawn data set, batches
        formed as in the first training.
    """
    names = {found.name for found in dataclasses.fields(RetrainingConfig)}
    own = {key: value for key, value in config.items() if key in names}
    own["options"] = {**own.get("options", {}), **{key: config[key] for key in config if key not in names}}
    chosen = RetrainingConfig(optimizer=optimizer, **own)
    data = reload_dataset(run) if dataset is None else dataset
    _check_settings(run, chosen)
    folder = _open_folder(run, _search_settings(run, goal, chosen), out, resume)
    calls = {"executor": executor, "timeout": timeout, "chunk": chunk, "max_failures": max_failures}
    with Lock(folder.path):
        runs.remove_half_written(folder)
        about = {"status": "running", "sentence": "", "search": _search_settings(run, goal, chosen), **(facts or {})}
        runs.update_run(folder, **about)
        try:
            with draw_progress(as_callback(callback), progress) as seen:
                result = RetrainingLoop(run, goal, chosen, folder.path, data, device, seen, calls).finish()
        except BaseException as error:
            runs.record_end(folder, error)
            raise
        told = {"status": result.status, "sentence": result.sentence, "seconds": result.seconds}
        runs.update_run(folder, **told, finished=runs.now())
    return result


def is_retraining(run: Run) -> bool:
    """Whether a run folder is that of a weighted retraining."""
    return "every" in run.info.get("search", {})


def _check_settings(run: Run, config: RetrainingConfig) -> None:
    """Refuse settings that would fail in the first search."""
    latent = run.config.architecture.latent_dim
    if not latent:
        raise UsageError(f"{run.path} is a baseline without latents", "Give a VAE, e.g. lso train --method ne-vae-se")
    space = LatentSpace(latent, bounds=config.bounds) if config.bounds != "codes" else LatentSpace(latent)
    make_optimizer(config.optimizer, space, **config.options)


def _search_settings(run: Run, goal: Goal, config: RetrainingConfig) -> dict[str, Any]:
    """The settings for run.json, by which a resumed search is recognized as the same."""
    settings = {**dataclasses.asdict(config), "goal": goal.name, "maximize": goal.maximize}
    settings |= {"model": Decoder(run.model()).hash, "k": repr(config.k)}  # JSON has no infinity
    return settings | {"options": {key: repr(value) for key, value in sorted(config.options.items())}}


def _open_folder(run: Run, settings: Mapping[str, Any], out: str | Path | None, resume: bool) -> Run:
    """Create the folder, or open that of the same search to resume it."""
    if not resume:
        path = runs.choose_folder(f"{run.config.data.task}-retraining", out)
        about = {"status": "running", "sentence": "", "model": run.reference, "verdict": run.verdict}
        return runs.create(path, "search", {**about, "search": settings, **dataclasses.asdict(runs.Provenance.here())})
    folder = Path(out or "")
    if not (folder / runs.INFO).is_file() or not is_retraining(Run(folder)):
        raise RunError(f"{folder} is no weighted retraining", "Leave resume out, or name the folder of one.")
    before = Run(folder).info["search"]
    may_differ = {key for key, known in field_settings(RetrainingConfig).items() if known.changeable}
    changed = [key for key in settings if key not in may_differ and before.get(key) != settings[key]]
    if changed:
        told = "; ".join(f"{key} was {before.get(key)!r}, now {settings[key]!r}" for key in changed)
        raise RunError(f"{folder} is another search: {told}", "Go on with what it was begun with.")
    return Run(folder)


def search_retraining(
    run: Run,
    sought: SearchTarget,
    settings: Mapping[str, Any],
    *,
    workers: int = 0,
    timeout: float | None = None,
    chunk: int = 1,
    max_failures: int = MAX_FAILURES,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    callback: Callback | None = None,
) -> Run:
    """Search by weighted retraining, and write a run folder with records, models and report.

    Args:
        run: training run that gives model and training data.
        sought: a goal, no targets.
        settings: of `RetrainingConfig`.
        workers: processes for the score; 0 scores in this one.
        timeout: seconds for one object.
        chunk: objects a call of a process.
        max_failures: see `lso.black_box.loop.optimize`.
        out: run folder to make, or to go on with; None makes one under ``runs/``.
        resume: go on with ``out``.
        device: of the models.
        callback: progress and stop requests.
    Returns:
        The search run.
    Raises:
        UsageError: for a wrong name or value, or what cannot be retrained for.
        DataError: if the training data cannot be read.
        RunError: if ``out`` is taken or of another search.
    """
    config, goal = RetrainingConfig(**settings), sought.goal(run)
    if goal is None:
        raise UsageError(
            "a target is no score that training data could be weighed by", "Retrain for --task or --objective."
        )
    if not resume and settings.get("known") and goal.known is None:  # the default takes what there is
        raise UsageError(f"there are no data with known values for {goal.name}", "Leave --known out (known=0).")
    if run.config.data.task == IN_MEMORY:
        raise UsageError(
            f"the data of {run.path} were given in Python, and there is nothing to retrain with",
            "Retrain in Python: lso.weighted_retraining(run, goal, dataset=...).",
        )
    calls: dict[str, Any] = {"chunk": chunk, "max_failures": max_failures}
    calls |= {"executor": lambda: Workers(workers, timeout)} if workers else {"timeout": timeout}
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    facts = {"sought": dataclasses.asdict(sought), "config": own | {"k": repr(config.k)}}
    facts["calls"] = {"workers": workers, "timeout": timeout, "chunk": chunk, "max_failures": max_failures}
    given: dict[str, Any] = {"out": out, "resume": resume, "device": device, "callback": callback, "facts": facts}
    result = weighted_retraining(run, goal, **own, **calls, **given)
    if result.records:
        summary = retraining_summary(result)
        write_report_page(summary, result.folder)
        _write_result_files(summary)
    return Run(result.folder)


def resume_retraining(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust: Trust = False,
    callback: Callback | None = None,
) -> Run:
    """Go on with an interrupted weighted retraining, or with a finished one and a larger budget."""
    info = Run(path).info
    if "sought" not in info or not is_retraining(Run(path)):
        raise RunError(f"{path} is no weighted retraining of the command line", "Go on with it in Python: resume=True.")
    told = {**info["config"], **info["calls"], **(changes or {})}
    calls = {field.name: told.pop(field.name) for field in dataclasses.fields(RetrainingSession) if field.name in told}
    settings = told | {"k": float(told["k"])}
    run, sought = runs.searched_model(Run(path), trust), SearchTarget.recorded(info, trust)
    return search_retraining(run, sought, settings, **calls, out=path, resume=True, device=device, callback=callback)


def _write_result_files(summary: RetrainingSummary) -> None:
    """The results as files.

    results/results.csv    one line a call
    results/best.csv       the best distinct objects, best first
    results/images/        NNNN_best.png of images
    """
    result, results = summary.result, summary.result.folder / "results"
    make_folder(results)
    calls = [(i, record) for i, part in enumerate(result.parts) for record in part]
    for name, of in (("results", calls), ("best", summary.ranked[:MAX_BEST_ROWS])):
        rows = ({"round": i, **to_json(record)} for i, record in of)
        replace_table(results / f"{name}.csv", ("round", *COLUMNS), rows)
    images = decode_best(summary, MAX_BEST_ROWS)
    if images is None:
        return
    folder = results / "images"
    make_folder(folder)
    for number, image in enumerate(images):
        save_image(folder / f"{number:04d}_best.png", image)
