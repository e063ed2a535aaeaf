"""``lso sweep``: methods x latent sizes x seeds, one table and one page; repeated, it goes on."""

import functools
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.commands.train import TimeLimit
from lso.cli.config_flags import FLAGS, WHAT, configurable
from lso.cli.console import Console, shown
from lso.cli.options import (
    OUTPUT,
    AcceptChanges,
    ConfigFile,
    Device,
    IwSamples,
    Json,
    Quiet,
    TestLimit,
    Trust,
    Verbose,
    complete_methods,
    seconds,
)
from lso.cli.signals import Signals
from lso.reports.report_kind import require_own
from lso.tasks.training import run_set as members
from lso.tasks.training import sweep as sweeps
from lso.tasks.training.run_set import EvaluationSpec
from lso.vae.errors import UsageError
from lso.vae.runs import runs_root
from lso.vae.utils.reading import read_json

OWN = ("method", "latent_dim", "seed")  # given several at a time here
SHARED = tuple(flag for flag in FLAGS if flag.key not in OWN)

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="How to train, e.g. ne-vae-se:weight=5; give it several times.",
        metavar="NAME[:KEY=VALUE,...]",
        rich_help_panel=WHAT,
        show_default=False,
        autocompletion=complete_methods,
    ),
]
LatentDims = Annotated[
    str, typer.Option("--latent-dim", help="Sizes of z, e.g. 8,16,32,64.", metavar="N,...", rich_help_panel=WHAT)
]
Seeds = Annotated[int, typer.Option(help="How many runs of each: seeds 0, 1, ...", metavar="N", rich_help_panel=WHAT)]
Together = Annotated[
    bool | None,
    typer.Option(
        "--together/--alone",
        help="Train models that differ in seed or KL weight alone as one batched model. Default: where that is faster.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the runs. Default: runs/sweep-TASK.", metavar="DIR", rich_help_panel=OUTPUT),
]


@functools.partial(configurable, flags=SHARED)
def sweep(
    settings: dict[str, Any],
    method: Methods = None,
    latent_dim: LatentDims = "32",
    seeds: Seeds = 1,
    together: Together = None,
    iw_samples: IwSamples = None,
    test_limit: TestLimit = 0,
    config: ConfigFile = None,
    device: Device = "auto",
    out: Out = None,
    time_limit: TimeLimit = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train every method at every latent size with every seed, and compare them on the test split.

    Repeat the command to go on after Ctrl-C or --time-limit: finished trainings are kept, begun ones continued.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    limit = None if time_limit is None else seconds(time_limit)
    asked = EvaluationSpec(iw_samples=500 if iw_samples is None else iw_samples, limit=test_limit)
    planned = sweeps.plan_sweep(method or [], numbers(latent_dim), seeds, settings, config, trust)
    root = out or runs_root() / f"sweep-{planned[0].config.data.task}"
    require_own(root, "sweep")
    if accept_changes:
        members.accept_changes(planned, root)
    as_begun = members.as_begun(root, settings)
    planned = sweeps.plan_sweep(method or [], numbers(latent_dim), seeds, as_begun, config, trust)
    sweeps.check(planned, root)
    console.loading()
    from lso.cli.progress.multi_run import run_all

    with Signals() as signals:
        options: dict[str, Any] = {"device": device, "seconds": limit, "together": together}
        _, reason = run_all(planned, root, asked, console=console, signals=signals, **options)
    found = members.read(sweeps.with_finished(planned, root, asked), root, asked)
    page = sweeps.write_report(found, root, asked)
    table = sweeps.table(sweeps.cells(sweeps.points(found)), asked)
    numbers_ = read_json(page.with_suffix(".json"))
    console.emit({"folder": root, "cut": reason or "", "report": page, **numbers_})
    for sentence in sweeps.banners(found):
        console.warn(sentence)
    console.table(table.columns, table.rows)
    console.note(table.note)
    console.result(f"report: {shown(page)}")
    if reason:
        console.result(f"{reason}; continue: {again()}")
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def numbers(text: str) -> list[int]:
    """Read whole numbers with commas between them."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"cannot read the latent sizes {text!r}", "Write whole numbers: --latent-dim 8,16,32")
    return [int(part) for part in parts]


def again() -> str:
    """The command that was given, to be repeated."""
    return shlex.join(["lso", *sys.argv[1:]])
