"""``lso benchmark``: two experiments of the papers, `image-targets` (NE-VAE 2021) and `lagging` (He et al. 2019)."""

import dataclasses
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, command_line, display_path
from lso.cli.options import (
    OUTPUT,
    AcceptChanges,
    Device,
    Json,
    Quiet,
    Seed,
    TimeLimit,
    Trust,
    Verbose,
    complete_runs,
    seconds,
)
from lso.cli.output_paths import open_training
from lso.cli.signals import Signals
from lso.reports.report_kind import require_own
from lso.tasks.papers.lagging import QUICK, LaggingConfig, parts
from lso.tasks.training import run_set
from lso.vae.errors import UsageError
from lso.vae.runs import choose_folder, runs_root
from lso.vae.utils.files import remove_leftovers_below
from lso.vae.utils.reading import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from lso.tasks.papers.image_targets import BenchmarkConfig, TargetOutcome
    from lso.tasks.papers.lagging_metrics import Findings
    from lso.vae.runs import Run

Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--models",
        help="Training runs on the same data: give the flag several times, or several runs after it.",
        metavar="RUN...",
        show_default=False,
        autocompletion=complete_runs,
    ),
]


def image_targets(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="Further training runs.", show_default=False)
    ] = None,
    models: Models = None,
    targets: Annotated[int, typer.Option(help="Search for the first N test images.", metavar="N", min=1)] = 50,
    thresholds: Annotated[
        str,
        typer.Option(
            help="Stopping thresholds: the search for an image stops once its loss falls by less than X in 100 steps.",
            metavar="X,...",
        ),
    ] = "0.01,0.005,0.002,0.001,0.0005,0",
    lr: Annotated[str, typer.Option(help="Learning rate of Adam; several are compared.", metavar="X,...")] = "0.01",
    max_steps: Annotated[int, typer.Option(help="Number of steps at most.", metavar="N", min=100)] = 50_000,
    context: Annotated[
        str,
        typer.Option(
            help="Pixels that an autoregressive decoder sees: target (as in training), own (its own draw) or blank.",
            metavar="NAME",
        ),
    ] = "target",
    as_one: Annotated[
        bool,
        typer.Option(
            help="Also count the steps of one search over all images, stopped by the sum of their losses. Without "
            "it, images that have stopped cost no further computation."
        ),
    ] = True,
    controls: Annotated[
        str,
        typer.Option(help="Other optimizers from the same starts, for comparison; empty: none.", metavar="NAME,..."),
    ] = "sgd,lbfgs",
    time_limit: TimeLimit = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results; repeat the command with the same folder to continue. Default: a new one.",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for the codes of the same images in several models; compare starts, distances and steps.

    The experiment of NE-VAE (2021), section 5.4: Adam on the squared error,
    started at a draw from the prior and at the encoder's code.
    """
    console = Console(json=json, quiet=quiet)
    limit = None if time_limit is None else seconds(time_limit)
    paths = [*(models or []), *(more or [])]
    runs = [open_training(path, console, trust=trust, accept_changes=accept_changes) for path in paths]
    levels, rates = parse_numbers(thresholds, "thresholds"), parse_numbers(lr, "learning rates")
    folder = out or choose_folder("image-targets")
    require_own(folder, "image-targets")
    remove_leftovers_below(folder)
    console.loading()
    from lso.tasks.papers import image_targets as experiment
    from lso.tasks.papers import image_targets_report as report
    from lso.tasks.papers.claims import judge_claims

    config = experiment.BenchmarkConfig(
        targets=targets,
        thresholds=tuple(levels),
        lr=rates[0],
        max_steps=max_steps,
        context=context,
        seed=seed,
        as_one=as_one,
        controls=tuple(filter(None, (name.strip() for name in controls.split(",")))),
    )
    experiment.check_same_images(runs)
    images = experiment.target_images(runs[0], config)
    with Signals() as signals:
        signals.listen()
        clock = SearchClock(console, signals, limit)
        done, unfinished = _search_models(runs, images, config, rates, folder, device, clock)
        clock.close()
    if not done:
        raise UsageError(
            "the time limit was reached before any search had made its first 100 steps", "Raise --time-limit."
        )
    cut = clock.reason if unfinished else ""
    banners = report.image_targets_banners(runs, cut, unfinished)
    written = report.write_image_targets_report(done, images, config, folder, banners)
    console.emit({"folder": folder, "cut": cut, "report": written, **read_json(written.with_suffix(".json"))})
    for banner in banners:
        console.warn(banner)
    first = next(iter(done.values()))
    claims = judge_claims(first)
    claimed = [report.image_target_claims(claims)] if claims else []
    for table in (report.model_table(first), report.iteration_table(first), report.threshold_table(first), *claimed):
        console.result()
        console.table(table.columns, [list(row) for row in table.rows])
        if table.note:
            console.note(table.note)
    console.result(f"report: {display_path(written)}")
    if cut:
        again = f" --out {quote(display_path(folder))}" if out is None else ""
        console.result(f"{cut}; continue: {command_line()}{again}")
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def _search_models(
    runs: "list[Run]",
    images: "Tensor",
    config: "BenchmarkConfig",
    rates: list[float],
    folder: Path,
    device: str,
    clock: "SearchClock",
) -> "tuple[dict[float, list[TargetOutcome]], list[str]]":
    """Search in every model at every learning rate, or take what the folder has of an earlier call.

    Returns what was found by learning rate, and the names of the searches that are not finished.
    """
    from lso.tasks.papers import image_targets as experiment

    found: dict[float, list[TargetOutcome]] = {}
    unfinished: list[str] = []
    for rate in rates:
        at_rate = dataclasses.replace(config, lr=rate)
        for run in runs:
            outcome = experiment.read_outcome(run, at_rate, folder)
            name = f"{run.path.name} at learning rate {rate:g}" if len(rates) > 1 else run.path.name
            if outcome is None and clock.should_stop():
                unfinished.append(name)
                continue
            if outcome is None:
                clock.begin(name, config.max_steps)
                begun = experiment.read_interrupted(run, at_rate, folder)
                outcome = experiment.benchmark(run, images, at_rate, device=device, stop=clock.step, begun=begun)
                experiment.write_outcome(outcome, run, at_rate, folder)
            found.setdefault(rate, []).append(outcome)
            unfinished += [] if outcome.finished else [name]
    return found, unfinished


class SearchClock:
    """Shows the progress of one search after the other, and says when to stop: at the time limit or after Ctrl-C."""

    def __init__(self, console: Console, signals: Signals, limit: float | None) -> None:
        self._console, self._signals = console, signals
        self._deadline = None if limit is None else monotonic() + limit
        self._bar: Any = None
        self._steps, self.reason = 0, ""

    def begin(self, name: str, steps: int) -> None:
        """Start the bar of a new search."""
        from lso.cli.progress import Counting

        self.close()
        self._bar, self._steps = Counting(self._console, "steps", f"searching {name}"), steps

    def step(self, done: int) -> bool:
        """Show the number of steps done, and return `should_stop`: the callback of a search."""
        if self._bar is not None:
            self._bar(done, self._steps)
        return self.should_stop()

    def should_stop(self) -> bool:
        """Whether the time limit was reached or a signal came; `reason` then says which."""
        if caught := self._signals.reason():
            self.reason = caught
        elif self._deadline is not None and monotonic() >= self._deadline:
            self.reason = "reached the time limit"
        return bool(self.reason)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def parse_numbers(text: str, what: str) -> list[float]:
    """The different numbers of a comma-separated list, in its order; ``what`` names them in the error."""
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise UsageError(f"cannot read the {what} {text!r}", "Write numbers separated by commas, e.g. 0.01,0.005,0")
    return list(dict.fromkeys(numbers))


PAPER = LaggingConfig()  # the size of the paper's experiment


def lagging(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"A small version, of a few minutes: {QUICK.limit:,} sequences, {QUICK.epochs} epochs, grid stride "
            f"{QUICK.stride:g}.",
        ),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Trainings of each method, with seeds 0, 1, ... Default: 1.", metavar="N", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Number of training sequences. Default: all 16,000.", metavar="N", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Number of epochs at most. Default: 50.", metavar="N", show_default=False)
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            help="Training steps at which posterior means are measured. Default: 0,200,1000,2000.",
            metavar="N,...",
            show_default=False,
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="Validation sequences whose posterior means are measured. Default: 500.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(
            help="Stride of the grid over z that integrates the true posterior. Default: 0.01.",
            metavar="X",
            show_default=False,
        ),
    ] = None,
    offset: Annotated[
        bool, typer.Option("--offset/--no-offset", help="Also train with offset initialization, up to the last stage.")
    ] = True,
    data: Annotated[
        Path | None,
        typer.Option(
            help="File or folder of such sequences. Default: they are generated.", metavar="PATH", show_default=False
        ),
    ] = None,
    time_limit: TimeLimit = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs. Default: runs/lagging, or runs/lagging-quick.",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a VAE that collapses and one that does not, and compare their true posterior means with the encoder's.

    The experiment of He et al. (2019), section 3: plain against aggressive
    training, with one latent dimension. True posteriors are integrated on a
    grid. Repeat the command to continue.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    time = None if time_limit is None else seconds(time_limit)
    options: dict[str, Any] = {"seeds": seeds, "limit": limit, "epochs": epochs, "points": points, "stride": stride}
    options["stages"] = None if stages is None else parse_steps(stages)
    given = {key: value for key, value in options.items() if value is not None}
    config = dataclasses.replace(QUICK if quick else PAPER, offset=offset, **given)
    folder = out or runs_root() / ("lagging-quick" if quick else "lagging")
    require_own(folder, "lagging", "posterior-means*.png", "one-datum.png")
    remove_leftovers_below(folder)
    settings = {"data": {"path": str(data)}} if data else {}
    if accept_changes:
        run_set.accept_changes([part.planned for part in parts(config, settings)], folder)
    planned = parts(config, run_set.settings_as_begun(folder, settings))
    run_set.check_folders([part.planned for part in planned], folder)
    console.loading()
    from lso.cli.progress import StopRequests, show_work
    from lso.tasks.papers.lagging import begin
    from lso.tasks.papers.lagging_metrics import explore
    from lso.tasks.papers.lagging_report import write_lagging_report

    with Signals() as signals:
        console.note(f"{len(planned)} trainings in {display_path(folder)}; those finished there are kept")
        signals.listen()
        with show_work(console, StopRequests(signals)) as callback:
            findings = explore(planned, config, begin(planned, folder, device, callback, time))
    banners = describe_reduction(config)
    banners += [f"Cut off: {findings.cut}. What is missing is not judged."] if findings.cut else []
    written = write_lagging_report(findings, config, folder, banners)
    _print_findings(console, findings, folder, written)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def describe_reduction(config: LaggingConfig) -> list[str]:
    """What makes an experiment smaller than the paper's, in a sentence; nothing if it is not."""
    texts = {"limit": "training sequences: {:,} instead of 16,000", "epochs": "epochs: {} instead of {}"}
    texts |= {"points": "points: {} instead of {}", "stride": "grid stride: {:g} instead of {:g}"}
    cuts = [
        text.format(getattr(config, key), getattr(PAPER, key))
        for key, text in texts.items()
        if getattr(config, key) != getattr(PAPER, key)
    ]
    return [f"Not the paper's size: {', '.join(cuts)}."] if cuts else []


def parse_steps(text: str) -> tuple[int, ...]:
    """The different training steps of a comma-separated list, rising."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"cannot read the stages {text!r}", "Write whole numbers: --stages 0,200,1000,2000")
    return tuple(sorted({int(part) for part in parts}))


def _print_findings(console: Console, findings: "Findings", folder: Path, written: Path) -> None:
    from lso.tasks.papers.lagging_report import claim_table, ending_table, sentence

    content = read_json(written.with_suffix(".json"))
    console.emit(
        {"folder": folder, "report": written}
        | {key: content[key] for key in ("cut", "settings", "claims", "endings", "banners")}
    )
    for banner in content["banners"]:
        console.note(banner)
    for table in (ending_table(findings), claim_table(findings)):
        console.table(table.columns, [list(row) for row in table.rows])
        if table.note:
            console.note(table.note)
        console.result()
    console.result(sentence(findings))
    console.result(f"report: {display_path(written)}")
    if findings.cut:
        console.result(f"{findings.cut}; continue: {command_line()}")
