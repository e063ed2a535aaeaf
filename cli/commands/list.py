"""``lso list``: the names there are, with one line each."""

import inspect
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from lso.cli.console import Console, shown
from lso.cli.options import Json
from lso.vae.errors import LsoError
from lso.vae.runs import INFO, Run, list_runs, runs_root


class Listing(StrEnum):
    """What can be listed."""

    methods = "methods"
    architectures = "architectures"
    tasks = "tasks"
    optimizers = "optimizers"
    tables = "tables"
    runs = "runs"


Table = tuple[Sequence[str], list[list[Any]]]


def listing(
    kind: Annotated[Listing, typer.Argument(help="What to list.", show_default=False)], json: Json = False
) -> None:
    """List methods, architectures, tasks, optimizers, published tables or runs."""
    console = Console(json=json)
    columns, rows = {
        Listing.methods: _methods,
        Listing.architectures: _architectures,
        Listing.tasks: _tasks,
        Listing.optimizers: _optimizers,
        Listing.tables: _tables,
        Listing.runs: _runs,
    }[kind]()
    console.emit([dict(zip(columns, row, strict=True)) for row in rows])
    if kind is Listing.runs and not rows:
        console.note(f"no runs under {runs_root()}/; make one: lso train --method ne-vae-se")
        return
    console.table(columns, rows)
    if kind is Listing.methods:
        console.result()
        console.result("Parameters go after a colon: --method ne-vae-se:weight=5,anneal=20. All methods with latents")
        console.result("also take anneal (length of the KL ramp), unit (epochs or iterations), start (its first")
        console.result("weight) and cycles.")
        console.result("Methods that differ in kind are joined by a plus: --method sa-vae+skip-vae:steps=20")


def _methods() -> Table:
    from lso.vae.config.methods import METHODS, method, parameters

    shared = set.intersection(*(set(parameters(name)) for name in METHODS)) - {"anneal"}
    rows = []
    for name, spec in METHODS.items():
        latents = method(name, **spec.example).latents
        own = {key: p.default for key, p in parameters(name).items() if latents and key not in shared}
        text = ", ".join(
            f"{key} (needed)" if value is inspect.Parameter.empty else f"{key}={_plain(value)}"
            for key, value in own.items()
        )
        rows.append([name, text, spec.summary, spec.source])
    return ("method", "parameters", "what it is", "source"), rows


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _architectures() -> Table:
    from lso.vae.config.architectures import ARCHITECTURES

    return ("architecture", "width", "what it is"), [[name, s.width, s.summary] for name, s in ARCHITECTURES.items()]


def _tasks() -> Table:
    from lso.tasks.task import TASKS

    columns = ("task", "arch", "epochs", "batch", "binarize", "what it is")
    return columns, [
        [name, row.architecture, row.protocol.epochs, row.protocol.batch_size, row.protocol.binarize, row.summary]
        for name, row in TASKS.items()
    ]


def _optimizers() -> Table:
    from lso.optimizers import BLACK_BOX_OPTIMIZERS, GRADIENT_OPTIMIZERS

    columns = ("optimizer", "kind", "step size", "extra", "what it is")
    rows = [[name, "gradient", spec.learning_rate, None, spec.summary] for name, spec in GRADIENT_OPTIMIZERS.items()]
    for name, spec in BLACK_BOX_OPTIMIZERS.items():
        rows.append([name, "black box", None, spec.extra or None, spec.summary])
    return columns, rows


def _tables() -> Table:
    from lso.cli.commands.reproduce import listed

    return listed()


def _runs() -> Table:
    columns = ("run", "kind", "method", "status", "started", "-ELBO", "active", "note")
    return columns, [_run_row(run) for run in reversed(_everywhere())]


def _everywhere() -> list[Run]:
    """All runs, oldest first, and those of sweeps and reproductions, which lie one folder below."""
    root = runs_root()
    folders = [path for path in root.glob("*/") if not (path / INFO).exists() and not path.name.startswith(".")]
    found = [*list_runs(), *(run for folder in folders for run in list_runs(folder))]
    return sorted(found, key=lambda run: (_started(run), str(run.path)))


def _started(run: Run) -> str:
    try:
        return str(run.info.get("started", ""))
    except LsoError:
        return ""


def _run_row(run: Run) -> list[Any]:
    """A damaged run is listed with what is wrong, not left out."""
    try:
        info = run.info
        started = str(info.get("started", ""))[:16].replace("T", " ")
        row = [shown(run.path), info["kind"], None, info["status"], started, None, None]
        if info["kind"] == "train":
            best = run.best()
            row[2] = run.config.method.name
            units = best.get("active_units") if run.config.architecture.latent_dim else None
            row[5:] = [best.get("neg_elbo"), units]
        else:
            again = "every" in info["search"]
            row[2] = info["search"]["optimizer"] + (f", retraining every {info['search']['every']}" if again else "")
        return [*row, "latents not in use" if run.verdict else ""]
    except (LsoError, KeyError, ValueError) as error:
        return [shown(run.path), None, None, "damaged", None, None, None, str(error).splitlines()[0]]
