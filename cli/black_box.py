"""A black-box search from the command line: its live line, and how it ends."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from lso.cli.by_gradient import COLOURS
from lso.cli.console import Console, shown, span
from lso.cli.places import opened, training_run
from lso.cli.signals import Signals
from lso.tasks.task import task
from lso.vae import runs
from lso.vae.errors import RunError
from lso.vae.reading import read_json
from lso.vae.runs import Run, list_runs


def search(
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
        sought: of `lso.tasks.sought.Sought`.
        settings: of `lso.tasks.black_box.BlackBoxConfig`.
        where: seeds, seed, out, device and limit.
        deadline: seconds that this session may take.
        opening: trust and accept_changes, see `lso.cli.places.opened`.
    """
    run = training_run(model or trained_on(sought["task"]), console, **opening)
    runs.choose_folder("", where["out"])
    console.loading()
    from lso.tasks.black_box import BlackBoxConfig, search_black_box
    from lso.tasks.sought import Sought

    what, config = Sought(**sought), BlackBoxConfig(**settings)
    _announce(console, run, what, config, where)
    where = {**where, "told": console.notes}
    carry_out(console, lambda watch: search_black_box(run, what, config, watch=watch, **where), deadline)


def resume(
    console: Console,
    path: Path,
    changes: Mapping[str, Any],
    deadline: float | None,
    device: str,
    opening: Mapping[str, Any],
) -> None:
    """Go on with a search and print what was found.

    Args:
        console: where to print.
        path: its run folder.
        changes: see `lso.tasks.black_box.resume_black_box`.
        deadline: seconds that this session may take.
        device: of the decoder.
        opening: trust and accept_changes, see `lso.cli.places.opened`.
    """
    run = opened(path, console, **opening)
    run.require("search")
    again = "every" in run.info["search"]
    options: dict[str, Any] = {"device": device, "trust": run.trust}
    console.loading()
    console.note(f"Going on with {shown(path)}")
    if again:
        from lso.cli import retraining

        retraining.resume(console, path, changes, deadline, options)
        return
    from lso.tasks.black_box import resume_black_box

    carry_out(console, lambda watch: resume_black_box(path, changes=changes, watch=watch, **options), deadline)


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
    """Search until it ends or is to stop, and print what was found.

    Args:
        console: where to print.
        work: searches, given what watches it.
        deadline: seconds that this session may take.
        retraining: whether the model is trained on between searches.
    Raises:
        Exit: where a signal ended it.
    """
    from lso.cli.black_box_progress import BlackBoxProgress
    from lso.cli.retraining_progress import RetrainingProgress

    with Signals() as signals:
        signals.listen()
        watch = (RetrainingProgress if retraining else BlackBoxProgress)(console, signals, deadline)
        try:
            found = work(watch.part)
        finally:
            watch.close()
    _conclude(found, console)
    code = signals.exit_code or int(found.info["status"] == "failed")  # the score, all the time
    if code:
        raise typer.Exit(code)


def _conclude(found: Run, console: Console) -> None:
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
    from lso.essence import essence_across

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
