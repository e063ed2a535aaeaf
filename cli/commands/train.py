"""``lso train``: a new training run, or an interrupted one continued."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.config_flags import configurable, given_flags
from lso.cli.console import Console, shown, span
from lso.cli.options import (
    LIMITS,
    OUTPUT,
    AcceptChanges,
    ConfigFile,
    Device,
    Json,
    Quiet,
    Trust,
    Verbose,
    complete_runs,
    seconds,
)
from lso.cli.output_paths import training_run
from lso.cli.signals import Signals
from lso.tasks.training.plan import plan
from lso.vae import runs
from lso.vae.config.training import TrainConfig
from lso.vae.errors import UsageError
from lso.vae.launch import is_main_process
from lso.vae.metrics.collapse import caution, read
from lso.vae.runs import Run
from lso.vae.utils.trust import Trust as Trusted
from lso.vae.utils.validation import pluralize

if TYPE_CHECKING:
    from lso.vae.data.dataset import Dataset
    from lso.vae.training.loop import Limits, TrainingCallback

Resume = Annotated[
    Path | None,
    typer.Option(
        help="Continue this run to the numbers of an unbroken one.",
        metavar="RUN",
        rich_help_panel=LIMITS,
        autocompletion=complete_runs,
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder. Default: a new one under runs/.", metavar="DIR", rich_help_panel=OUTPUT)
]
MaxSteps = Annotated[
    int | None, typer.Option(help="Stop after this step; resumable.", metavar="N", min=0, rich_help_panel=LIMITS)
]
TimeLimit = Annotated[
    str | None, typer.Option(help="Stop after e.g. 90s, 9m or 1.5h; resumable.", metavar="TIME", rich_help_panel=LIMITS)
]


@configurable
def train(
    settings: dict[str, Any],
    config: ConfigFile = None,
    device: Device = "auto",
    out: Out = None,
    resume: Resume = None,
    max_steps: MaxSteps = None,
    time_limit: TimeLimit = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a VAE into a new run folder, or continue one with --resume.

    Ctrl-C saves, and --resume goes on from there, on a CPU to the very same numbers, with more --epochs beyond the end.
    Several processes train one model: torchrun --nproc-per-node 2 -m lso train ...
    """
    console = Console(json=json, quiet=quiet or not is_main_process(), verbose=verbose)
    limit = None if time_limit is None else seconds(time_limit)
    if resume is not None:
        word = settings.get("data", {}).pop("tokenizer", None)  # the folder's own may be named, as the user's word
        epochs = settings.get("protocol", {}).pop("epochs", None)  # more of them are a longer training, not another one
        _refuse_with_resume([*given_flags(settings), *(["--config"] if config else []), *(["--out"] if out else [])])
        known: Trusted = trust or (() if word is None else (word,))
        run = _to_continue(training_run(resume, console, trust=known, accept_changes=accept_changes), word)
        if epochs is not None:
            console.loading()
            from lso.vae.training.extension import lengthen

            run = lengthen(run, epochs)
    else:
        if "method" not in settings and config is None:
            raise UsageError(
                "no method given",
                "Choose one, for example: lso train --method ne-vae-se (`lso list methods` shows all)",
            )
        full = plan(settings, config, trust)  # mistakes show before PyTorch is loaded
        runs.choose_folder("", out)
    console.loading()
    from lso.vae.training.loop import Limits

    limits = Limits(steps=max_steps, seconds=limit)
    with Signals() as signals:
        run = (
            _continue(run, device, console, signals, limits)
            if resume
            else _new(full, out, device, console, signals, limits)
        )
    if not is_main_process():
        # One in six such processes aborted in torch's clean-up, which takes the first one down with it: they skip it.
        sys.stderr.flush()
        os._exit(signals.exit_code)
    _conclude(run, console)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _refuse_with_resume(flags: list[str]) -> None:
    if flags:
        raise UsageError(
            f"{' and '.join(flags)} cannot be given with --resume",
            "A resumed run keeps the settings in its config.toml; leave them out, or train a new run.",
        )


def _to_continue(run: Run, tokenizer: str | None) -> Run:
    if tokenizer is not None and tokenizer != run.config.data.tokenizer:
        _refuse_with_resume([f"--tokenizer {tokenizer} (this run's is {run.config.data.tokenizer})"])
    return run


def _new(
    full: TrainConfig,
    out: Path | None,
    device: str,
    console: Console,
    signals: Signals,
    limits: "Limits",
) -> Run:
    from lso.cli.progress.bars import Reading
    from lso.tasks.datasets.loading import load_dataset
    from lso.tasks.training import experiment

    experiment.resolve_device(device)
    reading = Reading(console)
    dataset = load_dataset(full.data, full.protocol.binarize, full.seed, progress=reading, trust=True)
    reading.close()
    with _shown_progress(console, signals, dataset) as callback:
        return experiment.train_planned(full, dataset, out=out, device=device, callback=callback, limits=limits)


def _continue(run: Run, device: str, console: Console, signals: Signals, limits: "Limits") -> Run:
    from lso.tasks.training import experiment

    if run.info["status"] == "finished":
        console.note(f"{shown(run.path)} is finished already; nothing to do")
        return experiment.resume(run)
    with _shown_progress(console, signals) as callback:
        return experiment.resume(run, device=device, callback=callback, limits=limits)


@contextmanager
def _shown_progress(
    console: Console, signals: Signals, dataset: "Dataset | None" = None
) -> "Iterator[TrainingCallback]":
    """What a training shows in the first process, and that it listens to signals in all."""
    from lso.cli.progress.training import NoProgress, TrainingProgress

    if not is_main_process():
        yield NoProgress(signals)
        return
    callback = TrainingProgress(console, signals, lambda run, done: _announce(run, done, console, dataset))
    try:
        yield callback
    finally:
        callback.close()


def _announce(run: Run, done: int, console: Console, dataset: "Dataset | None" = None) -> None:
    config, info = run.config, run.info
    latent = config.architecture.latent_dim
    count = f"{pluralize(len(dataset.train), config.kind)} of " if dataset else ""
    verb = f"Continuing at step {done}:" if done else "Training"
    data = f"{config.data.task} ({count}{_size(info['shape'])})"
    console.note(
        f"{verb} {config.method.name} on {data}: {config.architecture.name}, "
        f"{pluralize(latent, 'latent') if latent else 'no latents'}, up to "
        f"{pluralize(config.protocol.epochs, 'epoch')}, "
        f"seed {config.seed}, on {info['device']}"
    )
    console.notes(info["dataset"]["provenance"].get("notes", ()) if dataset else ())
    if console.json:
        console.note(shown(run.path))
    console.result(shown(run.path))
    sys.stdout.flush()


def _size(shape: list[int]) -> str:
    if len(shape) == 2:
        return f"at most {pluralize(shape[0] - 2, 'token')}, vocabulary {shape[1]:,}"
    channels, height, width = shape
    return f"{height}x{width}" + (" in colour" if channels == 3 else "")


def _numbers(row: Mapping[str, Any], latent: int, datum: str) -> str:
    """What an epoch's weights have on the validation split."""
    from lso.cli.progress.training import perplexity

    if not latent:
        return f"no latents: the likelihood is exact, {row['neg_elbo']:z.2f} nats {datum}{perplexity(row)}"
    information = row.get("mi_split", row.get("mi", row.get("mi_mixed")))  # rows of older runs lack the first, or two
    return (
        f"-ELBO {row['neg_elbo']:z.2f} = reconstruction {row['reconstruction']:z.2f} + KL {row['kl']:z.2f}, "
        f"MI {information:z.2f} nats, re-encoding error {row['reencoding_error']:z.2f}, "
        f"{row['active_units']} active of {latent} latents"
    )


def _conclude(run: Run, console: Console) -> None:
    info, best, rows = run.info, run.best(), run.metrics()
    latent = run.config.architecture.latent_dim
    datum = {"image": "an image", "sequence": "a sequence"}[run.config.kind]
    again = f"lso train --resume {quote(shown(run.path))}"
    held_out = info["dataset"]["provenance"].get("split", {}).get("counts", {}).get("test", 20)
    following = f"lso optimize --model {quote(shown(run.path))} --target test:{min(20, held_out)}"
    if not latent:
        following = f"lso evaluate {quote(shown(run.path))}"
    console.emit(
        {
            "run": run.path,
            "status": info["status"],
            "sentence": info["sentence"],
            "verdict": run.verdict,
            "best": best,
            "kept_by": run.kept_by(),
            "last": rows[-1] if rows else {},
            "next": following if info["status"] == "finished" else again,
        }
    )
    took = f", in {span(info['seconds'])}" if info.get("seconds") else ""
    console.result(f"{info['sentence']}{took}")
    if best:
        if info["status"] != "finished":  # else the sentence says so
            console.result(f"{run.kept_by()} so far")
        use = read(info) if latent else None
        used = f"; the decoder uses {use.used} of them" if use else ""
        console.result(f"epoch {best['epoch']}: {_numbers(best, latent, datum)}{used}")
        if rows[-1]["epoch"] != best["epoch"]:
            console.result(f"the last epoch, {rows[-1]['epoch']}: {_numbers(rows[-1], latent, datum)}")
    if doubt := run.verdict or caution(info):
        console.result(doubt, "yellow")
    if (run.path / runs.REPORT).is_file():
        console.result(f"report: {shown(run.path / runs.REPORT)}")
    console.result(f"next: {following}" if info["status"] == "finished" else f"continue: {again}")
    console.result(shown(run.path))
