"""``lso train``: train a model into a new run folder, or continue an interrupted training."""

import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, display_path, format_duration
from lso.cli.flags import configurable, given_flags
from lso.cli.options import (
    LIMITS,
    OUTPUT,
    AcceptChanges,
    ConfigFile,
    Device,
    Json,
    Log,
    Quiet,
    TimeLimit,
    Trust,
    Verbose,
    complete_runs,
    loggers,
    seconds,
)
from lso.cli.run_argument import takes_run
from lso.cli.signals import Signals
from lso.vae.errors import UsageError
from lso.vae.launch import is_main_process
from lso.vae.utils.trust import Trust as Trusted
from lso.vae.utils.user_module import is_user_module
from lso.vae.utils.validation import pluralize

if TYPE_CHECKING:
    from lso.vae.callbacks import Callback
    from lso.vae.config.training import TrainConfig
    from lso.vae.data.dataset import Dataset
    from lso.vae.runs import Run
    from lso.vae.training.loop import Limits

LOG_FOLDER = "tensorboard"  # `lso.vae.tensorboard.FOLDER`, whose module imports torch

Resume = Annotated[
    Path | None,
    typer.Option(
        help="Continue this training; on a CPU it ends with the same numbers as one that was never interrupted.",
        metavar="RUN",
        rich_help_panel=LIMITS,
        autocompletion=complete_runs,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder to make. Default: a new one in runs/.", metavar="DIR", rich_help_panel=OUTPUT),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(help="Stop after training step N; --resume continues.", metavar="N", min=0, rich_help_panel=LIMITS),
]


@functools.partial(takes_run, parameter="resume", panel=LIMITS)
@configurable
def train(
    values: dict[str, Any],
    config: ConfigFile = None,
    device: Device = "auto",
    out: Out = None,
    resume: Resume = None,
    max_steps: MaxSteps = None,
    time_limit: TimeLimit = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    log: Log = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a VAE into a new run folder, or continue a training with --resume.

    Ctrl-C saves and stops; --resume continues from there, or with more
    --epochs beyond the end. Several processes can train one model:
    torchrun --nproc-per-node 2 -m lso train ...
    """
    from lso.cli.output_paths import open_training
    from lso.tasks.training.plan import explain_method, plan
    from lso.vae.runs import choose_folder

    console = Console(json=json, quiet=quiet or not is_main_process(), verbose=verbose)
    limit = None if time_limit is None else seconds(time_limit)
    if resume is not None:
        # Two settings may stand beside --resume: the run's own tokenizer, named to say that its code is trusted, and
        # more epochs, which make a longer training and not another one.
        tokenizer = values.get("data", {}).pop("tokenizer", None)
        epochs = values.get("protocol", {}).pop("epochs", None)
        _refuse_with_resume([*given_flags(values), *(["--config"] if config else []), *(["--out"] if out else [])])
        trusted: Trusted = trust or (() if tokenizer is None else (tokenizer,))
        run = open_training(resume, console, trust=trusted, accept_changes=accept_changes)
        if tokenizer is not None and tokenizer != run.config.data.tokenizer:
            _refuse_with_resume([f"--tokenizer {tokenizer} (this run's is {run.config.data.tokenizer})"])
        if epochs is not None:
            console.loading()
            from lso.vae.training.extension import lengthen

            run = lengthen(run, epochs)
    else:
        full = plan(values, config, trust)  # mistakes show before PyTorch is loaded
        choose_folder("", out)
        if taken := explain_method(values, config, full):
            console.note(taken)
    console.loading()
    from lso.vae.training.loop import Limits

    limits, callbacks = Limits(steps=max_steps, seconds=limit), loggers(log)
    with Signals() as signals:
        run = (
            _continue(run, device, console, signals, limits, callbacks)
            if resume
            else _train_new(full, out, device, console, signals, limits, callbacks)
        )
    if not is_main_process():
        # torch's clean-up at exit aborted in one of six such processes, which ends the main process too: skip it.
        sys.stderr.flush()
        os._exit(signals.exit_code)
    if (run.path / LOG_FOLDER).is_dir():
        console.note(f"curves: tensorboard --logdir {quote(display_path(run.path / LOG_FOLDER))}")
    _conclude(run, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _refuse_with_resume(flags: list[str]) -> None:
    if flags:
        raise UsageError(
            f"{' and '.join(flags)} cannot be given with --resume",
            "A resumed run keeps the settings in its config.toml; leave them out, or train a new run.",
        )


def _train_new(
    full: "TrainConfig",
    out: Path | None,
    device: str,
    console: Console,
    signals: Signals,
    limits: "Limits",
    callbacks: "Sequence[Callback]",
) -> "Run":
    from lso.cli.progress import show_reading
    from lso.tasks.datasets.loading import load_dataset
    from lso.tasks.training import experiment

    experiment.resolve_device(device)
    with show_reading(console) as reading:
        dataset = load_dataset(full.data, full.protocol.binarize, full.seed, progress=reading, trust=True)
    with _training_progress(console, signals, callbacks, dataset) as callback:
        return experiment.train_planned(full, dataset, out=out, device=device, callback=callback, limits=limits)


def _continue(
    run: "Run",
    device: str,
    console: Console,
    signals: Signals,
    limits: "Limits",
    callbacks: "Sequence[Callback]",
) -> "Run":
    from lso.tasks.training import experiment

    if run.info["status"] == "finished":
        console.note(f"{display_path(run.path)} is already finished: there is nothing to do")
        return experiment.resume(run)
    with _training_progress(console, signals, callbacks) as callback:
        return experiment.resume(run, device=device, callback=callback, limits=limits)


@contextmanager
def _training_progress(
    console: Console, signals: Signals, callbacks: "Sequence[Callback]", dataset: "Dataset | None" = None
) -> "Iterator[Callback]":
    """The callback of a training: the main process shows progress and logs, and all processes stop on a signal."""
    from lso.cli.progress import StopRequests, show_work
    from lso.vae.callbacks import Callback, Event

    class Announce(Callback):
        def on_start(self, event: Event) -> None:
            _announce(event.source, event.done, console, dataset)

    if not is_main_process():
        yield StopRequests(signals)
        return
    with show_work(console, Announce(), *callbacks, StopRequests(signals)) as callback:
        yield callback


SMALL_FOR_SGD = 0.02  # a learning rate below it is one for adam; text is trained by sgd at 1, decayed to 1/32 at least


def _announce(run: "Run", done: int, console: Console, dataset: "Dataset | None" = None) -> None:
    config, info = run.config, run.info
    latent = config.architecture.latent_dim
    count = f"{pluralize(len(dataset.train), config.kind)} of " if dataset else ""
    resumed = bool(done) or dataset is None  # at step 0, too: killed before its first checkpoint
    verb = f"Continuing at step {done}:" if resumed else "Training"
    data = f"{config.data.task} ({count}{_describe_shape(info['shape'])})"
    console.note(
        f"{verb} {config.method.name} on {data}: {config.architecture.name}, "
        f"{pluralize(latent, 'latent') if latent else 'no latents'}, up to "
        f"{pluralize(config.protocol.epochs, 'epoch')}, "
        f"seed {config.seed}, on {info['device']}"
    )
    console.notes(info["dataset"]["provenance"].get("notes", ()) if dataset else ())
    protocol = config.protocol
    if not done and protocol.optimizer == "sgd" and protocol.learning_rate < SMALL_FOR_SGD:
        console.note(
            f"learning rate {protocol.learning_rate:g} is small for sgd, which text is trained with by default at 1: "
            "--optimizer adam suits rates of this size"
        )
    if console.json:
        console.note(display_path(run.path))
    console.result(display_path(run.path))
    sys.stdout.flush()


def _describe_shape(shape: list[int]) -> str:
    """The size of an image, or the greatest length and the vocabulary of a sequence."""
    if len(shape) == 2:
        # The length counts the start and the end symbol.
        return f"at most {pluralize(shape[0] - 2, 'token')}, vocabulary {shape[1]:,}"
    channels, height, width = shape
    return f"{height}x{width}" + (" in colour" if channels == 3 else "")


def _describe_metrics(row: Mapping[str, Any], latent: int, datum: str) -> str:
    """The validation metrics of an epoch in one line."""
    if not latent:
        perplexity = "" if row.get("perplexity") is None else f", perplexity {row['perplexity']:z.2f}"
        return f"no latents: the likelihood is exact, {row['neg_elbo']:z.2f} nats {datum}{perplexity}"
    # Rows of older versions lack the first, or the first two.
    key = next(key for key in ("mi_split", "mi", "mi_mixed") if key in row)
    over = "over the split" if key == "mi_split" else "within batches"
    return (
        f"-ELBO {row['neg_elbo']:z.2f} = reconstruction {row['reconstruction']:z.2f} + KL {row['kl']:z.2f}, "
        f"MI {row[key]:z.2f} nats {over}, re-encoding error {row['reencoding_error']:z.2f}, "
        f"{row['active_units']} active of {latent} latents"
    )


def _conclude(run: "Run", console: Console) -> None:
    from lso.vae.metrics.collapse import caution, read
    from lso.vae.runs import REPORT

    info, best, rows = run.info, run.best(), run.metrics()
    latent = run.config.architecture.latent_dim
    datum = {"image": "an image", "sequence": "a sequence"}[run.config.kind]
    resume = f"lso train --resume {quote(display_path(run.path))}"
    held_out = info["dataset"]["provenance"].get("split", {}).get("counts", {}).get("test", 20)
    trusted = " --trust" if is_user_module(run.config.architecture.name) else ""  # which other commands have to import
    resume += trusted
    following = f"lso optimize --model {quote(display_path(run.path))} --target test:{min(20, held_out)}{trusted}"
    if not latent:
        following = f"lso evaluate {quote(display_path(run.path))}"
    console.emit(
        {
            "run": run.path,
            "status": info["status"],
            "sentence": info["sentence"],
            "verdict": run.verdict,
            "best": best,
            "kept_by": run.kept_by(),
            "last": rows[-1] if rows else {},
            "next": following if info["status"] == "finished" else resume,
        }
    )
    duration = f", in {format_duration(info['seconds'])}" if info.get("seconds") else ""
    console.result(f"{info['sentence']}{duration}")
    if best:
        if info["status"] != "finished":  # the sentence of a finished run says it already
            console.result(f"{run.kept_by()} so far")
        use = read(info) if latent else None
        used = f"; the decoder uses {use.used} of them" if use else ""
        console.result(f"epoch {best['epoch']}: {_describe_metrics(best, latent, datum)}{used}")
        if rows[-1]["epoch"] != best["epoch"]:
            console.result(f"the last epoch, {rows[-1]['epoch']}: {_describe_metrics(rows[-1], latent, datum)}")
    if doubt := run.verdict or caution(info):
        console.result(doubt, "yellow")
    if (run.path / REPORT).is_file():
        console.result(f"report: {display_path(run.path / REPORT)}")
    console.result(f"next: {following}" if info["status"] == "finished" else f"continue: {resume}")
    console.result(display_path(run.path))
