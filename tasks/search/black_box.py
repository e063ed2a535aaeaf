"""A black-box search from names to a run folder: a goal or targets, an optimizer, several initial designs, a report."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lso.black_box.ask_tell import make_optimizer, option_names, parse_values
from lso.black_box.export import write_search_files
from lso.black_box.loop import optimize
from lso.black_box.result import SearchResult
from lso.black_box.runner import Known, SearchCallback
from lso.black_box.workers import Workers
from lso.decoders.decoder import Decoder
from lso.objectives.failures import MAX_FAILURES
from lso.objectives.latent_objective import LatentObjective
from lso.optimizers import BLACK_BOX_OPTIMIZERS, merge_options
from lso.reports.black_box_report import black_box_report
from lso.space import LatentSpace
from lso.tasks.goals import Goal, SearchTarget
from lso.tasks.search.gradient import frozen
from lso.tasks.search.initial_data import goal_objective, known_codes
from lso.tasks.search.targets import Targets, part_of, pick
from lso.vae import runs
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run
from lso.vae.utils.files import Lock
from lso.vae.utils.trust import Trust
from lso.vae.utils.validation import require

SURROGATES = ("latent", "decoded")
# Statuses other than ``finished``: of several searches the first of these stands for all.
EARLY = ("stopped", "failed", "decoder_ignores_latent", "stands_still", "invalid", "max_calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBoxConfig:
    """How to search.

    Args:
        optimizer: row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`; options in its name become `options`.
        options: of the optimizer.
        budget: unique valid objects to be scored, of each search.
        batch: codes proposed together.
        max_calls: calls in all; None is ten times the budget.
        asynchronous: whether to ask again as soon as one call is finished.
        workers: processes for the score; 0 scores in this one.
        timeout: seconds for one object.
        chunk: objects that a process scores together.
        max_failures: see `lso.black_box.loop.optimize`.
        known: data whose values are known beforehand and told to the optimizer, where the goal has such.
        surrogate: whether a model is fitted on codes (``latent``) or on features of what they decode to (``decoded``).
        chart: see `LatentSpace`.
        bounds: half-width of the box, or ``"codes"``.
        prior_weight: weight of |z|^2/2 in the value.
        loss: of targets, see `LatentObjective.reconstruct`.
    Raises:
        UsageError: if a number is out of range.
    """

    optimizer: str = "turbo"
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: int = 100
    batch: int = 4
    max_calls: int | None = None
    asynchronous: bool = False
    workers: int = 0
    timeout: float | None = None
    chunk: int = 1
    max_failures: int = MAX_FAILURES
    known: int = 0
    surrogate: str = "latent"
    chart: str = "box"
    bounds: float | str = 3.0
    prior_weight: float = 0.0
    loss: str = "sse"

    def __post_init__(self) -> None:
        name, options = merge_options(self.optimizer, self.options)
        object.__setattr__(self, "optimizer", name)
        object.__setattr__(self, "options", options)
        require(self.workers >= 0, "workers >= 0", self.workers, "0 scores in this process.")
        require(self.known >= 0, "known >= 0", self.known, "0 tells the optimizer nothing beforehand.")
        require(
            self.surrogate in SURROGATES,
            f"a surrogate of {', '.join(SURROGATES)}",
            self.surrogate,
            "latent: a model of codes; decoded: of features of what they decode to.",
        )


def search_black_box(
    run: Run,
    sought: SearchTarget,
    config: BlackBoxConfig = BlackBoxConfig(),
    *,
    seeds: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    limit: int | None = None,
    callback: Callable[[str, LatentObjective], SearchCallback] | None = None,
    told: Callable[[Sequence[str]], None] | None = None,
) -> Run:
    """Search a trained model's latent space by a black-box optimizer, and write a run folder with records and report.

    Several seeds (other initial designs) or targets are searched one after the other, each in a folder of its own
    below, so that an interrupted one goes on where it was.

    Args:
        run: a training run.
        sought: what is searched for.
        config: how.
        seeds: searches with other initial designs; the report says how much they differ.
        seed: of the first.
        out: run folder to make, or to go on with; None makes one under ``runs/``.
        resume: go on with ``out``.
        device: of the decoder.
        limit: of targets, the first so many.
        callback: progress and stop requests of a part, by its name and objective.
        told: called once, before the search, with what was done to the targets, where there are any.
    Returns:
        The search run.
    Raises:
        UsageError: for a wrong name or value.
        DataError: if targets or known data cannot be read.
        RunError: if ``out`` is taken or of another search, or another process searches there.
    """
    require(seeds >= 1, "seeds >= 1", seeds, "3 to 10 show whether the initial design matters.")
    goal = sought.goal(run)
    if goal is None and (config.workers or config.timeout is not None):
        raise UsageError(
            "a reconstruction is scored in this process, without a timeout", "Leave workers and timeout out."
        )
    decoder, space, _ = frozen(run, device, bounds=config.bounds, chart=config.chart)
    targets = _targets(run, sought, limit)
    if targets is not None and told is not None:
        told(targets.notes)
    objectives = _objectives(goal, targets, decoder, space, config)
    make_optimizer(config.optimizer, space, **config.options)  # a wrong name must not leave a run folder behind
    _able(config)
    known = None if goal is None or not config.known else known_codes(run, goal, decoder, config.known, seed)
    if known is not None:
        values = torch.tensor(parse_values(known[1], len(known[0])), dtype=torch.float64)
        known = known[0], objectives[0].with_prior(values, known[0])
    parts = [(i, number) for i in range(len(objectives)) for number in range(seeds)]
    facts = {
        "model": str(run.path.resolve()),
        "sought": dataclasses.asdict(sought),
        "config": dataclasses.asdict(config),
        "seeds": seeds,
        "seed": seed,
        "limit": limit,
        "verdict": run.verdict,
    }
    label = f"{run.config.data.task}-search-{config.optimizer}"
    path = Path(out) if resume and out is not None else runs.choose_folder(label, out)
    alone = len(parts) == 1
    about = {"status": "running", "sentence": "", "search": facts["config"], **facts}
    with ExitStack() as held:
        if not alone and not resume:
            runs.create(path, "search", {**about, **here()})
        if not alone:
            held.enter_context(Lock(path))
            runs.sweep(Run(path))
            runs.update(Run(path), **about)
        results: list[list[SearchResult]] = [[] for _ in objectives]
        try:
            for i, number in parts:
                names = (f"target-{i:03d}" * (len(objectives) > 1), f"seed-{seed + number}" * (seeds > 1))
                name = "-".join(filter(None, names))
                watched = callback(name, objectives[i]) if callback is not None else SearchCallback()
                again = resume and (path / name / runs.INFO).is_file()
                given = (config, path / name, seed + number, again, known, watched, facts if alone else {})
                results[i].append(_search(objectives[i], *given))
                if results[i][-1].status == "stopped":
                    break
            found = Run(path)
            _conclude(found, run, results, goal, targets, alone)
        except RunError:  # another process may be searching in the folder of a part
            raise
        except BaseException as error:
            if not alone:
                runs.note_end(Run(path), error)
            raise
    return found


def resume_black_box(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust: Trust = False,
    callback: Callable[[str, LatentObjective], SearchCallback] | None = None,
) -> Run:
    """Go on with an interrupted search, or with a finished one and a larger budget.

    Args:
        path: its run folder.
        changes: of `BlackBoxConfig`, where they do not make it another search: budget, max_calls, max_failures,
            workers, timeout, chunk.
        device: of the decoder.
        trust: what may run of the code that the folder and that of its model name, see `lso.vae.utils.trust`.
        callback: see `search_black_box`.
    Returns:
        The search run.
    Raises:
        RunError: if it is no black-box search of `search_black_box`, its model is gone, or another process searches
            there.
        UsageError: if a change makes it another search, or the folder names a score that is not to be trusted.
    """
    info = Run(path).info
    if "sought" not in info:
        raise RunError(f"{path} is no black-box search of the command line", "Only those are resumed; start it again.")
    if not Path(info.get("model", "")).is_dir() or not info.get("model"):
        raise RunError(f"the model of {path} is gone: {info.get('model')}", "Put it back there.")
    run = Run(info["model"], trust=trust)
    return search_black_box(
        run,
        _sought(run, info, trust),
        BlackBoxConfig(**{**info["config"], **(changes or {})}),
        seeds=info["seeds"],
        seed=info["seed"],
        out=path,
        resume=True,
        device=device,
        limit=info["limit"],
        callback=callback,
    )


def here() -> dict[str, Any]:
    """Where and with what, for run.json."""
    return dataclasses.asdict(runs.Provenance.here())


def _conclude(
    found: Run,
    run: Run,
    results: Sequence[Sequence[SearchResult]],
    goal: Goal | None,
    targets: Targets | None,
    alone: bool,
) -> None:
    """Reports, and where there are several searches, the status of them all."""
    best_possible = None if goal is None else goal.best
    told: dict[str, Any] = {"codes": run.codes(), "verdict": run.verdict, "best_possible": best_possible}
    model = f"{run.path.name} ({run.config.method.name}, {run.config.architecture.name}, {run.info['sentence']})"
    extra = {"model": model, "data of the model": run.info["dataset"]["name"]}
    extra |= {"goal": goal.summary} if goal is not None and goal.summary else {}
    extra |= {} if targets is None else {"targets": " ".join(targets.notes)}
    extra |= {key: str(found.info["config"][key]) for key in ("chart", "surrogate", "known")}
    groups = [group for group in results if group]
    for i, group in enumerate(groups):
        folder = found.path if len(results) == 1 else found.path / f"target-{i:03d}.html"
        black_box_report(group, folder, target="" if targets is None else targets.names[i], extra=extra, **told)
    if alone:
        return
    every = [result for group in groups for result in group]
    early = [result for word in EARLY for result in every if result.status == word]
    best = ["none" if result.best is None else f"{result.best_value:z.4g}" for result in every]
    runs.update(
        found,
        status=early[0].status if early else "finished",
        sentence=f"{len(every)} search{'es' * (len(every) != 1)}: best values {', '.join(best[:12])}"
        + f" and {len(best) - 12} more" * (len(best) > 12)
        + (f". {len(early)} ended early: {early[0].sentence}" if early else ""),
        finished=runs.now(),
        seconds=sum(float(result.counters["seconds"]) for result in every),
    )


def _search(
    objective: LatentObjective,
    config: BlackBoxConfig,
    folder: Path,
    seed: int,
    resume: bool,
    known: Known | None,
    callback: SearchCallback,
    facts: Mapping[str, Any],
) -> SearchResult:
    workers, timeout = config.workers, config.timeout
    result = optimize(
        objective,
        config.optimizer,
        config.budget,
        config.batch,
        executor=(lambda: Workers(workers, timeout)) if workers else None,
        timeout=None if workers else timeout,
        chunk=config.chunk,
        max_calls=config.max_calls,
        max_failures=config.max_failures,
        out=folder,
        resume=resume,
        asynchronous=config.asynchronous,
        known=known,
        seed=seed,
        callback=callback,
        facts=facts,
        **config.options,
        **_features(config, objective),
    )
    write_search_files(folder, result)
    return result


def _features(config: BlackBoxConfig, objective: LatentObjective) -> dict[str, Any]:
    if config.surrogate == "latent":
        return {}
    from lso.black_box.bayesopt.features import decoded_features

    features, differentiable = decoded_features(objective)
    found = {"features": features, "differentiable": differentiable}
    return {key: found[key] for key in option_names(config.optimizer) if key in found}  # thompson needs no gradients


def _able(config: BlackBoxConfig) -> None:
    if config.surrogate == "latent":
        return
    able = [name for name in BLACK_BOX_OPTIMIZERS if "features" in option_names(name)]
    if config.optimizer not in able:
        raise UsageError(f"{config.optimizer} has no model of decoded objects", f"These have: {', '.join(able)}.")


def _sought(run: Run, info: Mapping[str, Any], trust: Trust) -> SearchTarget:
    """What a recorded search is for; earlier versions drew files to black and white wherever training did."""
    found = SearchTarget.recorded(info, trust)
    files = found.target is not None and run.config.kind == "image" and part_of(found.target) is None
    drew = files and "pixels" not in info["sought"] and run.config.protocol.binarize != "none"
    return dataclasses.replace(found, pixels={"binarize": True}) if drew else found


def _targets(run: Run, sought: SearchTarget, limit: int | None) -> Targets | None:
    if sought.target is None:
        return None
    targets = pick(run, sought.target, pixels=sought.pixels)
    return targets if limit is None else targets.first(limit)


def _objectives(
    goal: Goal | None, targets: Targets | None, decoder: Decoder, space: LatentSpace, config: BlackBoxConfig
) -> list[LatentObjective]:
    if goal is not None:
        objective = goal_objective(goal, decoder, space, prior_weight=config.prior_weight)
        return [objective]
    assert targets is not None
    whole = LatentObjective.reconstruct(
        decoder,
        targets.batch,
        None if decoder.vocabulary is not None else config.loss,
        space=space,
        prior_weight=config.prior_weight,
    )
    assert whole.targets is not None
    return [whole.take([i]) for i in range(len(whole.targets))]
