"""Black-box searches from names to run folders: a goal or targets, an optimizer, one or more seeds, a report."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from lso.black_box.ask_tell import make_optimizer, option_names, parse_values
from lso.black_box.export import write_search_files
from lso.black_box.loop import optimize
from lso.black_box.result import SearchResult
from lso.black_box.runner import Known
from lso.black_box.workers import Workers
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.optimizers import BLACK_BOX_OPTIMIZERS
from lso.reports.black_box_report import black_box_report
from lso.space import LatentSpace
from lso.tasks.goals import Goal, SearchTarget
from lso.tasks.search.gradient import freeze_decoder
from lso.tasks.search.initial_data import goal_objective, known_codes
from lso.tasks.search.options import BlackBoxConfig, BlackBoxSession
from lso.tasks.search.targets import Targets, load_data, parse_split
from lso.vae import runs
from lso.vae.callbacks import Callback, CallbackList, PartCallback, as_callback
from lso.vae.errors import RunError, UsageError
from lso.vae.progress import draw_progress
from lso.vae.runs import Run
from lso.vae.utils.files import Lock
from lso.vae.utils.trust import Trust

# Statuses other than ``finished``: of several searches the first of these stands for all.
PartCallbacks = Callable[[str, LatentObjective], Callback]  # of a part: its name and objective
EARLY_STATUSES = ("stopped", "failed", "decoder_ignores_latent", "stands_still", "invalid", "max_calls")


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
    callback: Callback | PartCallbacks | None = None,
    progress: bool = False,
    told: Callable[[Sequence[str]], None] | None = None,
) -> Run:
    """Search a trained model's latent space by a black-box optimizer, and write a run folder with records and report.

    Several seeds or targets are searched one after the other, each in a folder of its own below, so that an
    interrupted search can be resumed.

    Args:
        run: the training run of the model.
        sought: the goal, function or targets to search for.
        config: settings of the search.
        seeds: number of searches with different initial designs; the report says how much they differ.
        seed: seed of the first.
        out: run folder to make or to resume; None makes one under ``runs/``.
        resume: whether to resume the search in ``out``.
        device: device of the decoder.
        limit: search for the first ``limit`` targets only.
        callback: receives the progress of all searches, each under the name of its folder, and may stop them; or a
            function that makes the callback of one search, from its name and objective.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        told: called once, before the search, with sentences on how the targets were read, if there are any.
    """
    BlackBoxSession(seeds=seeds, limit=limit)  # checks them
    goal = sought.goal(run)
    if goal is None and (config.workers or config.timeout is not None):
        raise UsageError(
            "a reconstruction is scored in this process, without a timeout", "Leave workers and timeout out."
        )
    decoder, space, _ = freeze_decoder(run, device, bounds=config.bounds, chart=config.chart)
    targets = _load_targets(run, sought, limit)
    if targets is not None and told is not None:
        told(targets.notes)
    objectives = _build_objectives(goal, targets, decoder, space, config)
    make_optimizer(config.optimizer, space, **config.options)  # a wrong name must not leave a run folder behind
    _check_surrogate(config)
    known = None if goal is None or not config.known else known_codes(run, goal, decoder, config.known, seed)
    if known is not None:
        values = torch.tensor(parse_values(known[1], len(known[0])), dtype=torch.float64)
        known = known[0], objectives[0].with_prior(values, known[0])
    parts = [(i, number) for i in range(len(objectives)) for number in range(seeds)]
    facts = {
        "model": run.reference,
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
    with ExitStack() as held, draw_progress(Callback(), progress) as drawn:
        if not alone and not resume:
            runs.create(path, "search", {**about, **provenance_facts()})
        if not alone:
            held.enter_context(Lock(path))
            runs.remove_half_written(Run(path))
            runs.update_run(Run(path), **about)
        results: list[list[SearchResult]] = [[] for _ in objectives]
        try:
            for i, number in parts:
                names = (f"target-{i:03d}" * (len(objectives) > 1), f"seed-{seed + number}" * (seeds > 1))
                name = "-".join(filter(None, names))
                watched = CallbackList(_part_callback(callback, name, objectives[i]), PartCallback(drawn, name=name))
                again = resume and (path / name / runs.INFO).is_file()
                given = (config, path / name, seed + number, again, known, watched, facts if alone else {})
                results[i].append(_search(objectives[i], *given))
                if results[i][-1].status == "stopped":
                    break
            search_run = Run(path)
            _write_reports(search_run, run, results, goal, targets, alone)
        except RunError:  # another process may be searching in the folder of a part
            raise
        except BaseException as error:
            if not alone:
                runs.record_end(Run(path), error)
            raise
    return search_run


def resume_black_box(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust: Trust = False,
    callback: Callback | PartCallbacks | None = None,
) -> Run:
    """Resume an interrupted search, or continue a finished one with a larger budget.

    Settings of `BlackBoxConfig` that may be changed are budget, max_calls, max_failures, workers, timeout and chunk;
    others would make it another search. ``trust`` says which code named by the folder and by that of its model may
    run, see `lso.vae.utils.trust`.
    """
    info = Run(path).info
    if "sought" not in info:
        raise RunError(
            f"{path} is no black-box search of the command line",
            "Only those can be resumed here; start the search again.",
        )
    run = runs.searched_model(Run(path), trust)
    return search_black_box(
        run,
        _recorded_target(run, info, trust),
        BlackBoxConfig(**{**info["config"], **(changes or {})}),
        seeds=info["seeds"],
        seed=info["seed"],
        out=path,
        resume=True,
        device=device,
        limit=info["limit"],
        callback=callback,
    )


def _part_callback(callback: Callback | PartCallbacks | None, name: str, objective: LatentObjective) -> Callback:
    if callback is None or isinstance(callback, Callback):
        return PartCallback(as_callback(callback), name=name)
    return callback(name, objective)


def provenance_facts() -> dict[str, Any]:
    """Machine, versions and command of this process, for run.json."""
    return dataclasses.asdict(runs.Provenance.here())


def _write_reports(
    search_run: Run,
    run: Run,
    results: Sequence[Sequence[SearchResult]],
    goal: Goal | None,
    targets: Targets | None,
    alone: bool,
) -> None:
    """Write the reports and, where there are several searches, their common status."""
    best_possible = None if goal is None else goal.best
    told: dict[str, Any] = {"codes": run.codes(), "verdict": run.verdict, "best_possible": best_possible}
    model = f"{run.path.name} ({run.config.method.name}, {run.config.architecture.name}, {run.info['sentence']})"
    extra = {"model": model, "data of the model": run.info["dataset"]["name"]}
    extra |= {"goal": goal.summary} if goal is not None and goal.summary else {}
    extra |= {} if targets is None else {"targets": " ".join(targets.notes)}
    extra |= {key: str(search_run.info["config"][key]) for key in ("chart", "surrogate", "known")}
    groups = [group for group in results if group]
    for i, group in enumerate(groups):
        folder = search_run.path if len(results) == 1 else search_run.path / f"target-{i:03d}.html"
        black_box_report(group, folder, target="" if targets is None else targets.names[i], extra=extra, **told)
    if alone:
        return
    every = [result for group in groups for result in group]
    early = [result for word in EARLY_STATUSES for result in every if result.status == word]
    best = ["none" if result.best is None else f"{result.best_value:z.4g}" for result in every]
    runs.update_run(
        search_run,
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
    callback: Callback,
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
        **_feature_options(config, objective),
    )
    write_search_files(folder, result)
    return result


def _feature_options(config: BlackBoxConfig, objective: LatentObjective) -> dict[str, Any]:
    if config.surrogate == "latent":
        return {}
    from lso.black_box.bayesopt.features import decoded_features

    features, differentiable = decoded_features(objective)
    found = {"features": features, "differentiable": differentiable}
    return {key: found[key] for key in option_names(config.optimizer) if key in found}  # thompson needs no gradients


def _check_surrogate(config: BlackBoxConfig) -> None:
    if config.surrogate == "latent":
        return
    able = [name for name in BLACK_BOX_OPTIMIZERS if "features" in option_names(name)]
    if config.optimizer not in able:
        raise UsageError(f"{config.optimizer} has no model of decoded objects", f"These have: {', '.join(able)}.")


def _recorded_target(run: Run, info: Mapping[str, Any], trust: Trust) -> SearchTarget:
    """Read what a recorded search is for."""
    # Earlier versions binarized target files wherever training did; a search begun by them keeps doing so.
    target = SearchTarget.recorded(info, trust)
    files = target.target is not None and run.config.kind == "image" and parse_split(target.target) is None
    drew = files and "pixels" not in info["sought"] and run.config.protocol.binarize != "none"
    return dataclasses.replace(target, pixels={"binarize": True}) if drew else target


def _load_targets(run: Run, sought: SearchTarget, limit: int | None) -> Targets | None:
    if sought.target is None:
        return None
    targets = load_data(run, sought.target, pixels=sought.pixels)
    return targets if limit is None else targets.first(limit)


def _build_objectives(
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
