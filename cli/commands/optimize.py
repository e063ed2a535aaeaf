"""``lso optimize``: search the latent space of a trained model, by gradient or as a black box."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.cli.console import Console
from lso.cli.flags import Flag, flags_of, with_flags
from lso.cli.options import (
    OUTPUT,
    AcceptChanges,
    BadFiles,
    Binarize,
    Channels,
    Device,
    Invert,
    Json,
    Quiet,
    Seed,
    Trust,
    complete_runs,
    completion,
    pixel_changes,
    seconds,
)
from lso.cli.run_argument import takes_run
from lso.optimizers import BLACK_BOX_OPTIMIZERS, GRADIENT_OPTIMIZERS, parse_optimizer
from lso.tasks.retraining.options import RetrainingConfig, RetrainingSession
from lso.tasks.search.options import (
    BLACK_BOX,
    DEFAULT_START,
    GOAL,
    LIMITS,
    BlackBoxConfig,
    BlackBoxSession,
    GradientSession,
    SearchConfig,
)
from lso.tasks.task import TASKS
from lso.vae.errors import UsageError, unknown_name

SearchedRun = Annotated[
    Path | None,
    typer.Argument(
        help="Training run whose latent space is searched. Default: the newest, of the task if --task names one.",
        metavar="RUN",
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
        autocompletion=completion("lso.optimizers:GRADIENT_OPTIMIZERS", "lso.optimizers:BLACK_BOX_OPTIMIZERS"),
    ),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        help="Stop after this time, e.g. 90s or 9m, and report what was found.", metavar="TIME", rich_help_panel=LIMITS
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
EveryNumber = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Print every key number, and the verdict of each report.", rich_help_panel=OUTPUT
    ),
]

# The kinds of search, each with the dataclasses whose fields it has as flags: its settings, and what else it takes.
KINDS: Mapping[str, tuple[type, type]] = {
    "gradient": (SearchConfig, GradientSession),
    "black_box": (BlackBoxConfig, BlackBoxSession),
    "retraining": (RetrainingConfig, RetrainingSession),
}


def _search_flags() -> tuple[dict[str, Flag], dict[str, frozenset[str]]]:
    """The flags of all kinds by field, those of one name once, and the kinds that have each."""
    flags: dict[str, Flag] = {}
    owners: dict[str, frozenset[str]] = {}
    for kind, classes in KINDS.items():
        for flag in (flag for owner in classes for flag in flags_of(owner, "")):
            flags.setdefault(flag.key, flag)
            owners[flag.key] = owners.get(flag.key, frozenset()) | {kind}
    return flags, owners


SEARCH_FLAGS, OWNERS = _search_flags()


@functools.partial(takes_run, panel=GOAL)
@functools.partial(with_flags, flags=tuple(SEARCH_FLAGS.values()))
def optimize(
    run: SearchedRun = None,
    *,
    target: Target = None,
    task: TaskGoal = None,
    objective: Objective = None,
    maximize: Sense = None,
    bad_files: BadFiles = None,
    channels: Channels = None,
    invert: Invert = None,
    binarize: Binarize = False,
    optimizer: Optimizer = None,
    values: dict[str, Any],
    resume: Resume = None,
    time_limit: TimeLimit = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: EveryNumber = False,
) -> None:
    """Search the latent space of a trained model, and report whether to believe the result.

    Searches for codes that reproduce given data (--target), or that optimize
    the goal of a task (--task) or your own score (--objective). The optimizer
    decides between gradient and black-box search; a score without gradients
    needs a black-box search.

    Ctrl-C ends the search early and reports what was found;
    --resume continues a black-box search.
    """
    from lso.cli.commands import optimize_runners

    console = Console(json=json, quiet=quiet, verbose=verbose)
    deadline = None if time_limit is None else seconds(time_limit)
    opening: dict[str, Any] = {"trust": trust, "accept_changes": accept_changes}
    pixels = pixel_changes(bad_files, channels, invert, binarize)
    if resume is not None:
        own = {"target": target, "task": task, "maximize": maximize, "model": run, "optimizer": optimizer, "out": out}
        _refuse_with_resume(values, own | {"seed": seed or None} | pixels)
        if objective is not None and not trust:  # naming the score again says that its code is trusted
            opening["trust"] = (objective,)
        optimize_runners.continue_black_box(console, resume, values, deadline, device, opening)
        return
    if not (target or task or objective):
        raise UsageError(
            "nothing to search for was given",
            "Give one of --target images/ or test:20, --task expressions, or --objective module:function",
        )
    if not target:
        _refuse(pixels, "only for the files of --target")
    elif "every" in values:
        raise UsageError(
            "--retrain-every weights training data by a score, and --target has none",
            "Use it with --task or --objective.",
        )
    name, options = parse_optimizer(optimizer or ("adam" if target else "turbo"))
    kind = "gradient" if name not in BLACK_BOX_OPTIMIZERS else "retraining" if "every" in values else "black_box"
    _refuse_other_kinds(values, kind, name)
    arguments = {"gradient": _gradient, "black_box": _black_box, "retraining": _retraining}[kind]
    config, session = arguments(values, name, options, target, seed)
    session |= {"out": out, "device": device}
    sought = {"task": task, "objective": objective, "target": target, "maximize": maximize, "pixels": pixels}
    optimize_runners.RUNNERS[kind](console, run, sought, config, session, deadline, opening)


Arguments = tuple[dict[str, Any], dict[str, Any]]  # settings, and further arguments of a search


def _gradient(
    values: Mapping[str, Any], name: str, options: Mapping[str, Any], target: str | None, seed: int
) -> Arguments:
    if options:
        raise UsageError(f"{name} takes no options after a colon", "Its learning rate is --lr.")
    session = GradientSession(**_fields(GradientSession, values))
    if session.control not in (*GRADIENT_OPTIMIZERS, "none"):
        raise unknown_name("control", session.control, (*GRADIENT_OPTIMIZERS, "none"))
    starts = values.get("starts", SEARCH_FLAGS["starts"].default)
    # Only a target has a posterior mean to start at, and a likelihood to weigh the prior against.
    defaults = {
        "start": DEFAULT_START[: max(1, starts)] if target else ("prior",),
        "prior_weight": 1.0 if target else 0.0,
    }
    limit = {"limit": session.limit} if target else {}
    return (
        {"optimizer": name, **defaults, **_fields(SearchConfig, values)},
        {"control": session.control, "seed": seed, **limit},
    )


def _black_box(
    values: Mapping[str, Any], name: str, options: Mapping[str, Any], target: str | None, seed: int
) -> Arguments:
    session = BlackBoxSession(**_fields(BlackBoxSession, values))
    return (
        {"optimizer": name, "options": options, **_fields(BlackBoxConfig, values)},
        {"seeds": session.seeds, "limit": session.limit, "seed": seed},
    )


def _retraining(
    values: Mapping[str, Any], name: str, options: Mapping[str, Any], target: str | None, seed: int
) -> Arguments:
    # In Python the defaults are the published ones; here --budget and --batch mean the same for all black-box searches.
    usual = BlackBoxConfig()
    defaults = {"budget": usual.budget, "batch": usual.batch}
    return (
        {"optimizer": name, "options": options, "seed": seed, **defaults, **_fields(RetrainingConfig, values)},
        _fields(RetrainingSession, values),
    )


def _fields(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are fields of a dataclass."""
    return {field.name: values[field.name] for field in dataclasses.fields(owner) if field.name in values}


def _refuse_other_kinds(values: Mapping[str, Any], kind: str, name: str) -> None:
    """Refuse flags that another kind of search has and this one has not."""
    foreign = {key for key in values if kind not in OWNERS[key]}
    if "every" not in values:
        retraining = {key for key in foreign if OWNERS[key] == {"retraining"}}
        _refuse(retraining, "only for a search that retrains", "Add --retrain-every 50, or leave it out.")
    gradient = {key for key in foreign if OWNERS[key] == {"gradient"}}
    _refuse(gradient, f"only for gradient optimizers, and {name} is none")
    black_box = f"only for black-box optimizers, and {name} is none"
    _refuse(foreign - gradient, "not for a search that retrains" if kind == "retraining" else black_box)


def _refuse_with_resume(values: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    fixed = {key for key in values if not SEARCH_FLAGS[key].setting.changeable}
    _refuse(fixed | {key for key, value in own.items() if value is not None}, "a resumed search keeps its own")


def _refuse(keys: Iterable[str], why: str, remedy: str = "") -> None:
    """Refuse options that do not fit the search."""
    names = [SEARCH_FLAGS[key].name if key in SEARCH_FLAGS else f"--{key.replace('_', '-')}" for key in keys]
    if names:
        remedy = remedy or ("Leave it out." if len(names) == 1 else "Leave them out.")
        raise UsageError(f"{', '.join(sorted(names))}: {why}", remedy)
