"""``lso optimize`` by gradient, as a black box and with retraining: what each shows and how it ends."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from lso.cli.console import Console, shown, span
from lso.cli.output_paths import opened, training_run
from lso.cli.signals import Signals
from lso.tasks.task import task
from lso.vae import runs
from lso.vae.errors import RunError
from lso.vae.runs import Run, list_runs
from lso.vae.utils.reading import read_json

COLOURS = {"fine": "green", "care": "yellow", "doubt": "red"}


def search_by_gradient(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search and print what was found."""
    run = training_run(model, console, **opening)
    runs.choose_folder("", where["out"])
    console.loading()
    from lso.cli.progress.training import SearchProgress
    from lso.tasks.goals import SearchTarget
    from lso.tasks.search.gradient import SearchConfig, search_goal, search_targets

    what, config = SearchTarget(**sought), SearchConfig(**settings)
    goal = what.goal(run)
    latent = run.config.architecture.latent_dim
    console.note(
        f"Searching {latent} latents of {shown(run.path)} ({run.config.method.name}) for {what}: "
        f"{config.optimizer}, {config.starts} starts{' each' if goal is None else ''}, seed {where['seed']}"
    )
    if run.verdict:
        console.warn(run.verdict)
    with Signals() as signals:
        signals.listen()
        callback = SearchProgress(console, signals, deadline)
        try:
            if goal is None:
                told = console.notes
                found = search_targets(
                    run, str(what.target), config, pixels=what.pixels, callback=callback, told=told, **where
                )
            else:
                found = search_goal(run, goal, config, callback=callback, **where)
        finally:
            callback.close()
    _conclude_gradient(found, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _conclude_gradient(found: Run, console: Console) -> None:
    from lso.reports.key_numbers import essence_across

    report: dict[str, Any] = read_json(found.path / "report.json")
    info, verdict = found.info, report["verdict"]
    console.emit(
        {
            "run": found.path,
            "model": info["model"],
            "status": info["status"],
            "sentence": info["sentence"],
            "verdict": {key: verdict[key] for key in ("level", "sentence", "training")},
            "essence": report["essence"],
            "report": found.path / runs.REPORT,
        }
    )
    if console.json:
        return
    essence = dict(report["essence"])
    level = essence.pop("verdict")
    table = essence_across({"median over targets": essence})
    console.table(table.columns, table.rows)
    console.result()
    console.result(f"{info['sentence']} ({span(info['seconds'])})")
    console.result(verdict["sentence"], COLOURS[level])
    if verdict["training"]:
        console.result(f"The training run said: {verdict['training']}")
    console.result(f"report: {shown(found.path / runs.REPORT)}")
    console.result(shown(found.path))


def search_black_box(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search and print what was found.

    Args:
        console: where to print.
        model: a training run; None is the newest, of the task if one is named.
        sought: of `lso.tasks.goals.SearchTarget`.
        settings: of `lso.tasks.search.black_box.BlackBoxConfig`.
        where: seeds, seed, out, device and limit.
        deadline: seconds that this session may take.
        opening: trust and accept_changes, see `lso.cli.output_paths.opened`.
    """
    run = training_run(model or trained_on(sought["task"]), console, **opening)
    runs.choose_folder("", where["out"])
    console.loading()
    from lso.tasks.goals import SearchTarget
    from lso.tasks.search.black_box import BlackBoxConfig, search_black_box

    what, config = SearchTarget(**sought), BlackBoxConfig(**settings)
    _announce(console, run, what, config, where)
    where = {**where, "told": console.notes}
    carry_out(console, lambda callback: search_black_box(run, what, config, callback=callback, **where), deadline)


def resume_black_box(
    console: Console,
    path: Path,
    changes: Mapping[str, Any],
    deadline: float | None,
    device: str,
    opening: Mapping[str, Any],
) -> None:
    """Go on with a search and print what was found."""
    run = opened(path, console, **opening)
    run.require("search")
    again = "every" in run.info["search"]
    options: dict[str, Any] = {"device": device, "trust": run.trust}
    console.loading()
    console.note(f"Going on with {shown(path)}")
    if again:
        resume_retraining(console, path, changes, deadline, options)
        return
    from lso.tasks.search.black_box import resume_black_box

    carry_out(console, lambda callback: resume_black_box(path, changes=changes, callback=callback, **options), deadline)


def trained_on(name: str | None) -> Path | None:
    """The newest training on a task.

    Args:
        name: of the task, perhaps with its goal.
    Returns:
        The folder; None where no task is named or none was trained on its data.
    """
    if name is None:
        return None
    base = task(name.partition(":")[0]).name
    for run in reversed(list_runs()):
        try:
            if run.kind == "train" and run.config.data.task == base and (run.path / runs.MODEL).is_file():
                return run.path
        except RunError:
            continue
    return None


def _announce(console: Console, run: Run, what: Any, config: Any, where: Mapping[str, Any]) -> None:
    seeds = f"{where['seeds']} seeds from {where['seed']}" if where["seeds"] > 1 else f"seed {where['seed']}"
    console.note(
        f"Searching {run.config.architecture.latent_dim} latents of {shown(run.path)} ({run.config.method.name}) "
        f"for {what}: {config.optimizer}, budget {config.budget}, batch {config.batch}, {seeds}"
    )
    if run.verdict:
        console.warn(run.verdict)


def carry_out(console: Console, work: Callable[[Any], Run], deadline: float | None, retraining: bool = False) -> None:
    """Search until it ends or is to stop, and print what was found."""
    from lso.cli.progress.black_box import BlackBoxProgress, RetrainingProgress

    with Signals() as signals:
        signals.listen()
        callback = (RetrainingProgress if retraining else BlackBoxProgress)(console, signals, deadline)
        try:
            found = work(callback.part)
        finally:
            callback.close()
    _conclude_black_box(found, console)
    code = signals.exit_code or int(found.info["status"] == "failed")  # the score, all the time
    if code:
        raise typer.Exit(code)


def _conclude_black_box(found: Run, console: Console) -> None:
    info = found.info
    pages = [path for path in [found.path / runs.REPORT, *sorted(found.path.glob("target-*.html"))] if path.is_file()]
    reports = [read_json(path.with_suffix(".json")) for path in pages]
    console.emit(
        {
            "run": found.path,
            "model": info["model"],
            "status": info["status"],
            "sentence": info["sentence"],
            "reports": [
                {"report": page, "verdict": report["verdict"], "essence": report["essence"]}
                for page, report in zip(pages, reports, strict=True)
            ],
        }
    )
    if console.json:
        return
    from lso.reports.key_numbers import essence_across

    for report in reports:
        table = essence_across({"median over seeds" if report["essence"]["seeds"] > 1 else "value": report["essence"]})
        console.table(table.columns, table.rows)
    console.result()
    console.result(f"{info['sentence']} ({span(info['seconds'])})")
    for page, report in zip(pages, reports, strict=True):
        verdict = report["verdict"]
        console.result(verdict["sentence"], COLOURS[verdict["level"]])
        console.result(f"report: {shown(page)}")
    console.result(shown(found.path))


def search_with_retraining(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search, retrain and search again, and print what was found.

    Args:
        console: where to print.
        model: a training run; None is the newest, of the task if one is named.
        sought: of `lso.tasks.goals.SearchTarget`.
        settings: of `lso.tasks.retraining.records.RetrainingConfig`.
        where: workers, timeout, chunk, max_failures, out and device.
        deadline: seconds that this session may take.
        opening: trust and accept_changes, see `lso.cli.output_paths.opened`.
    """
    run = training_run(model or trained_on(sought["task"]), console, **opening)
    runs.choose_folder("", where["out"])
    console.loading()
    from lso.tasks.goals import SearchTarget
    from lso.tasks.retraining.run import search_retraining

    what = SearchTarget(**sought)
    console.note(
        f"Searching {run.config.architecture.latent_dim} latents of {shown(run.path)} ({run.config.method.name}) "
        f"for {what}: {settings['optimizer']}, budget {settings['budget']}, batch {settings['batch']}, "
        f"retraining every {settings['every']} (k {settings['k']:g}), seed {settings['seed']}"
    )
    if run.verdict:
        console.warn(run.verdict)
    carry_out(
        console, lambda callback: search_retraining(run, what, settings, callback=callback, **where), deadline, True
    )


def resume_retraining(
    console: Console, path: Path, changes: Mapping[str, Any], deadline: float | None, options: Mapping[str, Any]
) -> None:
    """Go on with weighted retraining and print what was found."""
    from lso.tasks.retraining.run import resume_retraining

    carry_out(
        console,
        lambda callback: resume_retraining(path, changes=changes, callback=callback, **options),
        deadline,
        True,
    )
