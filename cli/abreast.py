"""What trainings in lockstep show while they run: one bar for all, and of each epoch the range of their numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from lso.cli.console import Console
from lso.cli.progress import Lines, metrics_text
from lso.cli.signals import Signals
from lso.vae.runs import Run
from lso.vae.watch import Watch


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


class AbreastProgress(Lines):
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

    def watches(self) -> list[Watch]:
        """What watches each.

        Returns:
            In the order of the names.
        """
        return [_One(self, name) for name in self.names]

    def warn(self, text: str) -> None:
        """Print what is to be known before they begin.

        Args:
            text: a sentence.
        """
        self.console.warn_once(text)

    def start(self, name: str, run: Run, steps: int, done: int) -> None:
        """Name it; once all are there the bar begins, and a signal stops them cleanly.

        Args:
            name: of its folder.
            run: its folder.
            steps: planned in all.
            done: steps of an earlier session.
        """
        self._epochs, self._latent = run.config.protocol.epochs, run.config.architecture.latent_dim
        self.console.note(f"  {name}" + f", continuing at step {done}" * (done > 0))
        self._done[name] = done
        self._total += steps
        if len(self._done) == len(self.names):
            self.signals.listen()
            self.bar.start(self._total, sum(self._done.values()), f"epoch 0/{self._epochs}")

    def step(self, name: str, done: int) -> None:
        """Move the bar.

        Args:
            name: of its folder.
            done: steps so far.
        """
        self._done[name] = done
        self.bar.move(sum(self._done.values()))

    def epoch(self, name: str, row: Mapping[str, Any]) -> None:
        """Show the numbers of all: beside the bar, or as a line if the last one is two seconds old.

        Args:
            name: of its folder.
            row: as in metrics.jsonl.
        """
        self._rows[name] = row
        text = range_text(list(self._rows.values()), self._epochs, self._latent)
        if self.bar.live:
            self.bar.move(sum(self._done.values()), text)
        if self.console.verbose:
            self.bar.line(f"{name}: {metrics_text(row, self._epochs, self._latent, verbose=True)}")
            return
        self.tell(text)


class _One(Watch):
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
