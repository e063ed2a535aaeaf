"""The loop around ask and tell: decode, score, record, tell; interrupted anywhere, it goes on where it was."""

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
from lso.vae.errors import RunError, UsageError, WriteError
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.validation import require

# What must be the same for a search to be gone on with.
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
    callback: SearchCallback | None = None,
    facts: Mapping[str, Any] | None = None,
    **options: Any,
) -> SearchResult:
    """Search for codes of good value with as few calls of the score as may be.

    Decoding happens here, in batches; each distinct decoded object is scored once. In this process the score is given
    what is new in a batch together, and where it raises, each object alone; an executor gives it one object a call, or
    ``chunk``. With ``out`` every ask and every evaluation is on disk (``evaluations.jsonl``) before the next ask.
    Killed at any moment, the same call with ``resume=True`` goes on: codes asked for and not yet evaluated are
    submitted again, and with synchronous batches the search proposes exactly what the unbroken one would have (same
    machine, torch and threads).

    Args:
        objective: decoder then score.
        optimizer: row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`, perhaps with options (``"turbo:guard=none"``), or an
            optimizer not yet used.
        budget: unique valid decoded objects to be scored. Duplicates are answered from memory and cost nothing.
        batch: codes proposed together; asynchronously, calls under way at once.
        executor: None scores in this process. Else an executor as in `concurrent.futures`, or a function that makes
            one, which is called again where the last one broke; calls that it took with it are recorded as lost. Score
            and data must be picklable for other processes.
        timeout: seconds for one object. Without an executor the calls then go to one process of our own, which is
            killed; a foreign executor's call is given up, from when it was handed over.
        chunk: objects that the score is given together in another process; the timeout is then so many times as long,
            and where such a call is lost, late or raises, each object is tried alone.
        max_calls: objects proposed in all, duplicates and invalid ones with them; None is ten times the budget.
        max_failures: objects in a row on which a score may fail alike (the same error from the same line, the same
            wrong form of answer) before it has given any value; then it is taken for broken. Invalid ones do not count.
        out: run folder to make, or to go on with.
        resume: go on with ``out``; budget, max_calls, max_failures, timeout, chunk and executor may differ. Where the
            score was broken, and failures of it ended the search, those objects are scored again.
        asynchronous: ask again as soon as one call is finished, in place of waiting for the batch.
        known: codes ``(k, d)`` and their values, told to the optimizer beforehand and not counted.
        scored: evaluations of earlier searches. Their objects are answered from memory where they are met again, as
            duplicates of call -1, and not counted; their codes are not told: ``known`` is for those.
        seed: of the optimizer's draws.
        patience: calls in a row without a new valid object at which the search ends.
        callback: progress and stop requests.
        facts: what else is to stand in run.json.
        **options: of the optimizer.
    Returns:
        The result; a search that ends early says why in its status.
    Raises:
        UsageError: if an argument is wrong, or the search to go on with is another one.
        ScoreError: if the score is broken: ``max_failures``, or an answer of another length than what it was given.
        RunError: if ``out`` is taken, damaged, or another process searches there.
    Source: pieces in `lso.black_box.ask_tell`; counting of unique valid objects as Tripp et al. (2020).
    """
    require(budget >= 1, "a budget >= 1", budget, "It counts unique valid decoded objects.")
    require(batch >= 1, "batch >= 1", batch, "Codes proposed together.")
    require(max_calls is None or max_calls >= 1, "max_calls >= 1", max_calls, "None is ten times the budget.")
    require(timeout is None or timeout > 0, "a timeout > 0 seconds", timeout, "None is no limit.")
    require(max_failures >= 1, "max_failures >= 1", max_failures, f"{MAX_FAILURES} unless you know better.")
    require(chunk >= 1, "chunk >= 1", chunk, "Objects that another process scores together.")
    if chunk > 1 and executor is None and timeout is None:
        raise UsageError("chunk is for other processes", "Leave it out: in this one the score is given each batch.")
    require(patience >= 1, "patience >= 1", patience, "Calls in a row without a new valid object.")
    if objective.targets is not None and (executor is not None or timeout is not None or len(objective.targets) > 1):
        raise UsageError(
            "a reconstruction is scored in this process, for one target at a time",
            "Leave executor and timeout out; choose a target: objective.take([0]).",
        )
    box = _resolve_optimizer(optimizer, objective, seed, options)
    most = max_calls or CALLS_PER_BUDGET * budget
    limits = SearchLimits(budget=budget, max_calls=most, patience=patience, max_failures=max_failures)
    settings = {
        "optimizer": box.name,
        "objective": stable_name(objective.name, objective.score),
        "maximize": objective.maximize,
        "on": objective.on,
        "prior_weight": objective.prior_weight,
        "space": _fingerprint(objective.space),
        "targets": None
        if objective.targets is None
        else [objective.context, content_hash(objective.targets.cpu().numpy())],
        "generation": None if objective.decoder.vocabulary is None else repr(objective.decoder.generation),
        "seed": box.seed,
        "batch": batch,
        "asynchronous": asynchronous,
        "options": {key: repr_without_address(value) for key, value in sorted(box.settings.items())},
        "weights": objective.decoder.hash,
        "budget": budget,
        "max_calls": limits.max_calls,
        "timeout": timeout,
    }
    with ExitStack() as stack:
        killed = resume and out is not None and runs.Run(out).info.get("status") == "running"
        run, journal = _open_run(out, resume, settings, facts or {})
        if journal is not None:
            stack.callback(journal.close)
        caller = make_score_executor(objective, executor, timeout, chunk, batch)
        stack.callback(caller.close)
        search = Search(objective, box, caller, journal, limits, batch, asynchronous, callback or SearchCallback())
        try:
            search.begin(known, scored, killed)
            status, sentence = search.run()
            objective.decoder.verify()
        except BaseException as error:
            if run is not None:
                runs.note_end(run, error)
            raise
        result = search.result(status, sentence, settings, None if run is None else run.path)
        if run is not None:
            runs.update(run, status=status, sentence=sentence, finished=runs.now(), seconds=result.counters["seconds"])
    return result


def _fingerprint(space: LatentSpace) -> str:
    """What tells spaces apart: bounds, chart, active dimensions and known codes.

    The variances of the codes are left out: no proposal and no record of a search rests on them, and another model, of
    which they are, has other weights, its encoder's among them.
    """
    parts = [space.bounds, space.active, *([] if space.codes is None else [space.codes])]
    return content_hash((space.chart, *(content_hash(part.numpy()) for part in parts)))


def _resolve_optimizer(
    optimizer: str | BlackBox, objective: LatentObjective, seed: int, options: Mapping[str, Any]
) -> BlackBox:
    if isinstance(optimizer, str):
        return make_optimizer(optimizer, objective.space, seed=seed, maximize=objective.maximize, **options)
    if options:
        raise UsageError(f"{', '.join(options)}: the optimizer is made already", "Give them to lso.make_optimizer.")
    used = optimizer.asks or len(optimizer.history().z)
    if optimizer.maximize != objective.maximize or optimizer.space.dim != objective.dim or used:
        raise UsageError(
            f"{optimizer!r} does not fit {objective!r}, or was used before",
            f"Make one: lso.make_optimizer(name, objective.space, maximize={objective.maximize}); tell by known=.",
        )
    return optimizer


def make_score_executor(
    objective: LatentObjective, executor: Any, timeout: float | None, chunk: int = 1, batch: int = 1
) -> ScoreExecutor:
    """What carries out the calls of a search's score.

    Args:
        objective: holds the score.
        executor: see `optimize`.
        timeout: seconds for one object.
        chunk: objects that the score is given together in another process.
        batch: data that it is given together in this one.
    Returns:
        The caller, to be closed.
    """
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
            raise UsageError("resume without out", "Name the run folder to go on with.")
        return None, None
    if not resume:
        about = {"status": "running", "sentence": "", **facts, "search": settings, **asdict(runs.Provenance.here())}
        run = runs.create(runs.choose_folder("", out), "search", about)
        try:
            return run, Journal(run.path)
        except WriteError as error:
            runs.note_end(run, error)
            raise
    run = runs.Run(out)
    before = run.info.get("search", {})
    if "weights" not in before:
        raise RunError(f"{out} holds no black-box search", "Resume a folder that lso.optimize made.")
    changed = [key for key in RESUME_KEYS if before.get(key) != settings[key]]
    if changed:
        told = "; ".join(f"{key} was {before.get(key)!r}, now {settings[key]!r}" for key in changed)
        raise RunError(f"{out} is another search: {told}", "Resume with what it was begun with.")
    journal = Journal(run.path)
    runs.sweep(run)
    runs.update(run, status="running", **facts, search=settings)  # facts: the budget may be another
    return run, journal
