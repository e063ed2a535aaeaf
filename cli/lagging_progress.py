"""What the lagging experiment shows while it runs. Imports torch: the command imports it late."""

from lso.cli.bars import Counting
from lso.cli.grids import GridProgress
from lso.cli.progress import TrainingProgress
from lso.tasks.grid import Count
from lso.tasks.members import Planned
from lso.vae.runs import Run
from lso.vae.watch import Watch


class LaggingProgress(GridProgress):
    """Trainings one after the other, announced once however often they stop, and grids in between."""

    def training(self, planned: Planned, number: int, of: int) -> Watch:
        """Announce a training.

        Args:
            planned: which.
            number: from 1.
            of: how many there are.
        Returns:
            What watches all its stretches.
        """
        self._place = f"[{number}/{of}] "
        self._training = Stretches(self.console, self.signals, lambda run, done: self._announce(planned, done))
        return self._training

    def evaluating(self, planned: Planned, seed: int) -> Count:
        """Show how far a grid is.

        Args:
            planned: the training.
            seed: not used.
        Returns:
            Called with (codes decoded, codes to decode).
        """
        self._close()
        self._counting = Counting(self.console, "codes", f"true posterior means of {planned.name}")
        return self._counting

    def left(self, planned: Planned) -> None:
        """Take the bars away; of a training say how it ended.

        Args:
            planned: which.
        """
        if self._training is None:
            self._close()
        else:
            super().left(planned)


class Stretches(TrainingProgress):
    """A training that goes on in the same bar where it stopped."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Announce the run, the first time.

        Args:
            run: its folder.
            steps: planned in all.
            done: steps of an earlier session.
        """
        if not self._epochs:
            super().start(run, steps, done)
