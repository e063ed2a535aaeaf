"""`lso.optimize`: ask, decode, score, record and tell until a limit is reached; interrupted searches resume."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lso.black_box.ask_tell import BlackBox, make_optimizer
from lso.black_box.budget import CALLS_PER_BUDGET, PATIENCE, SearchLimits
from lso.black_box.executors import FuturesExecutor, ScoreExecutor, SerialExecutor
from lso.black_box.journal import Journal
from lso.black_box.result import SearchResult
from lso.black_box.runner import Known, Search
from lso.black_box.runner import SearchCallback as SearchCallback
from lso.black_box.workers import Workers
from lso.objectives.failures import MAX_FAILURES
from lso.objectives.function_names import stable_name
from lso.objectives.latent_objective import LatentObjective
from lso.results.evaluation import content_hash, repr_without_address
from lso.results.result import Evaluation
from lso.space import LatentSpace
from lso.vae import runs
from lso.vae.callbacks import Callback, as_callback
from lso.vae.errors import RunError, UsageError, WriteError
from lso.vae.progress import draw_progress
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.validation import require

# Settings in run.json that must be the same for a search to be resumed.
RESUME_KEYS = (
    "optimizer",
    "objective",
    "maximize",
    "on",
    "prior_weight",
    "space",
    "targets",
    "generation",
    "seed",
    "batch",
    "asynchronous",
    "options",
    "weights",
)


@renamed_arguments(watch="callback")
def optimize(
    objective: LatentObjective,
    optimizer: str | BlackBox = "turbo",
    budget: int = 100,
    batch: int = 1,
    *,
    executor: Any = None,
    timeout: float | None = None,
    chunk: int = 1,
    max_calls: int | None = None,
    max_failures: int = MAX_FAILURES,
    out: str | Path | None = None,
    resume: bool = False,
    asynchronous: bool = False,
    known: Known | None = None,
    scored: Sequence[Evaluation] = (),
    seed: int = 0,
    patience: int = PATIENCE,
    callback: Callback | None = None,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
    **options: Any,
) -> SearchResult:
    """Search for codes with good values of a black-box score, in few calls of the score.

    Codes are decoded here, in batches, and each distinct decoded object is scored once. In this process the score is
    given the new objects of a batch together, and where it raises, each object alone; an executor gives it one object
    in each call, or ``chunk``. With ``out`` every ask and every evaluation is on disk (``evaluations.jsonl``) before
    the next ask. A search that was killed at any moment is continued by the same call with ``resume=True``: codes asked
    for and not yet evaluated are submitted again, and with synchronous batches the search proposes exactly what the
    unbroken one would have proposed (same machine, torch and number of threads).

    Args:
        objective: a score of decoded codes.
        optimizer: row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`, optionally with options (``"turbo:guard=none"``), or an
            optimizer not yet used.
        budget: unique valid decoded objects to be scored. Duplicates are answered from memory and cost nothing.
        batch: codes proposed together; asynchronously, calls running at once. 1 makes the most of each call; the
            command line proposes 4, so that ``--workers`` have work.
        executor: None scores in this process. Otherwise an executor as in `concurrent.futures`, or a function that
            makes one, which is called again when an executor breaks; calls lost with an executor are recorded as lost.
            Score and data must be picklable for other processes.
        timeout: seconds for one object. Without an executor the calls then run in one worker process, which is killed
            at the timeout; with an executor a call is given up this long after its submission.
        chunk: objects that the score is given together in another process, with a timeout that many times as long.
            Where such a call is lost, late or raises, each object is scored alone.
        max_calls: objects proposed in all, duplicates and invalid ones included; None is ten times the budget.
        max_failures: consecutive objects on which a score that has given no value yet may fail in the same way (the
            same error from the same line, the same wrong form of answer) before it counts as broken. Invalid objects
            do not count.
        out: run folder to make or to resume.
        resume: continue the search in ``out``; budget, max_calls, max_failures, timeout, chunk and executor may differ.
            Objects on which a broken score failed, which ended the search, are scored again.
        asynchronous: ask again as soon as one call has finished, instead of waiting for the whole batch.
        known: codes ``(k, d)`` and their values, told to the optimizer beforehand and not counted.
        scored: evaluations of earlier searches. Where the search meets their objects again, these are answered from
            memory as duplicates of call -1, and not counted. Their codes are not told to the optimizer; for that there
            is ``known``.
        seed: seed of the optimizer's random draws.
        patience: consecutive calls without a new valid object after which the search ends.
        callback: receives progress, and may stop the search.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        facts: further entries for run.json.
        **options: options of the optimizer.
    Returns:
        The result; the status of a search that ended early says why.
    Raises:
        UsageError: if an argument is wrong or does not fit the others.
        ScoreError: if the score is broken: ``max_failures``, or a list of values of the wrong length.
        RunError: if ``out`` is taken, damaged, in use by another process, or holds a different search.
    Source: counting of unique valid objects as Tripp et al. (2020); the optimizers' sources stand in their modules.
    """
    require(budget >= 1, "a budget >= 1", budget, "It counts unique valid decoded objects.")
    require(batch >= 1, "batch >= 1", batch, "It is the number of codes proposed together.")
    require(max_calls is None or max_calls >= 1, "max_calls >= 1", max_calls, "None is ten times the budget.")
    require(timeout is None or timeout > 0, "a timeout > 0 seconds", timeout, "None is no limit.")
    require(max_failures >= 1, "max_failures >= 1", max_failures, f"{MAX_FAILURES} is the default.")
    require(chunk >= 1, "chunk >= 1", chunk, "It is the number of objects that another process scores together.")
    if chunk > 1 and executor is None and timeout is None:
        raise UsageError(
            "chunk needs an executor or a timeout",
            "Leave chunk out: in this process the score is given each batch as a whole.",
        )
    require(patience >= 1, "patience >= 1", patience, "It counts consecutive calls without a new valid object.")
    if objective.targets is not None and (executor is not None or timeout is not None or len(objective.targets) > 1):
        raise UsageError(
            "a reconstruction is scored in this process, for one target at a time",
            "Leave out executor and timeout, and choose a target: objective.take([0]).",
        )
    black_box = _resolve_optimizer(optimizer, objective, seed, options)
    limits = SearchLimits(
        budget=budget, max_calls=max_calls or CALLS_PER_BUDGET * budget, patience=patience, max_failures=max_failures
    )
    settings = {
        "optimizer": black_box.name,
        "objective": stable_name(objective.name, objective.score),
        "maximize": objective.maximize,
        "on": objective.on,
        "prior_weight": objective.prior_weight,
        "space": _fingerprint(objective.space),
        "targets": None
        if objective.targets is None
        else [objective.context, content_hash(objective.targets.cpu().numpy())],
        "generation": None if objective.decoder.vocabulary is None else repr(objective.decoder.generation),
        "seed": black_box.seed,
        "batch": batch,
        "asynchronous": asynchronous,
        "options": {key: repr_without_address(value) for key, value in sorted(black_box.settings.items())},
        "weights": objective.decoder.hash,
        "budget": budget,
        "max_calls": limits.max_calls,
        "timeout": timeout,
    }
    with ExitStack() as stack:
        was_killed = resume and out is not None and runs.Run(out).info.get("status") == "running"
        run, journal = _open_run(out, resume, settings, facts or {})
        if journal is not None:
            stack.callback(journal.close)
        score_executor = make_score_executor(objective, executor, timeout, chunk, batch)
        stack.callback(score_executor.close)
        seen = stack.enter_context(draw_progress(as_callback(callback), progress))
        search = Search(objective, black_box, score_executor, journal, limits, batch, asynchronous, seen)
        sentence = ""
        try:
            search.begin(known, scored, was_killed)
            status, sentence = search.run()
            objective.decoder.verify()
        except BaseException as error:
            if run is not None:
                runs.record_end(run, error)
            raise
        finally:
            search.callback.on_end(search.event(sentence))
        result = search.result(status, sentence, settings, None if run is None else run.path)
        if run is not None:
            runs.update_run(
                run, status=status, sentence=sentence, finished=runs.now(), seconds=result.counters["seconds"]
            )
    return result


def _fingerprint(space: LatentSpace) -> str:
    """A hash that identifies a space: of its bounds, chart, active dimensions and known codes."""
    # Not of the codes' variances: no proposal and no record of a search depends on them, and a model that gives others
    # differs in the weights of its encoder, which are compared as well.
    parts = [space.bounds, space.active, *([] if space.codes is None else [space.codes])]
    return content_hash((space.chart, *(content_hash(part.numpy()) for part in parts)))


def _resolve_optimizer(
    optimizer: str | BlackBox, objective: LatentObjective, seed: int, options: Mapping[str, Any]
) -> BlackBox:
    if isinstance(optimizer, str):
        return make_optimizer(optimizer, objective.space, seed=seed, maximize=objective.maximize, **options)
    if options:
        raise UsageError(
            f"options {', '.join(options)} with an optimizer that is already made",
            "Give them to lso.make_optimizer, or name the optimizer.",
        )
    used = optimizer.asks or len(optimizer.history().z)
    if optimizer.maximize != objective.maximize or optimizer.space.dim != objective.dim or used:
        raise UsageError(
            f"{optimizer!r} does not fit {objective!r}, or was used before",
            f"Make a new one: lso.make_optimizer(name, objective.space, maximize={objective.maximize}). "
            "Values that are known already go into known=.",
        )
    return optimizer


def make_score_executor(
    objective: LatentObjective, executor: Any, timeout: float | None, chunk: int = 1, batch: int = 1
) -> ScoreExecutor:
    """Make what executes the calls of an objective's score, to be closed by the caller; arguments as of `optimize`."""
    if executor is None and timeout is None:
        return SerialExecutor(objective, batch)
    if executor is None:  # a call in this process cannot be killed
        return FuturesExecutor(objective.score, objective.on, lambda: Workers(1, timeout), chunk=chunk)
    return FuturesExecutor(objective.score, objective.on, executor, timeout, chunk)


def _open_run(
    out: str | Path | None, resume: bool, settings: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[runs.Run | None, Journal | None]:
    if out is None:
        if resume:
            raise UsageError("resume needs a run folder", "Pass out=, the folder of the search to resume.")
        return None, None
    if not resume:
        about = {"status": "running", "sentence": "", **facts, "search": settings, **asdict(runs.Provenance.here())}
        run = runs.create(runs.choose_folder("", out), "search", about)
        try:
            return run, Journal(run.path)
        except WriteError as error:
            runs.record_end(run, error)
            raise
    run = runs.Run(out)
    before = run.info.get("search", {})
    if "weights" not in before:
        raise RunError(f"{out} holds no black-box search", "Resume a folder that lso.optimize made.")
    changed = [key for key in RESUME_KEYS if before.get(key) != settings[key]]
    if changed:
        changes = "; ".join(f"{key} was {before.get(key)!r}, now {settings[key]!r}" for key in changed)
        raise RunError(f"{out} is another search: {changes}", "Resume with the settings that it was started with.")
    journal = Journal(run.path)
    runs.remove_half_written(run)
    runs.update_run(run, status="running", **facts, search=settings)  # facts: they may state another budget
    return run, journal
