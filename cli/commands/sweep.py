"""``lso sweep``: train methods x latent sizes x seeds and compare them. Repeat the command to continue."""

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.console import Console, command_line, display_path
from lso.cli.flags import FLAGS, configurable
from lso.cli.options import (
    OUTPUT,
    AcceptChanges,
    ConfigFile,
    Device,
    IwSamples,
    Json,
    Log,
    Quiet,
    TestLimit,
    TimeLimit,
    Trust,
    Verbose,
    completion,
    loggers,
    seconds,
)
from lso.cli.signals import Signals
from lso.vae.config.architectures import MODEL
from lso.vae.config.protocol import METHOD
from lso.vae.errors import UsageError

SWEPT = ("method", "latent_dim", "seed")  # a sweep takes several values of each by flags of its own
SHARED_FLAGS = tuple(flag for flag in FLAGS if flag.key not in SWEPT)

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Training method, e.g. ne-vae-se:weight=5; give the flag several times for several.",
        metavar="NAME[:KEY=VALUE,...]",
        rich_help_panel=MODEL,
        show_default=False,
        autocompletion=completion(METHOD.table),
    ),
]
LatentDims = Annotated[
    str,
    typer.Option(
        "--latent-dim", help="Numbers of latent dimensions, e.g. 8,16,32,64.", metavar="N,...", rich_help_panel=MODEL
    ),
]
Seeds = Annotated[
    int, typer.Option(help="Runs of each combination, with seeds 0, 1, ...", metavar="N", rich_help_panel=MODEL)
]
Together = Annotated[
    bool | None,
    typer.Option(
        "--together/--alone",
        help="Train models that differ in seed or KL weight only as one batched model, or one after the other. "
        "Default: batched where that was measured to be faster.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the runs. Default: runs/sweep-TASK.", metavar="DIR", rich_help_panel=OUTPUT),
]


@functools.partial(configurable, flags=SHARED_FLAGS)
def sweep(
    values: dict[str, Any],
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
    log: Log = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train every method with every latent size and seed, and compare them on the test split.

    Repeat the command to continue after Ctrl-C or --time-limit: finished
    trainings are kept, begun ones continued.
    """
    from lso.reports.report_kind import require_own
    from lso.tasks.training import run_set
    from lso.tasks.training import sweep as sweeps
    from lso.vae.runs import runs_root
    from lso.vae.utils.reading import read_json

    console = Console(json=json, quiet=quiet, verbose=verbose)
    limit = None if time_limit is None else seconds(time_limit)
    evaluation = run_set.EvaluationSpec(iw_samples=500 if iw_samples is None else iw_samples, limit=test_limit)
    planned = sweeps.plan_sweep(method or [], parse_sizes(latent_dim), seeds, values, config, trust)
    root = out or runs_root() / f"sweep-{planned[0].config.data.task}"
    require_own(root, "sweep")
    if accept_changes:
        run_set.accept_changes(planned, root)
    as_begun = run_set.settings_as_begun(root, values)
    planned = sweeps.plan_sweep(method or [], parse_sizes(latent_dim), seeds, as_begun, config, trust)
    sweeps.check_sweep(planned, root)
    console.loading()
    from lso.cli.progress import run_all

    callbacks = loggers(log)
    with Signals() as signals:
        options: dict[str, Any] = {"device": device, "seconds": limit, "together": together, "callbacks": callbacks}
        _, reason = run_all(planned, root, evaluation, console=console, signals=signals, **options)
    members = run_set.read_members(sweeps.add_finished(planned, root, evaluation), root, evaluation)
    page = sweeps.write_sweep_report(members, root, evaluation)
    table = sweeps.sweep_table(sweeps.sweep_cells(sweeps.sweep_points(members)), evaluation)
    content = read_json(page.with_suffix(".json"))
    console.emit({"folder": root, "cut": reason or "", "report": page, **content})
    for sentence in sweeps.sweep_banners(members):
        console.warn(sentence)
    console.table(table.columns, table.rows)
    console.note(table.note)
    console.result(f"report: {display_path(page)}")
    if reason:
        console.result(f"{reason}; continue: {command_line()}")
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def parse_sizes(text: str) -> list[int]:
    """The whole numbers of a comma-separated list."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"cannot read the latent sizes {text!r}", "Write whole numbers: --latent-dim 8,16,32")
    return [int(part) for part in parts]
