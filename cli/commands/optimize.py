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
from lso.tasks.task import TASKS
from lso.vae.errors import UsageError, unknown_name

START = "mean,prior"
GOAL, GRADIENT = "Model and goal", "Gradient search"  # headings in --help
RETRAINING = "Black-box search with retraining of the model"
Model = Annotated[
    Path | None,
    typer.Option(
        help="Training run whose latent space is searched. Default: the newest, of the task if --task names one.",
        metavar="RUN",
        rich_help_panel=GOAL,
        show_default=False,
        autocompletion=complete_runs,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Data to reproduce: an image, a folder of images, a .npy, .npz or text file, or a sentence; or test:20, "
        "the first 20 test data of the run.",
        metavar="PATH",
        rich_help_panel=GOAL,
    ),
]
TaskGoal = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"Goal of a task: {', '.join(name for name, row in TASKS.items() if row.goal)}; where it has several, "
        "NAME:GOAL, as in molecules:plogp.",
        metavar="NAME",
        rich_help_panel=GOAL,
    ),
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="Your own score as module:function; it takes a list of decoded objects and returns a float for each, or "
        "None for an invalid one.",
        metavar="NAME",
        rich_help_panel=GOAL,
    ),
]
Sense = Annotated[
    bool | None,
    typer.Option(
        "--maximize/--minimize",
        help="Whether --objective is to be large or small.",
        rich_help_panel=GOAL,
        show_default=False,
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option(
        help=f"Gradient: {', '.join(GRADIENT_OPTIMIZERS)}, or an elementwise class of torch.optim. Black box: "
        f"{', '.join(BLACK_BOX_OPTIMIZERS)}; options follow a colon, e.g. gp:guard=ball. "
        "Default: adam for --target, else turbo.",
        metavar="NAME",
        show_default=False,
        rich_help_panel=GOAL,
        autocompletion=complete_optimizers,
    ),
]
Starts = Annotated[int, typer.Option(help="Number of starts for each target.", metavar="N", rich_help_panel=GRADIENT)]
Start = Annotated[
    str,
    typer.Option(
        help="Kinds of start in turn, the last for all others: mean or sample (of the target's posterior), prior, "
        "codes (of training data) or zero (the origin).",
        metavar="A,B",
        rich_help_panel=GRADIENT,
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        help="Loss between a target and its reconstruction: nll (the model's likelihood, nats; the only one for "
        "text), sse (squared error) or bce (nats).",
        metavar="NAME",
        rich_help_panel=GRADIENT,
    ),
]
PriorWeight = Annotated[
    float | None,
    typer.Option(
        help="Weight of the prior term |z|^2/2 in the value. 1 with nll: the most probable code. 0: reconstruction "
        "alone; codes may leave the region of the prior. Default: 1 for gradient searches for targets, else 0.",
        metavar="W",
        rich_help_panel=GOAL,
        show_default=False,
    ),
]
Context = Annotated[
    str,
    typer.Option(
        help="What an autoregressive decoder is conditioned on: target (as in training), own (its own draw, for "
        "images) or blank.",
        metavar="NAME",
        rich_help_panel=GRADIENT,
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(help="Learning rate. Default: that of the optimizer.", metavar="X", rich_help_panel=GRADIENT),
]
Tol = Annotated[
    float,
    typer.Option(
        help="Stop a search once its loss changes by X or less a step, averaged over 20 steps.",
        metavar="X",
        rich_help_panel=LIMITS,
    ),
]
MaxSteps = Annotated[int, typer.Option(help="Number of gradient steps at most.", metavar="N", rich_help_panel=LIMITS)]
Limit = Annotated[
    int | None, typer.Option(help="Search for the first N targets only.", metavar="N", min=1, rich_help_panel=LIMITS)
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        help="Stop after this time, e.g. 90s or 9m, and report what was found.", metavar="TIME", rich_help_panel=LIMITS
    ),
]
Control = Annotated[
    str,
    typer.Option(
        help=f"Second optimizer, run from the same starts for comparison: {', '.join(GRADIENT_OPTIMIZERS)} or none.",
        metavar="NAME",
        rich_help_panel=GRADIENT,
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        help="Number of different valid objects to score. Default: 100.",
        metavar="N",
        min=1,
        rich_help_panel=BLACK_BOX,
        show_default=False,
    ),
]
Batch = Annotated[
    int, typer.Option(help="Number of codes proposed at a time.", metavar="N", min=1, rich_help_panel=BLACK_BOX)
]
Seeds = Annotated[
    int,
    typer.Option(
        help="Number of searches with different initial designs, which the report compares.",
        metavar="N",
        min=1,
        rich_help_panel=BLACK_BOX,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        help="Number of processes that compute the score; 0: it is computed in this one.",
        metavar="N",
        min=0,
        rich_help_panel=BLACK_BOX,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        help="Time for the score of one object, e.g. 30s, after which it is killed.",
        metavar="TIME",
        rich_help_panel=BLACK_BOX,
    ),
]
MaxCalls = Annotated[
    int | None,
    typer.Option(
        help="Number of calls at most, duplicates and invalid objects included; with --retrain-every, in each round. "
        "Default: ten times the budget.",
        metavar="N",
        rich_help_panel=BLACK_BOX,
        show_default=False,
    ),
]
KnownData = Annotated[
    int | None,
    typer.Option(
        "--known",
        help="Number of data with known values that the optimizer starts with, if the task has such. Default: 0; with "
        "--retrain-every 100.",
        metavar="N",
        min=0,
        rich_help_panel=BLACK_BOX,
        show_default=False,
    ),
]
Surrogate = Annotated[
    str,
    typer.Option(
        help="What the surrogate model predicts from: latent (codes) or decoded (features of the decoded objects).",
        metavar="NAME",
        rich_help_panel=BLACK_BOX,
    ),
]
Chart = Annotated[
    str,
    typer.Option(
        help="Coordinates of the search: box (codes), cdf (quantiles of the prior) or active (active dimensions only).",
        metavar="NAME",
        rich_help_panel=BLACK_BOX,
    ),
]
Asynchronous = Annotated[
    bool,
    typer.Option(
        "--asynchronous",
        help="Propose a new code as soon as a call is done, not when the whole batch is.",
        rich_help_panel=BLACK_BOX,
    ),
]
RetrainEvery = Annotated[
    int | None,
    typer.Option(
        help="Continue the training of the model before the search and after every N new objects, on the training "
        "data and all objects found, the best drawn most often (weighted retraining, Tripp et al. 2020).",
        metavar="N",
        min=1,
        rich_help_panel=RETRAINING,
        show_default=False,
    ),
]
RetrainK = Annotated[
    float,
    typer.Option(
        help="k of the weights 1 / (k n + rank): the smaller, the more the best weigh; inf: equal weights.",
        metavar="K",
        rich_help_panel=RETRAINING,
    ),
]
RetrainEpochs = Annotated[
    float,
    typer.Option(
        help="Epochs of each retraining, over all data known by then; may be a fraction.",
        metavar="X",
        rich_help_panel=RETRAINING,
    ),
]
RetrainFirstEpochs = Annotated[
    float,
    typer.Option(
        help="Epochs of the first retraining, which has the most to learn; 0: as --retrain-epochs.",
        metavar="X",
        rich_help_panel=RETRAINING,
    ),
]
RetrainData = Annotated[
    int,
    typer.Option(
        help="Number of training data to retrain on; 0: all. Each is scored once, outside the budget.",
        metavar="N",
        min=0,
        rich_help_panel=RETRAINING,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(help="Continue a black-box search.", metavar="RUN", rich_help_panel=BLACK_BOX),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder to make. Default: a new one in runs/.", metavar="DIR", rich_help_panel=OUTPUT),
]


# Names of options that only some searches have; giving one to another search is an error.
OF_GRADIENT = {"starts", "start", "context", "lr", "control", "tol", "max_steps"}
OF_FILES = {"bad_files", "channels", "invert", "binarize"}
OF_BLACK_BOX = {"budget", "batch", "seeds", "workers", "timeout", "chunk", "max_calls", "max_failures", "known"}
OF_BLACK_BOX |= {"surrogate", "chart", "asynchronous"}
OF_RETRAINING = {"retrain_k", "retrain_epochs", "retrain_first_epochs", "retrain_data"}
NOT_WITH_RETRAINING = {"seeds", "surrogate", "chart", "asynchronous", "prior_weight", "loss", "limit"}
DEFAULT_BUDGET = 100
CHANGED_BY_RESUME = {"budget", "workers", "timeout", "chunk", "max_calls", "max_failures"}
ALLOWED_WITH_RESUME = {"resume", "json", "quiet", "time_limit", "device", "trust", "accept_changes", "objective"}


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
    """Search the latent space of a trained model, and report whether to believe the result.

    Searches for codes that reproduce given data (--target), or that optimize
    the goal of a task (--task) or your own score (--objective). The optimizer
    decides between gradient and black-box search; a score without gradients
    needs a black-box search.

    Ctrl-C ends the search early and reports what was found;
    --resume continues a black-box search.
    """
    # The same function body serves three kinds of search; which options were given decides what is refused.
    parameters = inspect.signature(optimize).parameters
    values = {key: value for key, value in locals().items() if key in parameters}
    given = {key for key, value in values.items() if value != parameters[key].default}
    console = Console(json=json, quiet=quiet)
    deadline = None if time_limit is None else seconds(time_limit)
    values["timeout"] = None if timeout is None else seconds(timeout)
    if resume is not None:
        _refuse(given - ALLOWED_WITH_RESUME - CHANGED_BY_RESUME, "a resumed search keeps its own")
        # Naming the score again says that its code is trusted, like --trust.
        opening = {"trust": trust or (() if objective is None else (objective,)), "accept_changes": accept_changes}
        optimize_runners.continue_black_box(
            console, resume, {key: values[key] for key in CHANGED_BY_RESUME & given}, deadline, device, opening
        )
        return
    opening = {"trust": trust, "accept_changes": accept_changes}
    sought: dict[str, Any] = {"task": task, "objective": objective, "target": target, "maximize": maximize}
    sought["pixels"] = pixel_changes(bad_files, channels, invert, binarize)
    if not (target or task or objective):
        raise UsageError(
            "nothing to search for was given",
            "Give one of --target images/ or test:20, --task expressions, or --objective module:function",
        )
    _refuse(set() if target else given & OF_FILES, "only for the files of --target")
    if retrain_every is None:
        _refuse(given & OF_RETRAINING, "only for a search that retrains", "Add --retrain-every 50, or leave it out.")
    elif target:
        raise UsageError(
            "--retrain-every weights training data by a score, and --target has none",
            "Use it with --task or --objective.",
        )
    name, options = parse_optimizer(optimizer or ("adam" if target else "turbo"))
    if name in BLACK_BOX_OPTIMIZERS:
        _refuse(given & OF_GRADIENT, f"only for gradient optimizers, and {name} is none")
        if retrain_every is not None:
            _refuse(given & NOT_WITH_RETRAINING, "not for a search that retrains")
            config = {"optimizer": name, "options": options, "budget": budget or DEFAULT_BUDGET, "batch": batch}
            config |= {"seed": seed, "max_calls": max_calls} | ({} if known is None else {"known": known})
            config |= {key: values[f"retrain_{key}"] for key in ("every", "k", "epochs", "first_epochs", "data")}
            session = {key: values[key] for key in ("workers", "timeout", "chunk", "max_failures", "out", "device")}
            optimize_runners.search_with_retraining(console, model, sought, config, session, deadline, opening)
            return
        config = {key: values[key] for key in OF_BLACK_BOX - {"seeds"}} | ({"loss": loss} if "loss" in given else {})
        config |= {
            "known": known or 0,
            "budget": budget or DEFAULT_BUDGET,
            "optimizer": name,
            "options": options,
            "prior_weight": prior_weight or 0.0,
        }
        session = {"seeds": seeds, "seed": seed, "out": out, "device": device, "limit": limit}
        optimize_runners.run_black_box(console, model, sought, config, session, deadline, opening)
        return
    _refuse(given & (OF_BLACK_BOX | {"retrain_every"}), f"only for black-box optimizers, and {name} is none")
    if options:
        raise UsageError(f"{name} takes no options after a colon", "Its learning rate is --lr.")
    if control not in (*GRADIENT_OPTIMIZERS, "none"):
        raise unknown_name("control", control, (*GRADIENT_OPTIMIZERS, "none"))
    kinds = tuple(part.strip() for part in start.split(",") if part.strip())
    if start == START:
        kinds = kinds[: max(1, starts)] if target else ("prior",)  # only a target has a posterior mean to start at
    config = {key: values[key] for key in ("starts", "loss", "lr", "tol", "max_steps", "context")}
    config |= {"optimizer": name, "start": kinds}
    config["prior_weight"] = (1.0 if target else 0.0) if prior_weight is None else prior_weight
    session = {"seed": seed, "out": out, "device": device, "control": control} | ({"limit": limit} if target else {})
    optimize_runners.search_by_gradient(console, model, sought, config, session, deadline, opening)


def _refuse(names: set[str], why: str, remedy: str = "") -> None:
    """Refuse options that do not fit the search."""
    if names:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
        raise UsageError(f"{flags}: {why}", remedy or ("Leave it out." if len(names) == 1 else "Leave them out."))
