"""A search by gradient from the command line: what it shows and how it ends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from lso.cli.console import Console, shown, span
from lso.cli.places import training_run
from lso.cli.signals import Signals
from lso.vae import runs
from lso.vae.reading import read_json
from lso.vae.runs import Run

COLOURS = {"fine": "green", "care": "yellow", "doubt": "red"}


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
        model: a training run; None is the newest.
        sought: of `lso.tasks.sought.Sought`.
        settings: of `lso.tasks.search.SearchConfig`.
        where: seed, out, device, control, and of targets limit.
        deadline: seconds that the search may take.
        opening: trust and accept_changes, see `lso.cli.places.opened`.
    """
    run = training_run(model, console, **opening)
    runs.choose_folder("", where["out"])
    console.loading()
    from lso.cli.progress import SearchProgress
    from lso.tasks.search import SearchConfig, search_goal, search_targets
    from lso.tasks.sought import Sought

    what, config = Sought(**sought), SearchConfig(**settings)
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
        watch = SearchProgress(console, signals, deadline)
        try:
            if goal is None:
                told = console.notes
                found = search_targets(
                    run, str(what.target), config, pixels=what.pixels, watch=watch, told=told, **where
                )
            else:
                found = search_goal(run, goal, config, watch=watch, **where)
        finally:
            watch.close()
    _conclude(found, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _conclude(found: Run, console: Console) -> None:
    from lso.essence import essence_across

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
