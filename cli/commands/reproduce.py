"""``lso reproduce``: train the models of a published table and compare the figures. Repeat the command to continue."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, command_line, display_path
from lso.cli.options import (
    OUTPUT,
    AcceptChanges,
    Device,
    IwSamples,
    Json,
    Quiet,
    TestLimit,
    TimeLimit,
    Verbose,
    completion,
    seconds,
)
from lso.cli.signals import Signals
from lso.reports.report_kind import require_own
from lso.tasks.papers import comparison, published_tables
from lso.tasks.papers import reproduce as reproduction
from lso.tasks.training import run_set
from lso.vae.runs import runs_root
from lso.vae.utils.reading import read_json

if TYPE_CHECKING:
    from lso.tasks.papers.image_targets import PublishedCount

REDUCED = "Smaller than the paper's protocol"  # heading in --help


def complete_tables() -> list[tuple[str, str]]:
    """Names and titles of the published tables."""
    return [(name, table.title) for name, table in published_tables.published().items()]


def list_tables() -> tuple[tuple[str, ...], list[list[Any]]]:
    """Columns and rows of the list of published tables."""
    columns = ("table", "rows", "trainable", "scales", "what it shows", "source")
    return columns, [
        [name, len(t.rows), sum(bool(row.train) for row in t.rows), ", ".join(t.scales), t.title, t.source]
        for name, t in published_tables.published().items()
    ]


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="Name of the table, or the beginning of it. Default: list the tables.",
            show_default=False,
            autocompletion=complete_tables,
        ),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Train only these rows: labels, numbers or methods.", metavar="ROW,...", show_default=False),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Train at a smaller scale: cpu, for the tables that have one.", metavar="NAME", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="File or folder of the data. Default: downloaded.", metavar="PATH", show_default=False),
    ] = None,
    device: Device = "auto",
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Runs of each row, with seeds 0, 1, ... Default: as many as the paper, or the scale, has.",
            metavar="N",
            rich_help_panel=REDUCED,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Use at most N training data.", metavar="N", rich_help_panel=REDUCED, show_default=False),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Number of epochs at most; a higher number than before continues the trainings.",
            metavar="N",
            rich_help_panel=REDUCED,
            show_default=False,
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Use other networks than the paper; `lso list architectures` shows all.",
            metavar="NAME",
            rich_help_panel=REDUCED,
            show_default=False,
            autocompletion=completion("lso.vae.config.architectures:ARCHITECTURES"),
        ),
    ] = None,
    iw_samples: IwSamples = None,
    test_limit: TestLimit = 0,
    time_limit: TimeLimit = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which the folder reproduce-TABLE is made. Default: runs/.",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the models of a published table and compare their figures with the published ones.

    Without TABLE the tables are listed. Repeat the command to continue after
    Ctrl-C or --time-limit, or with more --epochs.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    if name is None:
        columns, lines = list_tables()
        console.emit([dict(zip(columns, line, strict=True)) for line in lines])
        console.table(columns, lines)
        return
    time = None if time_limit is None else seconds(time_limit)
    given: dict[str, dict[str, Any]] = {
        "data": {"path": data, "limit": limit},
        "protocol": {"epochs": epochs},
        "architecture": {"name": arch},
    }
    changes = {key: {k: v for k, v in part.items() if v is not None} for key, part in given.items()}
    published = (
        published_tables.published_table(name)
        if scale is None
        else published_tables.at_scale(published_tables.published_table(name), scale)
    )
    chosen = reproduction.chosen_rows(published, rows or [])
    folder, root = reproduction.places(published, out or runs_root())
    counts: dict[str, Any] = {"seeds": seeds, "iw_samples": iw_samples, "test_limit": test_limit}
    require_own(folder, "reproduction")
    if accept_changes:
        run_set.accept_changes(reproduction.plan_table(published, chosen, changes, **counts).planned, root)
    settings = run_set.settings_as_begun(root, changes)
    plan = reproduction.plan_table(published, chosen, settings, **counts)
    run_set.check_folders(plan.planned, root, longer=True)
    reason: str | None = None
    found: list[run_set.Member] = []
    with Signals() as signals:
        if plan.jobs:
            console.loading()
            from lso.cli.progress import run_all

            options: dict[str, Any] = {"device": device, "console": console, "signals": signals, "seconds": time}
            reason = run_all(plan.planned, root, plan.asked, **options)[1]
            plan = reproduction.with_finished(plan, root, settings)
            found = run_set.read_members(plan.planned, root, plan.asked)
        else:
            console.warn(f"no row of {published.name} can be trained: only the published figures are shown")
    _conclude(plan, found, folder, reason, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _conclude(
    plan: reproduction.TableReproduction,
    found: list[run_set.Member],
    folder: Path,
    reason: str | None,
    console: Console,
) -> None:
    from lso.tasks.papers.reproduction_report import write_reproduction_report

    searches = folder / "image-targets"
    progress = _benchmark_progress(plan, found, searches)
    counts = {name: state.steps for name, state in progress.items() if state.steps is not None}
    numbers = comparison.compare(plan, found, counts)
    numbers["notes"] += [f"{name}: {state.why}." for name, state in progress.items() if state.why]
    page = write_reproduction_report(plan, found, numbers, folder)
    content = read_json(page.with_suffix(".json"))
    console.emit({"folder": folder, "cut": reason or "", "report": page, **content})
    for banner in comparison.reproduction_banners(numbers, found):
        console.warn(banner)
    main = comparison.comparison_table(numbers, plan.table)
    console.table(main.columns, main.rows)
    for more in (comparison.rank_table(numbers), comparison.reading_table(numbers, plan.table)):
        if more:
            console.result()
            console.table(more.columns, more.rows)
    console.note(main.note)
    console.result(f"report: {display_path(page)}")
    missing = {name for name, state in progress.items() if state.again}
    models = [display_path(m.run.path) for m in found if m.run and m.planned.name in missing]
    if models:
        searched = shlex.join(
            ["lso", "benchmark", "image-targets", "--models", *models, "--out", display_path(searches)]
        )
        console.result(f"to count the iterations of the searches: {searched}, then this command again")
    if reason:
        console.result(f"{reason}; continue: {command_line()}")


def _benchmark_progress(
    plan: reproduction.TableReproduction, found: list[run_set.Member], folder: Path
) -> "dict[str, PublishedCount]":
    """What `lso benchmark image-targets` has measured of finished trainings, for tables that compare its iterations."""
    if not any(quantity == "iterations" for _, quantity in plan.table.compared):
        return {}
    from lso.tasks.papers.image_targets import published_count

    return {m.planned.name: published_count(m.run, folder) for m in found if m.run and m.status == "finished"}
