"""The three kinds of search of ``lso optimize``: by gradient, black box, and black box with retraining."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lso.cli.console import Console, display_path, format_duration, table_lines
from lso.cli.output_paths import open_run, open_training
from lso.cli.signals import Signals
from lso.tasks.task import task
from lso.vae import runs
from lso.vae.errors import RunError
from lso.vae.metrics.verdict import LEVELS
from lso.vae.runs import Run, list_runs
from lso.vae.utils.reading import read_json

if TYPE_CHECKING:
    from lso.tasks.goals import SearchTarget
    from lso.vae.callbacks import Callback

VERDICT_COLOURS = {"fine": "green", "care": "yellow", "doubt": "red"}


def search_by_gradient(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    config: Mapping[str, Any],
    session: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search by gradient, and print the result; the arguments are those of `run_black_box`."""
    run = open_training(model, console, **opening)
    runs.choose_folder("", session["out"])
    console.loading()
    from lso.cli.progress import StopRequests, show_work
    from lso.tasks.goals import SearchTarget
    from lso.tasks.search.gradient import search_goal, search_targets
    from lso.tasks.search.options import SearchConfig

    target, settings = SearchTarget(**sought), SearchConfig(**config)
    goal = target.goal(run)
    starts = f"{settings.starts} starts{' each' if goal is None else ''}"
    _announce(console, run, target, f"{settings.optimizer}, {starts}, seed {session['seed']}")
    with Signals() as signals:
        signals.listen()
        with show_work(console, StopRequests(signals, deadline)) as callback:
            if goal is None:
                options = {"pixels": target.pixels, "callback": callback, "told": console.notes, **session}
                found = search_targets(run, str(target.target), settings, **options)
            else:
                found = search_goal(run, goal, settings, callback=callback, **session)
    _conclude_gradient(found, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _conclude_gradient(found: Run, console: Console) -> None:
    page = found.path / runs.REPORT
    report = read_json(page.with_suffix(".json"))
    verdict = {key: report["verdict"][key] for key in ("level", "sentence", "training")}
    essence = {
        "verdict": verdict,
        "essence": report["essence"],
        "best_object": report.get("best_object"),
        "report": page,
    }
    console.emit({**_ended(found), **essence})
    _print_reports(found, {page: report}, console)


def _ended(found: Run) -> dict[str, Any]:
    """What the JSON answer says of a search, whatever its kind."""
    return {"run": found.path, **{key: found.info[key] for key in ("model", "status", "sentence")}}


def _print_reports(found: Run, reports: Mapping[Path, Mapping[str, Any]], console: Console) -> None:
    """Print the essence of a search, its verdict and where its reports are; with --verbose all key numbers."""
    if console.json:
        return
    from lso.reports.terminal import essence_table, verbose_table

    named = {page.stem if len(reports) > 1 else "value": report for page, report in reports.items()}
    if reports:
        table = essence_table(named)
        for line in table_lines(table.columns, table.rows)[len(reports) == 1 :]:  # one report needs no headings
            console.result(line)
        if console.verbose:
            table = verbose_table(named)
            console.result()
            console.table(table.columns, table.rows)
    console.result(f"{found.info['sentence']} ({format_duration(found.info['seconds'])})")
    ranked = sorted(named.items(), key=lambda one: LEVELS.index(one[1]["verdict"]["level"]), reverse=True)
    for name, report in ranked if console.verbose else ranked[:1]:  # of several, the one that is least believed
        verdict = report["verdict"]
        known = verdict["training"] and verdict["training"] not in verdict["sentence"]
        training = f" The training reported: {verdict['training']}" if known else ""
        sentence = f"{name}: " * (len(named) > 1) + verdict["sentence"] + training
        console.result(sentence, VERDICT_COLOURS[verdict["level"]])
    pages = [display_path(page) for page in reports]
    if pages:
        more = f" to {pages[-1]} ({len(pages)} reports)" if len(pages) > 1 else ""
        console.result(f"report: {pages[0]}{more}")
    console.result(display_path(found.path))


def run_black_box(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    config: Mapping[str, Any],
    session: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search as a black box, and print the result.

    Args:
        console: where to print.
        model: a training run; None is the newest one, trained on the task's data if a task is named.
        sought: fields of `lso.tasks.goals.SearchTarget`.
        config: fields of `lso.tasks.search.options.BlackBoxConfig`.
        session: further arguments of the search: seeds, seed, out, device and limit.
        deadline: seconds that this session may take; None is no limit.
        opening: trust and accept_changes, see `lso.cli.output_paths.open_run`.
    """
    run = open_training(model or newest_training_on(sought["task"]), console, **opening)
    runs.choose_folder("", session["out"])
    console.loading()
    from lso.tasks.goals import SearchTarget
    from lso.tasks.search.black_box import search_black_box
    from lso.tasks.search.options import BlackBoxConfig

    target, settings = SearchTarget(**sought), BlackBoxConfig(**config)
    seeds, seed = session["seeds"], session["seed"]
    seed_text = f"{seeds} seeds from {seed}" if seeds > 1 else f"seed {seed}"
    budget = f"budget {settings.budget}, batch {settings.batch}"
    _announce(console, run, target, f"{settings.optimizer}, {budget}, {seed_text}")
    options = {"told": console.notes, **session}
    run_search(
        console, lambda callback: search_black_box(run, target, settings, callback=callback, **options), deadline
    )


def continue_black_box(
    console: Console,
    path: Path,
    changes: Mapping[str, Any],
    deadline: float | None,
    device: str,
    opening: Mapping[str, Any],
) -> None:
    """Continue a black-box search, with or without retraining, and print the result."""
    run = open_run(path, console, **opening)
    run.require("search")
    options: dict[str, Any] = {"device": device, "trust": run.trust}
    console.loading()
    console.note(f"Continuing {display_path(path)}")
    if "every" in run.info["search"]:  # only weighted retraining has this setting
        continue_retraining(console, path, changes, deadline, options)
        return
    from lso.tasks.search.black_box import resume_black_box

    run_search(
        console, lambda callback: resume_black_box(path, changes=changes, callback=callback, **options), deadline
    )


def newest_training_on(name: str | None) -> Path | None:
    """The newest training with weights on the data of a task (``task`` or ``task:goal``); None if there is none."""
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


def _announce(console: Console, run: Run, target: "SearchTarget", how: str) -> None:
    """Say what is searched for, in which model and how; warn if its latents have collapsed."""
    model = f"{run.config.architecture.latent_dim} latents of {display_path(run.path)} ({run.config.method.name})"
    console.note(f"Searching {model} for {target}: {how}")
    if run.verdict:
        console.warn(run.verdict)


def run_search(console: Console, search: "Callable[[Callback], Run]", deadline: float | None) -> None:
    """Run a search under signals and a deadline with its progress shown, and print the result."""
    from lso.cli.progress import StopRequests, show_work

    with Signals() as signals:
        signals.listen()
        with show_work(console, StopRequests(signals, deadline, "time limit")) as callback:
            found = search(callback)
    _conclude_black_box(found, console)
    code = signals.exit_code or int(found.info["status"] == "failed")  # failed: the score gave errors only
    if code:
        raise typer.Exit(code)


def _conclude_black_box(found: Run, console: Console) -> None:
    pages = [path for path in [found.path / runs.REPORT, *sorted(found.path.glob("target-*.html"))] if path.is_file()]
    reports = {page: read_json(page.with_suffix(".json")) for page in pages}
    told = [
        {"report": page, **{key: report.get(key) for key in ("verdict", "essence", "best_object")}}
        for page, report in reports.items()
    ]
    console.emit({**_ended(found), "reports": told})
    _print_reports(found, reports, console)


def search_with_retraining(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    config: Mapping[str, Any],
    session: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search as a black box, retraining the model in between, and print the result.

    Args:
        console: where to print.
        model: as of `run_black_box`.
        sought: as of `run_black_box`.
        config: fields of `lso.tasks.retraining.options.RetrainingConfig`.
        session: further arguments of the search: workers, timeout, chunk, max_failures, out and device.
        deadline: as of `run_black_box`.
        opening: as of `run_black_box`.
    """
    run = open_training(model or newest_training_on(sought["task"]), console, **opening)
    runs.choose_folder("", session["out"])
    console.loading()
    from lso.tasks.goals import SearchTarget
    from lso.tasks.retraining.options import RetrainingConfig
    from lso.tasks.retraining.run import search_retraining

    target, settings = SearchTarget(**sought), RetrainingConfig(**config)
    budget = f"budget {settings.budget}, batch {settings.batch}"
    retraining = f"retraining every {settings.every} objects (k {settings.k:g})"
    _announce(console, run, target, f"{settings.optimizer}, {budget}, {retraining}, seed {settings.seed}")
    run_search(console, lambda callback: search_retraining(run, target, config, callback=callback, **session), deadline)


def continue_retraining(
    console: Console, path: Path, changes: Mapping[str, Any], deadline: float | None, options: Mapping[str, Any]
) -> None:
    """Continue a search with retraining, and print the result."""
    from lso.tasks.retraining.run import resume_retraining

    run_search(
        console,
        lambda callback: resume_retraining(path, changes=changes, callback=callback, **options),
        deadline,
    )


RUNNERS: Mapping[str, Callable[..., None]] = {
    "gradient": search_by_gradient,
    "black_box": run_black_box,
    "retraining": search_with_retraining,
}
