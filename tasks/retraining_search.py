"""Weighted retraining from names to a run folder with a report: what `lso optimize --retrain-every` does."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.failures import MAX_FAILURES
from lso.record import save_image, to_json
from lso.search_files import COLUMNS, SHOWN
from lso.tasks.experiment import GIVEN
from lso.tasks.retraining import is_retraining, weighted_retraining
from lso.tasks.retraining_record import RetrainingConfig, Watch
from lso.tasks.retraining_report import write_retraining
from lso.tasks.retraining_summary import RetrainingSummary, decoded, retraining_summary
from lso.tasks.sought import Sought
from lso.vae.errors import RunError, UsageError
from lso.vae.files import make_folder, replace_table
from lso.vae.runs import Run
from lso.vae.trust import Trust
from lso.workers import Workers

CALLS = ("workers", "timeout", "chunk", "max_failures")  # how the score is called, which may differ in going on


def search_retraining(
    run: Run,
    sought: Sought,
    settings: Mapping[str, Any],
    *,
    workers: int = 0,
    timeout: float | None = None,
    chunk: int = 1,
    max_failures: int = MAX_FAILURES,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    watch: Watch | None = None,
) -> Run:
    """Search by weighted retraining, and write a run folder with records, models and report.

    Args:
        run: training run that gives model and training data.
        sought: a goal, no targets.
        settings: of `RetrainingConfig`.
        workers: processes for the score; 0 scores in this one.
        timeout: seconds for one object.
        chunk: objects a call of a process.
        max_failures: see `lso.loop.optimize`.
        out: run folder to make, or to go on with; None makes one under ``runs/``.
        resume: go on with ``out``.
        device: of the models.
        watch: progress and stop requests.
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
        raise UsageError(f"nothing is known beforehand of {goal.name}", "Leave --known out (known=0).")
    if run.config.data.task == GIVEN:
        raise UsageError(
            f"the data of {run.path} were given in Python, and there is nothing to retrain with",
            "Retrain in Python: lso.weighted_retraining(run, goal, dataset=...).",
        )
    calls: dict[str, Any] = {"chunk": chunk, "max_failures": max_failures}
    calls |= {"executor": lambda: Workers(workers, timeout)} if workers else {"timeout": timeout}
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    facts = {"sought": dataclasses.asdict(sought), "config": own | {"k": repr(config.k)}}
    facts["calls"] = {"workers": workers, "timeout": timeout, "chunk": chunk, "max_failures": max_failures}
    given: dict[str, Any] = {"out": out, "resume": resume, "device": device, "watch": watch, "facts": facts}
    result = weighted_retraining(run, goal, **own, **calls, **given)
    if result.records:
        summary = retraining_summary(result)
        write_retraining(summary, result.folder)
        _write_files(summary)
    return Run(result.folder)


def resume_retraining(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust: Trust = False,
    watch: Watch | None = None,
) -> Run:
    """Go on with an interrupted weighted retraining, or with a finished one and a larger budget.

    Args:
        path: its run folder.
        changes: budget, max_calls, workers, timeout, chunk, max_failures.
        device: of the models.
        trust: see `lso.tasks.black_box.resume_black_box`.
        watch: progress and stop requests.
    Returns:
        The search run.
    Raises:
        UsageError: if the folder names a score or a tokenizer that is not to be trusted.
        RunError: if it is none of `search_retraining`, or its first model is gone.
    """
    info = Run(path).info
    if "sought" not in info or not is_retraining(Run(path)):
        raise RunError(f"{path} is no weighted retraining of the command line", "Go on with it in Python: resume=True.")
    if not Path(info.get("model", "")).is_dir() or not info.get("model"):
        raise RunError(f"the model of {path} is gone: {info.get('model')}", "Put it back there.")
    told = {**info["config"], **info["calls"], **(changes or {})}
    calls = {key: told.pop(key) for key in CALLS if key in told}
    settings = told | {"k": float(told["k"])}
    run, sought = Run(info["model"], trust=trust), Sought.recorded(info, trust)
    return search_retraining(run, sought, settings, **calls, out=path, resume=True, device=device, watch=watch)


def _write_files(summary: RetrainingSummary) -> None:
    """The results as files.

    results/results.csv    one line a call
    results/best.csv       the best distinct objects, best first
    results/images/        NNNN_best.png of images
    """
    result, results = summary.result, summary.result.folder / "results"
    make_folder(results)
    calls = [(i, record) for i, part in enumerate(result.parts) for record in part]
    for name, of in (("results", calls), ("best", summary.ranked[:SHOWN])):
        rows = ({"round": i, **to_json(record)} for i, record in of)
        replace_table(results / f"{name}.csv", ("round", *COLUMNS), rows)
    images = decoded(summary, SHOWN)
    if images is None:
        return
    folder = results / "images"
    make_folder(folder)
    for number, image in enumerate(images):
        save_image(folder / f"{number:04d}_best.png", image)
