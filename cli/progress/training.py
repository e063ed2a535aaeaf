"""Progress of a training and of a gradient search. Imports torch, so commands import it when they run."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from lso.cli.console import Console, format_number
from lso.cli.progress.bars import LINE_SECONDS, Bar, Counting
from lso.cli.signals import Signals
from lso.vae.runs import Run
from lso.vae.training.loop import TrainingCallback


def brief_text(row: Mapping[str, Any], epochs: int, latent: int) -> str:
    """The most important metrics of an epoch, as they fit beside a bar."""
    epoch = f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
    if not latent:
        return f"{epoch}  {_likelihood_text(row)}"
    return f"{epoch}  -ELBO {row['neg_elbo']:z.2f}  KL {row['kl']:z.2f}  active {row['active_units']}/{latent}"


def metrics_text(row: Mapping[str, Any], epochs: int, latent: int, verbose: bool = False) -> str:
    """The metrics of an epoch in one line; more of them if ``verbose``."""
    of_latents = [
        f"-ELBO {row['neg_elbo']:z.2f} = {row['reconstruction']:z.2f} + KL {row['kl']:z.2f}",
        f"active {row['active_units']}/{latent}",
        f"re-encoding {row['reencoding_error']:z.2f}",
    ]
    parts = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}", *(of_latents if latent else [_likelihood_text(row)])]
    if verbose:
        train = row.get("train_loss")
        parts += [
            f"train {train:z.2f}" if train is not None else "untrained",
            *([f"MI within batches {row['mi']:z.2f}", f"KL weight {row['kl_weight']:z.2f}"] if latent else []),
            f"rate {row['learning_rate']:.1e}",
        ]
    return "  ".join(parts)


def perplexity(row: Mapping[str, Any]) -> str:
    """The perplexity of sequences, to be appended to a likelihood; empty for images."""
    value = row.get("perplexity")
    return "" if value is None else f", perplexity {value:z.2f}"


def _likelihood_text(row: Mapping[str, Any]) -> str:
    """The metrics of a model without latents, whose likelihood is exact."""
    return f"NLL {row['neg_elbo']:z.2f}{perplexity(row)}"


class EpochLines:
    """A bar with the metrics of the last epoch beside it; without a terminal a line of metrics every two seconds."""

    def __init__(self, console: Console, signals: Signals) -> None:
        self.console, self.signals = console, signals
        self.bar = Bar(console, "steps")
        self._pending: str | None = None
        self._last_line = 0.0

    def tell(self, text: str) -> None:
        """Print the line of an epoch: without a bar every two seconds, if verbose always.

        A line that is not printed is kept until the next one comes, so that the last epoch is printed at the end.
        """
        self._pending = text
        now = time.monotonic()
        if self.console.verbose or (not self.bar.live and now - self._last_line >= LINE_SECONDS):
            self._last_line = now
            self._flush()

    def stop(self) -> str | None:
        """The reason to stop, if a signal came."""
        reason = self.signals.reason()
        if reason:
            self.bar.stop()
        return reason

    def close(self) -> None:
        """Remove the bar and print the last line."""
        self.bar.stop()
        self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            self.bar.line(self._pending)
        self._pending = None


class TrainingProgress(EpochLines, TrainingCallback):
    """Shows a training, and stops it on a signal.

    ``announce`` is called once with the run and the steps already done, as soon as the run folder exists.
    """

    def __init__(self, console: Console, signals: Signals, announce: Callable[[Run, int], None]) -> None:
        super().__init__(console, signals)
        self.announce = announce
        self._epochs, self._latent, self._done = 0, 0, 0

    def warn(self, text: str) -> None:
        """Print a warning about the training, before it begins."""
        self.console.warn_once(text)

    def start(self, run: Run, steps: int, done: int) -> None:
        """Announce the run; from now on a signal stops the training cleanly."""
        self._epochs, self._latent = run.config.protocol.epochs, run.config.architecture.latent_dim
        self.announce(run, done)
        self.signals.listen()
        self._done = done
        self.bar.start(steps, done, f"epoch 0/{self._epochs}")

    def step(self, done: int) -> None:
        """Move the bar."""
        self._done = done
        self.bar.move(done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show the metrics of an epoch."""
        if self.bar.live:
            self.bar.move(self._done, brief_text(row, self._epochs, self._latent))
        self.tell(metrics_text(row, self._epochs, self._latent, self.console.verbose))


class NoProgress(TrainingCallback):
    """For the processes of a distributed training that print nothing: only stops the training on a signal."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def start(self, run: Run, steps: int, done: int) -> None:
        """From now on a signal stops the training cleanly."""
        self.signals.listen()

    def stop(self) -> str | None:
        """The reason to stop, if a signal came."""
        return self.signals.reason()


class SearchProgress:
    """Shows a gradient search, then its control search: a `lso.gradient.elementwise.DescentCallback`.

    Stops them on a signal, or ``limit`` seconds from now.
    """

    def __init__(self, console: Console, signals: Signals, limit: float | None = None) -> None:
        self.signals = signals
        self._deadline = math.inf if limit is None else time.monotonic() + limit
        self._names = iter(("searching", "control"))
        self._counting: Counting | None = None
        self._console, self._last = console, 0

    def step(self, done: int, total: int, best: float) -> None:
        """Move the bar."""
        if self._counting is None or done < self._last:  # fewer steps than before: the control search has begun
            self.close()
            self._counting = Counting(self._console, "steps", next(self._names, "searching"))
        self._last = done
        self._counting(done, total)
        self._counting.bar.move(done, f"{self._counting.text}: best value {format_number(best)}")

    def stop(self) -> str | None:
        """The reason to stop, if a signal came or the time limit was reached."""
        late = "reached the time limit" if time.monotonic() >= self._deadline else None
        return self.signals.reason() or late

    def close(self) -> None:
        """Remove the bar."""
        if self._counting is not None:
            self._counting.close()
