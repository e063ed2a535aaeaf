"""What several trainings show while they run: one after the other, in one batch, and the lagging experiment's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lso.cli.console import Console, shown
from lso.cli.progress.bars import Counting
from lso.cli.progress.training import EpochLines, TrainingProgress, metrics_text
from lso.cli.signals import Signals
from lso.reports.tables import pluralize
from lso.tasks.training.multi_run import Count, MultiRunCallback, train_all
from lso.tasks.training.run_set import EvaluationSpec, Member, Planned
from lso.vae.runs import INFO, Run
from lso.vae.training.callbacks import TrainingCallback


def range_text(rows: Sequence[Mapping[str, Any]], epochs: int, latent: int) -> str:
    """Rows of several trainings in half a line.

    Args:
        rows: as in metrics.jsonl, the last one of each.
        epochs: planned.
        latent: size of z.
    Returns:
        e.g. ``epoch 3/10  -ELBO 22.31 to 24.10  active 4 to 6/8``; the epoch is that of the last to get there.
    """
    parts = [f"epoch {min(row['epoch'] for row in rows):>{len(str(epochs))}}/{epochs}"]
    parts.append(f"{'-ELBO' if latent else 'NLL'} {_range([row['neg_elbo'] for row in rows], '.2f')}")
    if latent:
        parts.append(f"active {_range([row['active_units'] for row in rows], 'd')}/{latent}")
    return "  ".join(parts)


def _range(values: Sequence[float], form: str) -> str:
    ends = [f"{value:{form}}" for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


class AbreastProgress(EpochLines):
    """Shows trainings in lockstep and passes on the wish to stop.

    Args:
        console: where to print.
        signals: Ctrl-C and SIGTERM.
        names: of their folders.
    """

    def __init__(self, console: Console, signals: Signals, names: Sequence[str]) -> None:
        super().__init__(console, signals)
        self.names = names
        self._epochs, self._latent, self._total = 0, 0, 0
        self._done: dict[str, int] = {}
        self._rows: dict[str, Mapping[str, Any]] = {}

    def callbacks(self) -> list[TrainingCallback]:
        """The callback of each."""
        return [_One(self, name) for name in self.names]

    def warn(self, text: str) -> None:
        """Print what is to be known before they begin."""
        self.console.warn_once(text)

    def start(self, name: str, run: Run, steps: int, done: int) -> None:
        """Name it; once all are there the bar begins, and a signal stops them cleanly."""
        self._epochs, self._latent = run.config.protocol.epochs, run.config.architecture.latent_dim
        self.console.note(f"  {name}" + f", continuing at step {done}" * (done > 0))
        self._done[name] = done
        self._total += steps
        if len(self._done) == len(self.names):
            self.signals.listen()
            self.bar.start(self._total, sum(self._done.values()), f"epoch 0/{self._epochs}")

    def step(self, name: str, done: int) -> None:
        """Move the bar."""
        self._done[name] = done
        self.bar.move(sum(self._done.values()))

    def epoch(self, name: str, row: Mapping[str, Any]) -> None:
        """Show the numbers of all: beside the bar, or as a line if the last one is two seconds old."""
        self._rows[name] = row
        text = range_text(list(self._rows.values()), self._epochs, self._latent)
        if self.bar.live:
            self.bar.move(sum(self._done.values()), text)
        if self.console.verbose:
            self.bar.line(f"{name}: {metrics_text(row, self._epochs, self._latent, verbose=True)}")
            return
        self.tell(text)


class _One(TrainingCallback):
    """The view of one of them: what it sees goes to all."""

    def __init__(self, shown: AbreastProgress, name: str) -> None:
        self.shown, self.name = shown, name

    def warn(self, text: str) -> None:
        self.shown.warn(text)

    def start(self, run: Run, steps: int, done: int) -> None:
        self.shown.start(self.name, run, steps, done)

    def step(self, done: int) -> None:
        self.shown.step(self.name, done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.shown.epoch(self.name, row)

    def stop(self) -> str | None:
        return self.shown.stop()


class GridProgress(MultiRunCallback):
    """Shows trainings one after the other or in lockstep, and passes on the wish to stop.

    Args:
        console: where to print.
        signals: Ctrl-C and SIGTERM.
        root: the folder above the runs.
    """

    def __init__(self, console: Console, signals: Signals, root: Path) -> None:
        self.console, self.signals, self.root = console, signals, root
        self._training: TrainingProgress | AbreastProgress | None = None
        self._counting: Counting | None = None
        self._place = ""

    def training(self, planned: Planned, number: int, of: int) -> TrainingCallback:
        """Announce a training."""
        self._place = f"[{number}/{of}] "
        progress = TrainingProgress(self.console, self.signals, lambda run, done: self._announce(planned, done))
        self._training = progress
        return progress

    def together(self, planned: Sequence[Planned], number: int, of: int) -> Sequence[TrainingCallback]:
        """Announce trainings in lockstep; each names itself as it begins."""
        self.console.note(
            f"[{number}-{number + len(planned) - 1}/{of}] training {len(planned)} together, as one model:"
        )
        self._training = AbreastProgress(self.console, self.signals, [one.name for one in planned])
        return self._training.callbacks()

    def alone(self, planned: Sequence[Planned], why: str) -> None:
        """Say what `--together` cannot be followed for."""
        labels = ", ".join(dict.fromkeys(one.label for one in planned))
        self.console.note(f"one after another, not together: {labels} ({pluralize(len(planned), 'training')}): {why}")

    def _announce(self, planned: Planned, done: int) -> None:
        verb = f"continuing at step {done}" if done else "training"
        self.console.note(f"{self._place}{verb}: {planned.name}")

    def evaluating(self, planned: Planned, seed: int) -> Count:
        """Show how far an evaluation is."""
        self._close()
        what = f"evaluating {planned.name}" + (f", seed {seed}" * (seed > 0))
        self._counting = Counting(self.console, f"{planned.config.kind}s", what)
        return self._counting

    def left(self, planned: Planned) -> None:
        """Take the bars away, and say how the training ended."""
        self._close()
        if (self.root / planned.name / INFO).is_file():
            self.console.note(f"  {planned.name}: {Run(self.root / planned.name).info['sentence']}")

    def stop(self) -> str | None:
        """Whether a signal came."""
        return self.signals.reason()

    def _close(self) -> None:
        for bar in (self._training, self._counting):
            if bar is not None:
                bar.close()
        self._training = self._counting = None


def run_all(
    planned: Sequence[Planned],
    root: Path,
    asked: EvaluationSpec | None,
    *,
    device: str,
    console: Console,
    signals: Signals,
    seconds: float | None,
    together: bool | None = False,
) -> tuple[list[Member], str | None]:
    """`lso.tasks.training.multi_run.train_all` with its progress on stderr; from here on a signal stops it cleanly.

    Args:
        planned: the trainings.
        root: the folder above theirs.
        asked: how finished ones are measured.
        device: where.
        console: where to print.
        signals: Ctrl-C and SIGTERM.
        seconds: of this call; None is no limit.
        together: whether they train in lockstep, see `lso.tasks.training.multi_run.train_all`.
    Returns:
        The members, and why it ended early, if it did.
    """
    console.note(f"{pluralize(len(planned), 'training')} in {shown(root)}; what is finished there is kept")
    signals.listen()
    progress = GridProgress(console, signals, root)
    options: dict[str, Any] = {"device": device, "callback": progress, "seconds": seconds, "together": together}
    return train_all(planned, root, asked=asked, longer=True, **options)


class LaggingProgress(GridProgress):
    """Trainings one after the other, announced once however often they stop, and grids in between."""

    def training(self, planned: Planned, number: int, of: int) -> TrainingCallback:
        """Announce a training."""
        self._place = f"[{number}/{of}] "
        self._training = LaggingStages(self.console, self.signals, lambda run, done: self._announce(planned, done))
        return self._training

    def evaluating(self, planned: Planned, seed: int) -> Count:
        """Show how far a grid is."""
        self._close()
        self._counting = Counting(self.console, "codes", f"true posterior means of {planned.name}")
        return self._counting

    def left(self, planned: Planned) -> None:
        """Take the bars away; of a training say how it ended."""
        if self._training is None:
            self._close()
        else:
            super().left(planned)


class LaggingStages(TrainingProgress):
    """A training that goes on in the same bar where it stopped."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Announce the run, the first time."""
        if not self._epochs:
            super().start(run, steps, done)
