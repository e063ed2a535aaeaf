"""``lso optimize``: search the latent space of a trained model, by gradient or as a black box."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.commands import optimize_runners
from lso.cli.console import Console
from lso.cli.options import (
    BLACK_BOX,
    LIMITS,
    OUTPUT,
    AcceptChanges,
    BadFiles,
    Binarize,
    Channels,
    Chunk,
    Device,
    Invert,
    Json,
    MaxFailures,
    Quiet,
    Seed,
    Trust,
    complete_optimizers,
    complete_runs,
    pixel_changes,
    seconds,
)
from lso.objectives.failures import MAX_FAILURES
from lso.optimizers import BLACK_BOX_OPTIMIZERS, GRADIENT_OPTIMIZERS, parse_optimizer
from lso.vae.errors import UsageError, unknown_name

START = "mean,prior"
FROM, HOW = "What is searched for", "By gradient"
RETRAINING = "Black box, training the model on"
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
TaskGoal = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="A task's goal: expressions, squares, ehrlich, digits-preference, molecules[:GOAL].",
        metavar="NAME",
        rich_help_panel=FROM,
    ),
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="Your own score, module:function: a list of decoded objects to one float for each (None: invalid).",
        metavar="NAME",
        rich_help_panel=FROM,
    ),
]
Sense = Annotated[
    bool | None,
    typer.Option("--maximize/--minimize", help="Sense of --objective.", rich_help_panel=FROM, show_default=False),
]
Optimizer = Annotated[
    str | None,
    typer.Option(
        help=f"By gradient: {', '.join(GRADIENT_OPTIMIZERS)}, or any elementwise torch.optim class. Black box: "
        f"{', '.join(BLACK_BOX_OPTIMIZERS)}; options after a colon, gp:guard=ball. Default: adam for targets, "
        "else turbo.",
        metavar="NAME",
        show_default=False,
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
    float | None,
    typer.Option(
        help="Of |z|^2/2 in the value. 1 with nll: the most probable code; 0: reconstruction alone, codes may stray. "
        "Default: 1 for targets by gradient, else 0.",
        metavar="W",
        rich_help_panel=FROM,
        show_default=False,
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
        help=f"A second optimizer, to judge by: {', '.join(GRADIENT_OPTIMIZERS)} or none.",
        metavar="NAME",
        rich_help_panel=HOW,
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        help="Unique valid objects to score. Default: 100.",
        metavar="N",
        min=1,
        rich_help_panel=BLACK_BOX,
        show_default=False,
    ),
]
Batch = Annotated[int, typer.Option(help="Codes proposed together.", metavar="N", min=1, rich_help_panel=BLACK_BOX)]
Seeds = Annotated[
    int,
    typer.Option(help="Searches from other initial designs, compared.", metavar="N", min=1, rich_help_panel=BLACK_BOX),
]
Workers = Annotated[
    int,
    typer.Option(help="Processes for the score; 0: this one.", metavar="N", min=0, rich_help_panel=BLACK_BOX),
]
Timeout = Annotated[
    str | None,
    typer.Option(help="Of the score of one object, e.g. 30s; it is killed.", metavar="TIME", rich_help_panel=BLACK_BOX),
]
MaxCalls = Annotated[
    int | None,
    typer.Option(
        help="Calls at most, duplicates and invalid ones too; in each round where the model is retrained. Default: ten "
        "times the budget.",
        metavar="N",
        rich_help_panel=BLACK_BOX,
        show_default=False,
    ),
]
KnownData = Annotated[
    int | None,
    typer.Option(
        "--known",
        help="Data whose values the task knows, told beforehand. Default: 0; 100 with --retrain-every, if it has such.",
        metavar="N",
        min=0,
        rich_help_panel=BLACK_BOX,
        show_default=False,
    ),
]
Surrogate = Annotated[
    str,
    typer.Option(
        help="latent: a model of codes; decoded: of features of what they decode to.",
        metavar="NAME",
        rich_help_panel=BLACK_BOX,
    ),
]
Chart = Annotated[
    str,
    typer.Option(
        help="box, cdf (the prior's cube) or active (active dimensions alone).",
        metavar="NAME",
        rich_help_panel=BLACK_BOX,
    ),
]
Asynchronous = Annotated[
    bool,
    typer.Option("--asynchronous", help="Ask again as soon as one call is done.", rich_help_panel=BLACK_BOX),
]
RetrainEvery = Annotated[
    int | None,
    typer.Option(
        help="Train the model on before the search and after every N objects found, with the training data and all "
        "that was found, the best drawn most often (weighted retraining).",
        metavar="N",
        min=1,
        rich_help_panel=RETRAINING,
        show_default=False,
    ),
]
RetrainK = Annotated[
    float,
    typer.Option(
        help="Of the weights 1 / (k n + rank): small for the best alone, inf for all alike.",
        metavar="K",
        rich_help_panel=RETRAINING,
    ),
]
RetrainEpochs = Annotated[
    float,
    typer.Option(
        help="Of each retraining: draws over the number of data known, a part of 1 too.",
        metavar="X",
        rich_help_panel=RETRAINING,
    ),
]
RetrainFirstEpochs = Annotated[
    float,
    typer.Option(
        help="Of the first retraining, which has the most to learn; 0: as many.",
        metavar="X",
        rich_help_panel=RETRAINING,
    ),
]
RetrainData = Annotated[
    int,
    typer.Option(
        help="Training data to retrain upon, 0: all; each is scored once, which the budget does not count.",
        metavar="N",
        min=0,
        rich_help_panel=RETRAINING,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(help="Go on with a black-box search.", metavar="RUN", rich_help_panel=BLACK_BOX),
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder. Default: a new one under runs/.", metavar="DIR", rich_help_panel=OUTPUT)
]


# Options that are of one kind of optimizer alone.
OF_GRADIENT = {"starts", "start", "context", "lr", "control", "tol", "max_steps"}
OF_FILES = {"bad_files", "channels", "invert", "binarize"}
OF_BLACK_BOX = {"budget", "batch", "seeds", "workers", "timeout", "chunk", "max_calls", "max_failures", "known"}
OF_BLACK_BOX |= {"surrogate", "chart", "asynchronous"}
OF_RETRAINING = {"retrain_k", "retrain_epochs", "retrain_first_epochs", "retrain_data"}
# Of a black-box search, and not of one that retrains the model.
PLAIN = {"seeds", "surrogate", "chart", "asynchronous", "prior_weight", "loss", "limit"}
BUDGET = 100
CHANGES = {"budget", "workers", "timeout", "chunk", "max_calls", "max_failures"}  # of a search that is resumed


def optimize(
    target: Target = None,
    task: TaskGoal = None,
    objective: Objective = None,
    maximize: Sense = None,
    model: Model = None,
    bad_files: BadFiles = None,
    channels: Channels = None,
    invert: Invert = None,
    binarize: Binarize = False,
    optimizer: Optimizer = None,
    starts: Starts = 8,
    start: Start = START,
    loss: Loss = "nll",
    prior_weight: PriorWeight = None,
    context: Context = "target",
    lr: Lr = None,
    control: Control = "lbfgs",
    tol: Tol = 1e-3,
    max_steps: MaxSteps = 1000,
    budget: Budget = None,
    batch: Batch = 4,
    seeds: Seeds = 1,
    workers: Workers = 0,
    timeout: Timeout = None,
    chunk: Chunk = 1,
    max_calls: MaxCalls = None,
    max_failures: MaxFailures = MAX_FAILURES,
    known: KnownData = None,
    surrogate: Surrogate = "latent",
    chart: Chart = "box",
    asynchronous: Asynchronous = False,
    retrain_every: RetrainEvery = None,
    retrain_k: RetrainK = 1e-3,
    retrain_epochs: RetrainEpochs = 1.0,
    retrain_first_epochs: RetrainFirstEpochs = 0.0,
    retrain_data: RetrainData = 5000,
    resume: Resume = None,
    limit: Limit = None,
    time_limit: TimeLimit = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a trained decoder, search its latent space, and report whether to believe the result.

    For given data (--target) by gradient or as a black box; for a task's goal or a score of your own (--task,
    --objective) as a black box, or by gradient where the score has one.

    Ctrl-C ends the search early and writes what there is; a black-box search goes on with --resume.
    """
    own = {key: value for key, value in locals().items() if key in inspect.signature(optimize).parameters}
    given = {key for key, value in own.items() if value != inspect.signature(optimize).parameters[key].default}
    console = Console(json=json, quiet=quiet)
    deadline = None if time_limit is None else seconds(time_limit)
    own["timeout"] = None if timeout is None else seconds(timeout)
    if resume is not None:
        kept = {"resume", "json", "quiet", "time_limit", "device", "trust", "accept_changes", "objective"}
        _refuse(given - kept - CHANGES, "the search has it already")
        opening = {"trust": trust or (() if objective is None else (objective,)), "accept_changes": accept_changes}
        optimize_runners.resume_black_box(
            console, resume, {key: own[key] for key in CHANGES & given}, deadline, device, opening
        )
        return
    opening = {"trust": trust, "accept_changes": accept_changes}
    sought: dict[str, Any] = {"task": task, "objective": objective, "target": target, "maximize": maximize}
    sought["pixels"] = pixel_changes(bad_files, channels, invert, binarize)
    if not (target or task or objective):
        raise UsageError(
            "no target given",
            "Say what to search for: --target images/ or test:20, --task expressions, or --objective module:function",
        )
    _refuse(set() if target else given & OF_FILES, "no target is given")
    if retrain_every is None:
        _refuse(given & OF_RETRAINING, "nothing is retrained", "Add --retrain-every 50, or leave it out.")
    elif target:
        raise UsageError(
            "--retrain-every: a target is no score that training data could be weighed by",
            "Retrain for --task or --objective.",
        )
    name, options = parse_optimizer(optimizer or ("adam" if target else "turbo"))
    if name in BLACK_BOX_OPTIMIZERS:
        _refuse(given & OF_GRADIENT, f"{name} is no gradient optimizer")
        if retrain_every is not None:
            _refuse(given & PLAIN, "weighted retraining has no such option")
            shared = {"optimizer": name, "options": options, "budget": budget or BUDGET, "batch": batch, "seed": seed}
            shared |= {"max_calls": max_calls} | ({} if known is None else {"known": known})
            told = {key: own[f"retrain_{key}"] for key in ("every", "k", "epochs", "first_epochs", "data")}
            where = {key: own[key] for key in ("workers", "timeout", "chunk", "max_failures", "out", "device")}
            optimize_runners.search_with_retraining(console, model, sought, shared | told, where, deadline, opening)
            return
        chosen = {key: own[key] for key in OF_BLACK_BOX - {"seeds"}} | ({"loss": loss} if "loss" in given else {})
        chosen |= {
            "known": known or 0,
            "budget": budget or BUDGET,
            "optimizer": name,
            "options": options,
            "prior_weight": prior_weight or 0.0,
        }
        where = {"seeds": seeds, "seed": seed, "out": out, "device": device, "limit": limit}
        optimize_runners.search_black_box(console, model, sought, chosen, where, deadline, opening)
        return
    _refuse(given & (OF_BLACK_BOX | {"retrain_every"}), f"{name} is no black-box optimizer")
    if options:
        raise UsageError(f"{name} takes no options after a colon", "Its step size is --lr.")
    if control not in (*GRADIENT_OPTIMIZERS, "none"):
        raise unknown_name("control", control, (*GRADIENT_OPTIMIZERS, "none"))
    kinds = tuple(part.strip() for part in start.split(",") if part.strip())
    if start == START:
        kinds = kinds[: max(1, starts)] if target else ("prior",)
    settings = {key: own[key] for key in ("starts", "loss", "lr", "tol", "max_steps", "context")}
    settings |= {"optimizer": name, "start": kinds}
    settings["prior_weight"] = (1.0 if target else 0.0) if prior_weight is None else prior_weight
    where = {"seed": seed, "out": out, "device": device, "control": control}
    files = {"limit": limit} if target else {}
    optimize_runners.search_by_gradient(console, model, sought, settings, {**where, **files}, deadline, opening)


def _refuse(names: set[str], why: str, remedy: str = "") -> None:
    if names:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
        raise UsageError(f"{flags}: {why}", remedy or ("Leave it out." if len(names) == 1 else "Leave them out."))
