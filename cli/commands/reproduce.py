"""``lso reproduce``: a published table trained again, ours beside published; repeated, it goes on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.commands.sweep import again
from lso.cli.commands.train import TimeLimit
from lso.cli.console import Console, shown
from lso.cli.options import (
    OUTPUT,
    AcceptChanges,
    Device,
    IwSamples,
    Json,
    Quiet,
    TestLimit,
    Verbose,
    complete_architectures,
    seconds,
)
from lso.cli.signals import Signals
from lso.reports.report_kind import require_own
from lso.tasks.papers import comparison as beside
from lso.tasks.papers import published_tables
from lso.tasks.papers import reproduce as reproductions
from lso.tasks.training import run_set as members
from lso.vae.runs import runs_root
from lso.vae.utils.reading import read_json

if TYPE_CHECKING:
    from lso.tasks.papers.image_targets import BenchmarkProgress

CUT = "Less than the paper's protocol"


def complete_tables() -> list[tuple[str, str]]:
    """Names and titles for the shell."""
    return [(name, table.title) for name, table in published_tables.published().items()]


def listed() -> tuple[tuple[str, ...], list[list[Any]]]:
    """The published tables as a table."""
    columns = ("table", "rows", "trainable", "scales", "what it shows", "source")
    return columns, [
        [name, len(one.rows), sum(bool(row.train) for row in one.rows), ", ".join(one.scales), one.title, one.source]
        for name, one in published_tables.published().items()
    ]


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE", help="Its name or the beginning of it.", show_default=False, autocompletion=complete_tables
        ),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Train these alone: labels, numbers or methods.", metavar="ROW,...", show_default=False),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="At a size for another machine: cpu, for tables that have it.", metavar="NAME", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The data. Default: downloaded.", metavar="PATH", show_default=False)
    ] = None,
    device: Device = "auto",
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Runs of each row. Default: the paper's, or the scale's.",
            metavar="N",
            rich_help_panel=CUT,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Training data.", metavar="N", rich_help_panel=CUT, show_default=False),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="At most; more than before go on.", metavar="N", rich_help_panel=CUT, show_default=False),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Other networks.",
            metavar="NAME",
            rich_help_panel=CUT,
            show_default=False,
            autocompletion=complete_architectures,
        ),
    ] = None,
    iw_samples: IwSamples = None,
    test_limit: TestLimit = 0,
    time_limit: TimeLimit = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder above reproduce-TABLE. Default: runs/.", metavar="DIR", rich_help_panel=OUTPUT),
    ] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the rows of a published table and show ours beside the published figures.

    Without TABLE the tables are listed. Repeat the command to go on after Ctrl-C or --time-limit, with more --epochs to
    go on beyond the end.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    if name is None:
        columns, lines = listed()
        console.emit([dict(zip(columns, line, strict=True)) for line in lines])
        console.table(columns, lines)
        return
    time = None if time_limit is None else seconds(time_limit)
    given: dict[str, dict[str, Any]] = {
        "data": {"path": data, "limit": limit},
        "protocol": {"epochs": epochs},
        "architecture": {"name": arch},
    }
    asked = {key: {k: v for k, v in part.items() if v is not None} for key, part in given.items()}
    published = (
        published_tables.table(name)
        if scale is None
        else published_tables.at_scale(published_tables.table(name), scale)
    )
    chosen = reproductions.chosen_rows(published, rows or [])
    folder, root = reproductions.places(published, out or runs_root())
    counts: dict[str, Any] = {"seeds": seeds, "iw_samples": iw_samples, "test_limit": test_limit}
    require_own(folder, "reproduction")
    if accept_changes:
        members.accept_changes(reproductions.plan_table(published, chosen, asked, **counts).planned, root)
    settings = members.as_begun(root, asked)
    plan = reproductions.plan_table(published, chosen, settings, **counts)
    members.check(plan.planned, root, longer=True)
    reason: str | None = None
    found: list[members.Member] = []
    with Signals() as signals:
        if plan.jobs:
            console.loading()
            from lso.cli.progress.multi_run import run_all

            options: dict[str, Any] = {"device": device, "console": console, "signals": signals, "seconds": time}
            reason = run_all(plan.planned, root, plan.asked, **options)[1]
            plan = reproductions.with_finished(plan, root, settings)
            found = members.read(plan.planned, root, plan.asked)
        else:
            console.warn(f"no row of {published.name} can be trained yet: only its published figures are shown")
    _conclude(plan, found, folder, reason, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _conclude(
    plan: reproductions.TableReproduction,
    found: list[members.Member],
    folder: Path,
    reason: str | None,
    console: Console,
) -> None:
    searches = folder / "image-targets"
    standings = _standings(plan, found, searches)
    counts = {name: one.steps for name, one in standings.items() if one.steps is not None}
    numbers = beside.compare(plan, found, counts)
    numbers["notes"] += [f"{name}: {one.why}." for name, one in standings.items() if one.why]
    page = beside.write_report(plan, found, numbers, folder)
    content = read_json(page.with_suffix(".json"))
    console.emit({"folder": folder, "cut": reason or "", "report": page, **content})
    for banner in beside.banners(numbers, found):
        console.warn(banner)
    main = beside.table(numbers, plan.table)
    console.table(main.columns, main.rows)
    for more in (beside.rank_table(numbers), beside.reading_table(numbers, plan.table)):
        if more:
            console.result()
            console.table(more.columns, more.rows)
    console.note(main.note)
    console.result(f"report: {shown(page)}")
    models = [shown(m.run.path) for m in found if m.run and (s := standings.get(m.planned.name)) and s.again]
    if models:
        searched = shlex.join(["lso", "benchmark", "image-targets", "--models", *models, "--out", shown(searches)])
        console.result(f"for the iterations: {searched}, then this command again")
    if reason:
        console.result(f"{reason}; continue: {again()}")


def _standings(
    plan: reproductions.TableReproduction, found: list[members.Member], folder: Path
) -> "dict[str, BenchmarkProgress]":
    """What `lso benchmark image-targets` left in the folder of finished trainings, for the table of its steps."""
    if not any(quantity == "iterations" for _, quantity in plan.table.compared):
        return {}
    from lso.tasks.papers.image_targets import standing

    return {m.planned.name: standing(m.run, folder) for m in found if m.run and m.status == "finished"}
