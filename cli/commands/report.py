"""``lso report``: compare several trainings, several searches, or the trainings of a sweep."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from lso.cli.console import Console, display_path
from lso.cli.options import AcceptChanges, Json, Quiet, complete_runs
from lso.cli.output_paths import open_run
from lso.cli.run_argument import takes_run
from lso.reports.report_kind import kind_of
from lso.vae import runs
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import caution
from lso.vae.utils.files import whole_folder
from lso.vae.utils.reading import read_json


@functools.partial(takes_run, parameter="paths")
def report(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or the folder of one sweep.",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make. Default: a new one in runs/.", metavar="DIR")
    ] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare trainings, searches, or the trainings of a sweep: print a table and write report.html in a new folder."""
    console = Console(json=json, quiet=quiet)
    if sweeps := [path for path in paths or () if kind_of(path / "report.json") == "sweep"]:
        if len(paths or ()) > 1:
            raise UsageError(
                f"{display_path(sweeps[0])} is a sweep, and other folders were named with it",
                "Name the sweep alone, or name its runs one by one.",
            )
        return _report_sweep(sweeps[0], out, accept_changes, console)
    compared = _open_comparable(paths or [], accept_changes, console)
    folder = runs.choose_folder("report", out)
    console.loading()
    from lso.reports import comparison, data_notes

    banners: list[str] = []
    training = compared[0].kind == "train"
    compare = comparison.compare_runs if training else comparison.compare_searches
    with whole_folder(folder) as half:
        page = folder / compare(compared, half).name
    if training:
        named = comparison.runs_by_name(compared)
        table = comparison.final_table(named)
        banners = data_notes.data_banners({name: run.info for name, run in named.items()})
    else:
        table = comparison.key_numbers_table(comparison.read_search_numbers(compared))
    console.emit(read_json(page.with_suffix(".json")) | {"report": page})
    for banner in banners:
        console.warn(banner)
    console.table(table.columns, table.rows)
    for run in compared:
        if doubt := run.verdict or caution(run.info):
            console.result(f"{run.path.name}: {doubt}")
    console.note(table.note)
    console.result(f"report: {display_path(page)}")


def _open_comparable(paths: list[Path], accept_changes: bool, console: Console) -> list[runs.Run]:
    """Open run folders, and refuse none, or trainings and searches together."""
    compared = [open_run(path, console, accept_changes=accept_changes) for path in paths]
    kinds = {run.require() for run in compared}
    if not compared:
        raise UsageError("no runs were named", "Name one or more run folders; `lso list runs` shows them.")
    if len(kinds) > 1:
        names = [
            ", ".join(display_path(run.path) for run in compared if run.kind == kind) for kind in ("train", "search")
        ]
        raise UsageError(
            f"trainings ({names[0]}) and searches ({names[1]}) cannot be compared with each other",
            "Make one report of each kind.",
        )
    return compared


def _report_sweep(root: Path, out: Path | None, accept_changes: bool, console: Console) -> None:
    """Print the table of a sweep and write its page, from the runs in its folder; nothing is trained."""
    from lso.tasks.training import sweep

    members, evaluation = sweep.read_sweep(root, accept_changes)
    folder = runs.choose_folder("report", out)
    console.loading()
    page = sweep.write_sweep_report(members, root, evaluation, folder)
    console.emit(read_json(page.with_suffix(".json")) | {"report": page})
    for banner in sweep.sweep_banners(members):
        console.warn(banner)
    table = sweep.sweep_table(sweep.sweep_cells(sweep.sweep_points(members)), evaluation)
    console.table(table.columns, table.rows)
    console.note(table.note)
    console.result(f"report: {display_path(page)}")
