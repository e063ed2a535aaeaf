"""How the commands that train several models run them and show it. Imports torch: commands import it late."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lso.cli.abreast import AbreastProgress
from lso.cli.bars import Counting
from lso.cli.console import Console, shown
from lso.cli.progress import TrainingProgress
from lso.cli.signals import Signals
from lso.tables import counted
from lso.tasks.grid import Count, GridWatch, train_all
from lso.tasks.members import Asked, Member, Planned
from lso.vae.runs import INFO, Run
from lso.vae.watch import Watch


class GridProgress(GridWatch):
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

    def training(self, planned: Planned, number: int, of: int) -> Watch:
        """Announce a training.

        Args:
            planned: which.
            number: from 1.
            of: how many there are.
        Returns:
            What watches it.
        """
        self._place = f"[{number}/{of}] "
        progress = TrainingProgress(self.console, self.signals, lambda run, done: self._announce(planned, done))
        self._training = progress
        return progress

    def together(self, planned: Sequence[Planned], number: int, of: int) -> Sequence[Watch]:
        """Announce trainings in lockstep; each names itself as it begins.

        Args:
            planned: which.
            number: of the first, from 1.
            of: how many there are in all.
        Returns:
            What watches each.
        """
        self.console.note(
            f"[{number}-{number + len(planned) - 1}/{of}] training {len(planned)} together, as one model:"
        )
        self._training = AbreastProgress(self.console, self.signals, [one.name for one in planned])
        return self._training.watches()

    def alone(self, planned: Sequence[Planned], why: str) -> None:
        """Say what `--together` cannot be followed for.

        Args:
            planned: which.
            why: half a sentence.
        """
        labels = ", ".join(dict.fromkeys(one.label for one in planned))
        self.console.note(f"one after another, not together: {labels} ({counted(len(planned), 'training')}): {why}")

    def _announce(self, planned: Planned, done: int) -> None:
        verb = f"continuing at step {done}" if done else "training"
        self.console.note(f"{self._place}{verb}: {planned.name}")

    def evaluating(self, planned: Planned, seed: int) -> Count:
        """Show how far an evaluation is.

        Args:
            planned: which.
            seed: of the evaluation.
        Returns:
            Called with (data done, data to do).
        """
        self._close()
        what = f"evaluating {planned.name}" + (f", seed {seed}" * (seed > 0))
        self._counting = Counting(self.console, f"{planned.config.kind}s", what)
        return self._counting

    def left(self, planned: Planned) -> None:
        """Take the bars away, and say how the training ended.

        Args:
            planned: which.
        """
        self._close()
        if (self.root / planned.name / INFO).is_file():
            self.console.note(f"  {planned.name}: {Run(self.root / planned.name).info['sentence']}")

    def stop(self) -> str | None:
        """Whether a signal came.

        Returns:
            ``"interrupted"``, ``"terminated"`` or None.
        """
        return self.signals.reason()

    def _close(self) -> None:
        for bar in (self._training, self._counting):
            if bar is not None:
                bar.close()
        self._training = self._counting = None


def run_all(
    planned: Sequence[Planned],
    root: Path,
    asked: Asked | None,
    *,
    device: str,
    console: Console,
    signals: Signals,
    seconds: float | None,
    together: bool | None = False,
) -> tuple[list[Member], str | None]:
    """`lso.tasks.grid.train_all` with its progress on stderr; from here on a signal stops it cleanly.

    Args:
        planned: the trainings.
        root: the folder above theirs.
        asked: how finished ones are measured.
        device: where.
        console: where to print.
        signals: Ctrl-C and SIGTERM.
        seconds: of this call; None is no limit.
        together: whether they train in lockstep, see `lso.tasks.grid.train_all`.
    Returns:
        The members, and why it ended early, if it did.
    """
    console.note(f"{counted(len(planned), 'training')} in {shown(root)}; what is finished there is kept")
    signals.listen()
    progress = GridProgress(console, signals, root)
    options: dict[str, Any] = {"device": device, "watch": progress, "seconds": seconds, "together": together}
    return train_all(planned, root, asked=asked, longer=True, **options)
