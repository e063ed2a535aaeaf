"""Progress of several trainings: one after the other, batched as one model, and those of `lso benchmark lagging`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lso.cli.console import Console, display_path
from lso.cli.progress.bars import Counting
from lso.cli.progress.training import EpochLines, TrainingProgress, metrics_text
from lso.cli.signals import Signals
from lso.reports.tables import pluralize
from lso.tasks.training.multi_run import CountCallback, MultiRunCallback, train_all
from lso.tasks.training.run_set import EvaluationSpec, Member, PlannedRun
from lso.vae.runs import INFO, Run
from lso.vae.training.callbacks import TrainingCallback


def range_text(rows: Sequence[Mapping[str, Any]], epochs: int, latent: int) -> str:
    """The range of metrics over several trainings, as they fit beside a bar.

    Args:
        rows: the last row of metrics.jsonl of each training.
        epochs: planned.
        latent: number of latent dimensions.
    Returns:
        e.g. ``epoch 3/10  -ELBO 22.31 to 24.10  active 4 to 6/8``; the epoch is that of the slowest training.
    """
    parts = [f"epoch {min(row['epoch'] for row in rows):>{len(str(epochs))}}/{epochs}"]
    parts.append(f"{'-ELBO' if latent else 'NLL'} {_range([row['neg_elbo'] for row in rows], '.2f')}")
    if latent:
        parts.append(f"active {_range([row['active_units'] for row in rows], 'd')}/{latent}")
    return "  ".join(parts)


def _range(values: Sequence[float], form: str) -> str:
    ends = [f"{value:{form}}" for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


class BatchedProgress(EpochLines):
    """Shows trainings that run as one batched model, with one bar for all; ``names`` are those of their folders."""

    def __init__(self, console: Console, signals: Signals, names: Sequence[str]) -> None:
        super().__init__(console, signals)
        self.names = names
        self._epochs, self._latent, self._total = 0, 0, 0
        self._done: dict[str, int] = {}
        self._rows: dict[str, Mapping[str, Any]] = {}

    def callbacks(self) -> list[TrainingCallback]:
        """One callback for each training."""
        return [_MemberCallback(self, name) for name in self.names]

    def warn(self, text: str) -> None:
        """Print a warning about the trainings, once."""
        self.console.warn_once(text)

    def start(self, name: str, run: Run, steps: int, done: int) -> None:
        """Print the name of a training; with the last one the bar begins, and a signal then stops all cleanly."""
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
        """Show the range of metrics over all trainings; if verbose, the metrics of this one."""
        self._rows[name] = row
        text = range_text(list(self._rows.values()), self._epochs, self._latent)
        if self.bar.live:
            self.bar.move(sum(self._done.values()), text)
        if self.console.verbose:
            self.bar.line(f"{name}: {metrics_text(row, self._epochs, self._latent, verbose=True)}")
            return
        self.tell(text)


class _MemberCallback(TrainingCallback):
    """Callback of one training in the batch: forwards to the progress of all with the training's name."""

    def __init__(self, progress: BatchedProgress, name: str) -> None:
        self.progress, self.name = progress, name

    def warn(self, text: str) -> None:
        self.progress.warn(text)

    def start(self, run: Run, steps: int, done: int) -> None:
        self.progress.start(self.name, run, steps, done)

    def step(self, done: int) -> None:
        self.progress.step(self.name, done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.progress.epoch(self.name, row)

    def stop(self) -> str | None:
        return self.progress.stop()


class MultiRunProgress(MultiRunCallback):
    """Shows trainings one after the other or batched, and their evaluations; ``root`` is the folder of their runs."""

    def __init__(self, console: Console, signals: Signals, root: Path) -> None:
        self.console, self.signals, self.root = console, signals, root
        self._training: TrainingProgress | BatchedProgress | None = None
        self._counting: Counting | None = None
        self._position = ""

    def training(self, planned: PlannedRun, number: int, of: int) -> TrainingCallback:
        """Begin a training; it is announced once its run folder exists."""
        self._position = f"[{number}/{of}] "
        progress = TrainingProgress(self.console, self.signals, lambda run, done: self._announce(planned, done))
        self._training = progress
        return progress

    def together(self, planned: Sequence[PlannedRun], number: int, of: int) -> Sequence[TrainingCallback]:
        """Announce trainings that run as one batch; each prints its name as it begins."""
        self.console.note(
            f"[{number}-{number + len(planned) - 1}/{of}] training {len(planned)} together, as one batched model:"
        )
        self._training = BatchedProgress(self.console, self.signals, [one.name for one in planned])
        return self._training.callbacks()

    def not_batched(self, planned: Sequence[PlannedRun], why: str) -> None:
        """Say which trainings cannot be batched although ``--together`` asks for it."""
        labels = ", ".join(dict.fromkeys(one.label for one in planned))
        self.console.note(
            f"not batched, trained one after the other: {labels} ({pluralize(len(planned), 'training')}): {why}"
        )

    def _announce(self, planned: PlannedRun, done: int) -> None:
        verb = f"continuing at step {done}" if done else "training"
        self.console.note(f"{self._position}{verb}: {planned.name}")

    def evaluating(self, planned: PlannedRun, seed: int) -> CountCallback:
        """Begin the bar of an evaluation."""
        self._close()
        what = f"evaluating {planned.name}" + (f", seed {seed}" * (seed > 0))
        self._counting = Counting(self.console, f"{planned.config.kind}s", what)
        return self._counting

    def left(self, planned: PlannedRun) -> None:
        """Remove the bars, and say how the training ended."""
        self._close()
        if (self.root / planned.name / INFO).is_file():
            self.console.note(f"  {planned.name}: {Run(self.root / planned.name).info['sentence']}")

    def stop(self) -> str | None:
        """The reason to stop, if a signal came."""
        return self.signals.reason()

    def _close(self) -> None:
        for bar in (self._training, self._counting):
            if bar is not None:
                bar.close()
        self._training = self._counting = None


def run_all(
    planned: Sequence[PlannedRun],
    root: Path,
    evaluation: EvaluationSpec | None,
    *,
    device: str,
    console: Console,
    signals: Signals,
    seconds: float | None,
    together: bool | None = False,
) -> tuple[list[Member], str | None]:
    """`lso.tasks.training.multi_run.train_all` with its progress on stderr; a signal stops it cleanly.

    Arguments of the same name, and the results, are those of `train_all`; ``evaluation`` is its ``asked``.
    """
    console.note(f"{pluralize(len(planned), 'training')} in {display_path(root)}; those finished there are kept")
    signals.listen()
    progress = MultiRunProgress(console, signals, root)
    options: dict[str, Any] = {"device": device, "callback": progress, "seconds": seconds, "together": together}
    return train_all(planned, root, spec=evaluation, longer=True, **options)


class LaggingProgress(MultiRunProgress):
    """Shows trainings that stop at several stages and go on, and the measurements of posterior means in between."""

    def training(self, planned: PlannedRun, number: int, of: int) -> TrainingCallback:
        """Begin a training; it is announced once its run folder exists."""
        self._position = f"[{number}/{of}] "
        self._training = LaggingStages(self.console, self.signals, lambda run, done: self._announce(planned, done))
        return self._training

    def evaluating(self, planned: PlannedRun, seed: int) -> CountCallback:
        """Begin the bar of the true posterior means, which are integrated on a grid."""
        self._close()
        self._counting = Counting(self.console, "codes", f"true posterior means of {planned.name}")
        return self._counting

    def left(self, planned: PlannedRun) -> None:
        """Remove the bars; after a training say how it ended."""
        if self._training is None:
            self._close()
        else:
            super().left(planned)


class LaggingStages(TrainingProgress):
    """Shows a training that stops at stages in one bar, and announces it once."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Announce the run, the first time."""
        if not self._epochs:
            super().start(run, steps, done)
