"""``lso benchmark``: the toy latent search on several models, and training in the space of posterior means."""

import dataclasses
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.commands.sweep import again
from lso.cli.commands.train import TimeLimit
from lso.cli.console import Console, shown
from lso.cli.options import OUTPUT, AcceptChanges, Device, Json, Quiet, Seed, Trust, Verbose, complete_runs, seconds
from lso.cli.output_paths import training_run
from lso.cli.signals import Signals
from lso.reports.report_kind import require_own
from lso.tasks.papers.lagging import QUICK, LaggingConfig, parts
from lso.tasks.training import run_set as members
from lso.vae import runs
from lso.vae.errors import UsageError
from lso.vae.runs import runs_root
from lso.vae.utils.files import clean_below
from lso.vae.utils.reading import read_json

if TYPE_CHECKING:
    from lso.tasks.papers.lagging_metrics import Findings


Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--models",
        help="Training runs on the same data; give it several times, or several after one.",
        metavar="RUN...",
        show_default=False,
        autocompletion=complete_runs,
    ),
]


def image_targets(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="More runs.", show_default=False)
    ] = None,
    models: Models = None,
    targets: Annotated[int, typer.Option(help="The first N test images.", metavar="N", min=1)] = 50,
    thresholds: Annotated[
        str, typer.Option(help="Decreases of an image's loss over 100 steps at which it stops.", metavar="X,...")
    ] = "0.01,0.005,0.002,0.001,0.0005,0",
    lr: Annotated[str, typer.Option(help="Of Adam; several make a small sweep.", metavar="X,...")] = "0.01",
    max_steps: Annotated[int, typer.Option(help="Steps at most.", metavar="N", min=100)] = 50_000,
    context: Annotated[
        str, typer.Option(help="Of an autoregressive decoder: target (as in training), own or blank.", metavar="NAME")
    ] = "target",
    as_one: Annotated[
        bool,
        typer.Option(
            help="Also count the steps of all images run as one; without, one that has stopped costs no more."
        ),
    ] = True,
    time_limit: TimeLimit = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; repeated into the same, searches go on.", metavar="DIR", rich_help_panel=OUTPUT),
    ] = None,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for the same images through several models: gap between starts, code distances, iterations.

    NE-VAE (2021), section 5.4: Adam on the squared error, from the prior and from the encoder.
    """
    console = Console(json=json, quiet=quiet)
    limit = None if time_limit is None else seconds(time_limit)
    paths = [*(models or []), *(more or [])]
    found = [training_run(path, console, trust=trust, accept_changes=accept_changes) for path in paths]
    levels, rates = numbers(thresholds, "thresholds"), numbers(lr, "learning rates")
    folder = out or runs.choose_folder("image-targets")
    require_own(folder, "image-targets")
    clean_below(folder)
    console.loading()
    from lso.tasks.papers import image_targets as kept
    from lso.tasks.papers import image_targets as toy
    from lso.tasks.papers import image_targets_report as page
    from lso.tasks.papers.claims import judge

    config = toy.BenchmarkConfig(
        targets=targets,
        thresholds=tuple(levels),
        lr=rates[0],
        max_steps=max_steps,
        context=context,
        seed=seed,
        as_one=as_one,
    )
    toy.check(found)
    images = toy.target_images(found[0], config)
    outcomes: dict[float, list[toy.TargetOutcome]] = {rate: [] for rate in rates}
    waiting: list[str] = []
    with Signals() as signals:
        signals.listen()
        clock = Clock(console, signals, limit)
        for rate in rates:
            one = dataclasses.replace(config, lr=rate)
            for run in found:
                outcome = kept.cached(run, one, folder)
                told = f"{run.path.name} at learning rate {rate:g}" if len(rates) > 1 else run.path.name
                if outcome is None and clock.over():
                    waiting.append(told)
                    continue
                if outcome is None:
                    clock.begin(told, max_steps)
                    part = kept.begun(run, one, folder)
                    outcome = toy.benchmark(run, images, one, device=device, stop=clock.stop, begun=part)
                    kept.keep(outcome, run, one, folder)
                outcomes[rate].append(outcome)
                waiting += [] if outcome.finished else [told]
        clock.close()
    done = {rate: part for rate, part in outcomes.items() if part}
    if not done:
        raise UsageError("the time was over before the first window of 100 steps", "Raise --time-limit.")
    cut = clock.reason if waiting else ""
    banners = page.banners(found, cut, waiting)
    written = page.write_report(done, images, config, folder, banners)
    first = next(iter(done.values()))
    content = read_json(written.with_suffix(".json"))
    console.emit({"folder": folder, "cut": cut, "report": written, **content})
    for banner in banners:
        console.warn(banner)
    claims = judge(first)
    judged = [page.claim_table(claims)] if claims else []
    tables = (page.model_table(first), page.iteration_table(first), page.threshold_table(first), *judged)
    for table in tables:
        console.result()
        console.table(table.columns, [list(row) for row in table.rows])
        if table.note:
            console.note(table.note)
    console.result(f"report: {shown(written)}")
    if cut:
        console.result(f"{cut}; continue: {again()}" + (f" --out {quote(shown(folder))}" if out is None else ""))
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


class Clock:
    """Progress on stderr, and when to stop.

    Args:
        console: where to tell.
        signals: Ctrl-C.
        limit: seconds, or None.
    """

    def __init__(self, console: Console, signals: Signals, limit: float | None) -> None:
        import time

        from lso.cli.progress.bars import Counting

        self._counting, self._console = Counting, console
        self._signals, self._now = signals, time.monotonic
        self._deadline = None if limit is None else self._now() + limit
        self._bar: Any = None
        self._steps, self.reason = 0, ""

    def begin(self, name: str, steps: int) -> None:
        """A new search."""
        self.close()
        self._bar, self._steps = self._counting(self._console, "steps", f"searching {name}"), steps

    def stop(self, step: int) -> bool:
        """Whether to end.

        Args:
            step: done.
        Returns:
            True once the time is over, or Ctrl-C was pressed.
        """
        if self._bar is not None:
            self._bar(step, self._steps)
        return self.over()

    def over(self) -> bool:
        """Whether the time is over, or Ctrl-C was pressed."""
        if caught := self._signals.reason():
            self.reason = caught
        elif self._deadline is not None and self._now() >= self._deadline:
            self.reason = "reached the time limit"
        return bool(self.reason)

    def close(self) -> None:
        """End the line of progress."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def numbers(text: str, what: str) -> list[float]:
    """Read numbers with commas between them."""
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found:
        raise UsageError(
            f"cannot read the {what} {text!r}", "Write numbers with commas between them, e.g. 0.01,0.005,0"
        )
    return list(dict.fromkeys(found))


FULL = LaggingConfig()


def lagging(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"A few minutes: {QUICK.limit:,} sequences, {QUICK.epochs} epochs, stride {QUICK.stride:g}.",
        ),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds 0, 1, ... Default: 1.", metavar="N", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Training sequences. Default: all 16,000.", metavar="N", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most. Default: 50.", metavar="N", show_default=False)] = None,
    stages: Annotated[
        str | None,
        typer.Option(help="Steps to look at. Default: 0,200,1000,2000.", metavar="N,...", show_default=False),
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Validation sequences to look at. Default: 500.", metavar="N", show_default=False)
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="Of the grid. Default: 0.01.", metavar="X", show_default=False)
    ] = None,
    offset: Annotated[
        bool, typer.Option("--offset/--no-offset", help="Offset initialization too, up to the last stage.")
    ] = True,
    data: Annotated[
        Path | None,
        typer.Option(help="Files of such sequences. Default: generated.", metavar="PATH", show_default=False),
    ] = None,
    time_limit: TimeLimit = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs. Default: runs/lagging.", metavar="DIR", rich_help_panel=OUTPUT),
    ] = None,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Watch a plain VAE collapse and an aggressive one not: He et al. (2019), section 3.

    Scalar z; true posterior means by grid against the encoder's. Repeat the command to go on.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    time = None if time_limit is None else seconds(time_limit)
    given: dict[str, Any] = {"seeds": seeds, "limit": limit, "epochs": epochs, "points": points, "stride": stride}
    given["stages"] = None if stages is None else steps(stages)
    changed = {key: value for key, value in given.items() if value is not None}
    config = dataclasses.replace(QUICK if quick else FULL, offset=offset, **changed)
    folder = out or runs_root() / ("lagging-quick" if quick else "lagging")
    require_own(folder, "lagging", "posterior-means*.png", "one-datum.png")
    clean_below(folder)
    settings = {"data": {"path": str(data)}} if data else {}
    if accept_changes:
        members.accept_changes([part.planned for part in parts(config, settings)], folder)
    planned = parts(config, members.as_begun(folder, settings))
    members.check([part.planned for part in planned], folder)
    console.loading()
    from lso.cli.progress.multi_run import LaggingProgress
    from lso.tasks.papers.lagging import begin
    from lso.tasks.papers.lagging_metrics import explore
    from lso.tasks.papers.lagging_report import write_report

    with Signals() as signals:
        console.note(f"{len(planned)} trainings in {shown(folder)}; what is done there is kept")
        signals.listen()
        session = begin(planned, folder, device, LaggingProgress(console, signals, folder), time)
        found = explore(planned, config, session)
    banners = less(config)
    banners += [f"Cut off: {found.cut}. What is missing is not judged."] if found.cut else []
    written = write_report(found, config, folder, banners)
    _tell(console, found, folder, written)
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)


def less(config: LaggingConfig) -> list[str]:
    """How an experiment is less than the paper's."""
    words = {"limit": "training sequences: {:,} instead of 16,000", "epochs": "epochs: {} instead of {}"}
    words |= {"points": "points: {} instead of {}", "stride": "grid stride: {:g} instead of {:g}"}
    cuts = [
        text.format(getattr(config, key), getattr(FULL, key))
        for key, text in words.items()
        if getattr(config, key) != getattr(FULL, key)
    ]
    return [f"Not the paper's size: {', '.join(cuts)}."] if cuts else []


def steps(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found or not all(part.isdecimal() for part in found):
        raise UsageError(f"cannot read the stages {text!r}", "Write whole numbers: --stages 0,200,1000,2000")
    return tuple(sorted({int(part) for part in found}))


def _tell(console: Console, found: "Findings", folder: Path, written: Path) -> None:

    from lso.tasks.papers.lagging_report import claim_table, ending_table, sentence

    told: dict[str, Any] = {"folder": folder, "report": written}
    content = read_json(written.with_suffix(".json"))
    console.emit(told | {key: content[key] for key in ("cut", "settings", "claims", "endings", "banners")})
    for banner in content["banners"]:
        console.note(banner)
    for table in (ending_table(found), claim_table(found)):
        console.table(table.columns, [list(row) for row in table.rows])
        if table.note:
            console.note(table.note)
        console.result()
    console.result(sentence(found))
    console.result(f"report: {shown(written)}")
    if found.cut:
        console.result(f"{found.cut}; continue: {again()}")
