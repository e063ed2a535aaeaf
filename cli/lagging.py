"""``lso benchmark lagging``: plain and aggressive training in the space of posterior means."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, shown
from lso.cli.options import OUTPUT, AcceptChanges, Device, Json, Quiet, Verbose, seconds
from lso.cli.signals import Signals
from lso.cli.sweep import again
from lso.cli.train import TimeLimit
from lso.report_kind import require_own
from lso.tasks import members
from lso.tasks.lagging import QUICK, LaggingConfig, parts
from lso.vae.errors import UsageError
from lso.vae.files import clean_below
from lso.vae.reading import read_json
from lso.vae.runs import runs_root

if TYPE_CHECKING:
    from lso.tasks.lagging_measure import Findings

FULL = LaggingConfig()


def lagging(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"A few minutes: {QUICK.limit:,} sequences, {QUICK.epochs} epochs, stride {QUICK.stride:g}.",
        ),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds 0, 1, ... Default: 1.", metavar="N", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Training sequences. Default: all 16,000.", metavar="N", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most. Default: 50.", metavar="N", show_default=False)] = None,
    stages: Annotated[
        str | None,
        typer.Option(help="Steps to look at. Default: 0,200,1000,2000.", metavar="N,...", show_default=False),
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Validation sequences to look at. Default: 500.", metavar="N", show_default=False)
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="Of the grid. Default: 0.01.", metavar="X", show_default=False)
    ] = None,
    offset: Annotated[
        bool, typer.Option("--offset/--no-offset", help="Offset initialization too, up to the last stage.")
    ] = True,
    data: Annotated[
        Path | None,
        typer.Option(help="Files of such sequences. Default: generated.", metavar="PATH", show_default=False),
    ] = None,
    time_limit: TimeLimit = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs. Default: runs/lagging.", metavar="DIR", rich_help_panel=OUTPUT),
    ] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Watch a plain VAE collapse and an aggressive one not: He et al. (2019), section 3.

    Scalar z; true posterior means by grid against the encoder's. Repeat the command to go on.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    time = None if time_limit is None else seconds(time_limit)
    given: dict[str, Any] = {"seeds": seeds, "limit": limit, "epochs": epochs, "points": points, "stride": stride}
    given["stages"] = None if stages is None else steps(stages)
    changed = {key: value for key, value in given.items() if value is not None}
    config = dataclasses.replace(QUICK if quick else FULL, offset=offset, **changed)
    folder = out or runs_root() / ("lagging-quick" if quick else "lagging")
    require_own(folder, "lagging", "posterior-means*.png", "one-datum.png")
    clean_below(folder)
    settings = {"data": {"path": str(data)}} if data else {}
    if accept_changes:
        members.accept_changes([part.planned for part in parts(config, settings)], folder)
    planned = parts(config, members.as_begun(folder, settings))
    members.check([part.planned for part in planned], folder)
    console.loading()
    from lso.cli.lagging_progress import LaggingProgress
    from lso.tasks.lagging import begin
    from lso.tasks.lagging_measure import explore
    from lso.tasks.lagging_report import write_report

    with Signals() as signals:
        console.note(f"{len(planned)} trainings in {shown(folder)}; what is done there is kept")
        signals.listen()
        session = begin(planned, folder, device, LaggingProgress(console, signals, folder), time)
        found = explore(planned, config, session)
    banners = less(config)
    banners += [f"Cut off: {found.cut}. What is missing is not judged."] if found.cut else []
    written = write_report(found, config, folder, banners)
    _tell(console, found, folder, written)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def less(config: LaggingConfig) -> list[str]:
    """How an experiment is less than the paper's.

    Args:
        config: of it.
    Returns:
        One sentence, or none.
    """
    words = {"limit": "training sequences: {:,} instead of 16,000", "epochs": "epochs: {} instead of {}"}
    words |= {"points": "points: {} instead of {}", "stride": "grid stride: {:g} instead of {:g}"}
    cuts = [
        text.format(getattr(config, key), getattr(FULL, key))
        for key, text in words.items()
        if getattr(config, key) != getattr(FULL, key)
    ]
    return [f"Not the paper's size: {', '.join(cuts)}."] if cuts else []


def steps(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them.

    Args:
        text: e.g. ``"0,200,1000"``.
    Returns:
        The numbers, rising, each once.
    Raises:
        UsageError: if it is something else.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found or not all(part.isdecimal() for part in found):
        raise UsageError(f"cannot read the stages {text!r}", "Write whole numbers: --stages 0,200,1000,2000")
    return tuple(sorted({int(part) for part in found}))


def _tell(console: Console, found: "Findings", folder: Path, written: Path) -> None:
    
    from lso.tasks.lagging_report import claim_table, ending_table, sentence

    told: dict[str, Any] = {"folder": folder, "report": written}
    content = read_json(written.with_suffix(".json"))
    console.emit(told | {key: content[key] for key in ("cut", "settings", "claims", "endings", "banners")})
    for banner in content["banners"]:
        console.note(banner)
    for table in (ending_table(found), claim_table(found)):
        console.table(table.columns, [list(row) for row in table.rows])
        if table.note:
            console.note(table.note)
        console.result()
    console.result(sentence(found))
    console.result(f"report: {shown(written)}")
    if found.cut:
        console.result(f"{found.cut}; continue: {again()}")
