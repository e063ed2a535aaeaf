"""``lso list``: names of methods, architectures, tasks, optimizers, tables, models and runs, one line each."""

import inspect
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from lso.cli.console import Console, display_path
from lso.cli.options import Json
from lso.vae.errors import LsoError
from lso.vae.runs import INFO, Run, list_runs, runs_root
from lso.vae.zoo import PREFIX, read_card, read_test_metrics, zoo_names


class ListKind(StrEnum):
    """What can be listed."""

    methods = "methods"
    architectures = "architectures"
    tasks = "tasks"
    optimizers = "optimizers"
    tables = "tables"
    models = "models"
    runs = "runs"


Table = tuple[Sequence[str], list[list[Any]]]


def list_names(
    kind: Annotated[ListKind, typer.Argument(help="What to list.", show_default=False)], json: Json = False
) -> None:
    """List the methods, architectures, tasks, optimizers, published tables, installed models or runs."""
    console = Console(json=json)
    columns, rows = {
        ListKind.methods: _list_methods,
        ListKind.architectures: _list_architectures,
        ListKind.tasks: _list_tasks,
        ListKind.optimizers: _list_optimizers,
        ListKind.tables: _list_tables,
        ListKind.models: _list_models,
        ListKind.runs: _list_runs,
    }[kind]()
    console.emit([dict(zip(columns, row, strict=True)) for row in rows])
    if kind is ListKind.runs and not rows:
        console.note(f"no runs in {runs_root()}/; to train one: lso train --method ne-vae-se")
        return
    console.table(columns, rows)
    if kind is ListKind.models:
        console.result()
        console.result('Each is a run: lso optimize --model zoo:NAME ..., lso sample zoo:NAME, lso.load("zoo:NAME")')
    if kind is ListKind.architectures:
        console.result()
        console.result(
            "Networks of your own: --arch package.module:Class, a torch module with encode, decode and latent_dim."
        )
    if kind is ListKind.methods:
        console.result()
        console.result(
            "Parameters follow a colon: --method ne-vae-se:weight=5,anneal=20. All methods with latents also"
        )
        console.result("take those of the KL ramp: anneal (its length), unit (of anneal: epochs or iterations), start")
        console.result("(the first KL weight) and cycles (how often it is repeated; 0: one ramp).")
        console.result("Methods that change different parts of the training are joined by a plus:")
        console.result("--method sa-vae+skip-vae:steps=20")


def _list_methods() -> Table:
    from lso.vae.config.methods import METHODS, method, parameters

    shared = set.intersection(*(set(parameters(name)) for name in METHODS)) - {"anneal"}
    rows = []
    for name, spec in METHODS.items():
        latents = method(name, **spec.example).latents
        own = {key: p.default for key, p in parameters(name).items() if latents and key not in shared}
        text = ", ".join(
            f"{key} (needed)" if value is inspect.Parameter.empty else f"{key}={_format_default(value)}"
            for key, value in own.items()
        )
        rows.append([name, text, spec.summary, spec.source])
    return ("method", "parameters", "what it is", "source"), rows


def _format_default(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _list_architectures() -> Table:
    from lso.vae.config.architectures import ARCHITECTURES

    return ("architecture", "width", "what it is"), [[name, s.width, s.summary] for name, s in ARCHITECTURES.items()]


def _list_tasks() -> Table:
    from lso.tasks.task import TASKS

    columns = ("task", "arch", "epochs", "batch", "binarize", "what it is")
    return columns, [
        [name, row.architecture, row.protocol.epochs, row.protocol.batch_size, row.protocol.binarize, row.summary]
        for name, row in TASKS.items()
    ]


def _list_optimizers() -> Table:
    from lso.optimizers import BLACK_BOX_OPTIMIZERS, GRADIENT_OPTIMIZERS

    columns = ("optimizer", "kind", "step size", "extra", "what it is")
    rows = [[name, "gradient", spec.learning_rate, None, spec.summary] for name, spec in GRADIENT_OPTIMIZERS.items()]
    for name, spec in BLACK_BOX_OPTIMIZERS.items():
        rows.append([name, "black box", None, spec.extra or None, spec.summary])
    return columns, rows


def _list_tables() -> Table:
    from lso.cli.commands.reproduce import list_tables

    return list_tables()


def _list_models() -> Table:
    columns = ("model", "method", "architecture", "-ELBO", "MI", "decoder uses", "what it is")
    return columns, [_model_row(name) for name in zoo_names()]


def _model_row(name: str) -> list[Any]:
    run, card, metrics = Run(f"{PREFIX}{name}"), read_card(name), read_test_metrics(name)
    architecture = run.config.architecture
    used = f"{metrics['used_dimensions']} of {architecture.latent_dim}"
    row = [run.reference, run.config.method.name, architecture.name, metrics["neg_elbo"], metrics["mi"], used]
    return [*row, card["summary"]]


def _list_runs() -> Table:
    columns = ("run", "kind", "method", "status", "started", "-ELBO", "active", "note")
    return columns, [_run_row(run) for run in reversed(_all_runs())]


def _all_runs() -> list[Run]:
    """All runs, oldest first; those of sweeps and reproductions lie one folder further down."""
    root = runs_root()
    folders = [path for path in root.glob("*/") if not (path / INFO).exists() and not path.name.startswith(".")]
    runs = [*list_runs(), *(run for folder in folders for run in list_runs(folder))]
    return sorted(runs, key=lambda run: (_start_time(run), str(run.path)))


def _start_time(run: Run) -> str:
    try:
        return str(run.info.get("started", ""))
    except LsoError:
        return ""


def _run_row(run: Run) -> list[Any]:
    """The row of a run; one that is damaged is listed with what is wrong instead of left out."""
    try:
        info = run.info
        started = str(info.get("started", ""))[:16].replace("T", " ")
        row = [display_path(run.path), info["kind"], None, info["status"], started, None, None]
        if info["kind"] == "train":
            best = run.best()
            row[2] = run.config.method.name
            units = best.get("active_units") if run.config.architecture.latent_dim else None
            row[5:] = [best.get("neg_elbo"), units]
        else:
            every = info["search"].get("every")  # of searches that retrain the model
            row[2] = info["search"]["optimizer"] + (f", retraining every {every}" if every is not None else "")
        return [*row, run.verdict.partition(":")[0].lower()]
    except (LsoError, KeyError, ValueError) as error:
        return [display_path(run.path), None, None, "damaged", None, None, None, str(error).splitlines()[0]]
