"""``lso optimize``: search the latent space of a trained model for what decodes to given images or sentences."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.console import Console, shown, span
from lso.cli.options import (
    LIMITS,
    OUTPUT,
    BadFiles,
    Channels,
    Device,
    Invert,
    Json,
    Quiet,
    Seed,
    complete_optimizers,
    complete_runs,
    pixel_changes,
    seconds,
)
from lso.cli.places import training_run
from lso.cli.signals import Signals
from lso.optimizers import GRADIENT_OPTIMIZERS
from lso.vae import runs
from lso.vae.errors import UsageError, unknown_name
from lso.vae.runs import Run

START = "mean,prior"
FROM, HOW = "What is searched for", "How it is searched"
Model = Annotated[
    Path | None,
    typer.Option(
        help="A training run. Default: the newest.",
        metavar="RUN",
        rich_help_panel=FROM,
        show_default=False,
        autocompletion=complete_runs,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Folder, image, .npy, .npz or text file, or a sentence; or test:20, the first 20 of the run's test data.",
        metavar="PATH",
        rich_help_panel=FROM,
    ),
]
Optimizer = Annotated[
    str,
    typer.Option(
        help="adam, sgd, lbfgs, or any elementwise torch.optim class.",
        metavar="NAME",
        rich_help_panel=HOW,
        autocompletion=complete_optimizers,
    ),
]
Starts = Annotated[int, typer.Option(help="Of each target.", metavar="N", rich_help_panel=HOW)]
Start = Annotated[
    str,
    typer.Option(
        help="Kinds of start: mean, sample, prior, codes, zero; the last repeats.", metavar="A,B", rich_help_panel=HOW
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        help="nll (of the model, nats; text has no other), sse (squared error) or bce (nats).",
        metavar="NAME",
        rich_help_panel=HOW,
    ),
]
PriorWeight = Annotated[
    float,
    typer.Option(
        help="Of |z|^2/2 in the value. 1 with nll: the most probable code; 0: reconstruction alone, codes may stray.",
        metavar="W",
        rich_help_panel=HOW,
    ),
]
Context = Annotated[
    str,
    typer.Option(
        help="Of an autoregressive decoder: target (as in training), own (its own draw, images) or blank.",
        metavar="NAME",
        rich_help_panel=HOW,
    ),
]
Lr = Annotated[
    float | None, typer.Option(help="Step size. Default: the optimizer's.", metavar="X", rich_help_panel=HOW)
]
Tol = Annotated[
    float, typer.Option(help="Stop at this mean loss change over 20 steps.", metavar="X", rich_help_panel=LIMITS)
]
MaxSteps = Annotated[int, typer.Option(help="Stop here at the latest.", metavar="N", rich_help_panel=LIMITS)]
Limit = Annotated[
    int | None, typer.Option(help="Search for the first so many targets.", metavar="N", min=1, rich_help_panel=LIMITS)
]
TimeLimit = Annotated[
    str | None,
    typer.Option(help="Stop after e.g. 90s or 9m and report what there is.", metavar="TIME", rich_help_panel=LIMITS),
]
Control = Annotated[
    str,
    typer.Option(
        help="A second optimizer, to judge by: lbfgs, sgd, adam or none.", metavar="NAME", rich_help_panel=HOW
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder. Default: a new one under runs/.", metavar="DIR", rich_help_panel=OUTPUT)
]


def optimize(
    target: Target = None,
    model: Model = None,
    bad_files: BadFiles = None,
    channels: Channels = None,
    invert: Invert = None,
    optimizer: Optimizer = "adam",
    starts: Starts = 8,
    start: Start = START,
    loss: Loss = "nll",
    prior_weight: PriorWeight = 1.0,
    context: Context = "target",
    lr: Lr = None,
    control: Control = "lbfgs",
    tol: Tol = 1e-3,
    max_steps: MaxSteps = 1000,
    limit: Limit = None,
    time_limit: TimeLimit = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a trained decoder, search its latent space for given data, and report whether to believe the result.

    Ctrl-C ends the search early and writes what there is.
    """
    console = Console(json=json, quiet=quiet)
    run = training_run(model)
    if target is None:
        raise UsageError(
            "no target given", "Say what to search for: --target images/, --target lines.txt, or --target test:20"
        )
    if control not in (*GRADIENT_OPTIMIZERS, "none"):
        raise unknown_name("control", control, (*GRADIENT_OPTIMIZERS, "none"))
    deadline = None if time_limit is None else seconds(time_limit)
    runs.choose_folder("", out)
    console.loading()
    from lso.cli.progress import SearchProgress
    from lso.tasks.search import SearchConfig, search_targets

    kinds = tuple(part.strip() for part in start.split(",") if part.strip())
    if start == START:
        kinds = kinds[: max(1, starts)]
    config = SearchConfig(
        optimizer=optimizer,
        starts=starts,
        start=kinds,
        loss=loss,
        lr=lr,
        tol=tol,
        prior_weight=prior_weight,
        max_steps=max_steps,
        context=context,
    )
    pixels = pixel_changes(bad_files, channels, invert)
    latent = run.config.architecture.latent_dim
    console.note(
        f"Searching {latent} latents of {shown(run.path)} ({run.config.method.name}) for {target}: "
        f"{optimizer}, {starts} starts each, seed {seed}"
    )
    if run.verdict:
        console.warn(run.verdict)
    with Signals() as signals:
        signals.listen()
        watch = SearchProgress(console, signals, deadline)
        try:
            found = search_targets(
                run,
                target,
                config,
                seed=seed,
                out=out,
                device=device,
                pixels=pixels,
                control=control,
                limit=limit,
                watch=watch,
                told=console.notes,
            )
        finally:
            watch.close()
    _conclude(found, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _conclude(found: Run, console: Console) -> None:
    from lso.essence import essence_across

    report: dict[str, Any] = json_module.loads((found.path / "report.json").read_text(encoding="utf-8"))
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
    console.result(typer.style(verdict["sentence"], fg=COLOURS[level]))
    if verdict["training"]:
        console.result(f"The training run said: {verdict['training']}")
    console.result(f"report: {shown(found.path / runs.REPORT)}")
    console.result(shown(found.path))


COLOURS = {"fine": "green", "care": "yellow", "doubt": "red"}
