"""``lso report``: several trainings, several searches, or a sweep, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from lso.cli.console import Console, shown
from lso.cli.options import AcceptChanges, Json, Quiet, complete_runs
from lso.cli.output_paths import opened
from lso.reports.report_kind import kind_of
from lso.vae import runs
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import caution
from lso.vae.utils.files import whole_folder
from lso.vae.utils.reading import read_json


def report(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...", help="Run folders, or one of a sweep.", show_default=False, autocompletion=complete_runs
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder. Default: one under runs/.", metavar="DIR")] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare trainings, searches, or those of a sweep: a table here, report.html and report.json in a new folder."""
    console = Console(json=json, quiet=quiet)
    if sweeps := [path for path in paths or () if kind_of(path / "report.json") == "sweep"]:
        if len(paths or ()) > 1:
            raise UsageError(
                f"{shown(sweeps[0])} is a sweep, and other folders were named beside it",
                "Report on a sweep alone, or name its runs.",
            )
        return _of_sweep(sweeps[0], out, accept_changes, console)
    found = [opened(path, console, accept_changes=accept_changes) for path in paths or ()]
    kinds = {run.require() for run in found}
    if not found:
        raise UsageError("no runs named", "Name one or more run folders: `lso list runs` shows them.")
    if len(kinds) > 1:
        names = [", ".join(shown(run.path) for run in found if run.kind == kind) for kind in ("train", "search")]
        raise UsageError(
            f"trainings ({names[0]}) and searches ({names[1]}) cannot be compared with each other",
            "Report on each kind alone.",
        )
    folder = runs.choose_folder("report", out)
    console.loading()
    from lso.reports import comparison
    from lso.reports import data_notes as caveats

    banners: list[str] = []
    training = kinds == {"train"}
    compare = comparison.compare_runs if training else comparison.compare_searches
    with whole_folder(folder) as half:
        page = folder / compare(found, half).name
    if training:
        named = comparison.named(found)
        table = comparison.final_table(named)
        banners = caveats.banners({name: run.info for name, run in named.items()})
    else:
        table = comparison.searches_table(comparison.search_numbers(found))
    console.emit(read_json(page.with_suffix(".json")) | {"report": page})
    for banner in banners:
        console.warn(banner)
    console.table(table.columns, table.rows)
    for run in found:
        if doubt := run.verdict or caution(run.info):
            console.result(f"{run.path.name}: {doubt}")
    console.note(table.note)
    console.result(f"report: {shown(page)}")


def _of_sweep(root: Path, out: Path | None, accept_changes: bool, console: Console) -> None:
    """A sweep's table and page from what lies in its folder, without training anything."""
    from lso.tasks.training import sweep

    found, asked = sweep.of_folder(root, accept_changes)
    folder = runs.choose_folder("report", out)
    console.loading()
    page = sweep.write_report(found, root, asked, folder)
    console.emit(read_json(page.with_suffix(".json")) | {"report": page})
    for banner in sweep.banners(found):
        console.warn(banner)
    table = sweep.table(sweep.cells(sweep.points(found)), asked)
    console.table(table.columns, table.rows)
    console.note(table.note)
    console.result(f"report: {shown(page)}")
