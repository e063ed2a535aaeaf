"""What black-box searches and weighted retraining show while they run. Imports torch: commands import it late."""

import time

from lso.black_box.budget import CALL_CATEGORIES, Ledger, SearchLimits
from lso.black_box.runner import SearchCallback
from lso.black_box.runner import SearchCallback as SearchWatch
from lso.cli.console import Console, number, span
from lso.cli.progress.bars import LINE_SECONDS, Bar, Counting
from lso.cli.signals import Signals
from lso.objectives.latent_objective import LatentObjective
from lso.reports.tables import percent
from lso.tasks.retraining.records import RetrainingCallback, Round
from lso.vae.runs import Run
from lso.vae.training.callbacks import TrainingCallback
from lso.vae.utils.validation import pluralize


class BlackBoxProgress:
    """A live line for each part of a search.

    Args:
        console: where to print.
        signals: Ctrl-C and SIGTERM.
        deadline: seconds that all parts together may take.
    """

    def __init__(self, console: Console, signals: Signals, deadline: float | None) -> None:
        self.console, self.signals = console, signals
        self._until = None if deadline is None else time.monotonic() + deadline
        self._bar = Bar(console, "objects")

    def part(self, name: str, objective: LatentObjective) -> SearchCallback:
        """The callback of one part."""
        self._bar.stop()
        return PartProgress(self, name, objective)

    def reason(self) -> str | None:
        """Why to stop now."""
        if self._until is not None and time.monotonic() > self._until:
            return "time limit"
        return self.signals.reason()

    def repeated(self, calls: int) -> None:
        """Say that calls are made again.

        Args:
            calls: how many had no answer on record when the process was killed.
        """
        told = "no answer on record when the process ended, and {} made again".format("is" if calls == 1 else "are")
        self._bar.line(f"{pluralize(calls, 'call')} of the score had {told}")

    def finishing(self, calls: int) -> None:
        """Say what is waited for."""
        self._bar.line(f"waiting for {pluralize(calls, 'call')} of the score under way, to keep what comes of it")

    @property
    def bar(self) -> Bar:
        """The bar of the part under way."""
        return self._bar

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Passing(SearchCallback):
    """Asks the whole whether to stop, and has it say what is to be said of calls.

    Args:
        whole: all parts.
    """

    def __init__(self, whole: BlackBoxProgress) -> None:
        self._whole = whole

    def repeated(self, calls: int) -> None:
        """Say that calls are made again."""
        self._whole.repeated(calls)

    def finishing(self, calls: int) -> None:
        """Say what is waited for."""
        self._whole.finishing(calls)

    def stop(self) -> str | None:
        """Ask whether to stop."""
        return self._whole.reason()


class PartProgress(Passing):
    """The live line of one part.

    Args:
        whole: all parts.
        name: of its folder.
        objective: searched over.
    """

    def __init__(self, whole: BlackBoxProgress, name: str, objective: LatentObjective) -> None:
        super().__init__(whole)
        self._name, self._objective = f"{name}: " if name else "", objective
        self._begun = False
        self._told = time.monotonic()
        self._best: dict[bool, float] = {}

    def called(self, ledger: Ledger, limits: SearchLimits) -> None:
        """Show where it stands: beside the bar, or as a line every other second."""
        bar = self._whole.bar
        for record in ledger.records[-1:] if self._begun else ledger.records:  # at first all that was there before
            if record.valid:
                typical = bool(self._objective.space.typical(self._objective.bounds.new_tensor(record.z)))
                for kind in (False, True) if typical else (False,):
                    self._keep(kind, record.value)
        if not self._begun:
            self._begun = True
            bar.start(limits.budget, ledger.unique, self._text(ledger, limits))
        bar.move(ledger.unique, self._text(ledger, limits))
        if not bar.live and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._whole.console.note(self._text(ledger, limits))

    def _keep(self, typical: bool, value: float) -> None:
        before = self._best.get(typical)
        if before is None or self._objective.sign * value < self._objective.sign * before:
            self._best[typical] = value

    def _text(self, ledger: Ledger, limits: SearchLimits) -> str:
        best = " ".join(
            f"{word} {number(self._best[kind])}" if kind in self._best else f"{word} –"
            for kind, word in ((False, "best"), (True, "typical"))
        )
        count = ledger.counters()
        others = [f"{count[kind]} {kind.replace('_', ' ')}" for kind in CALL_CATEGORIES[1:] if count[kind]]
        return f"{self._name}{best}  {', '.join([f'{ledger.unique}/{limits.budget} unique', *others])}"


class RetrainingProgress(RetrainingCallback):
    """A bar for the scoring of training data and for each retraining, the live line of each search, a line a round.

    Args:
        console: where to print.
        signals: Ctrl-C and SIGTERM.
        deadline: seconds that all of it may take.
    """

    def __init__(self, console: Console, signals: Signals, deadline: float | None) -> None:
        self._searches = BlackBoxProgress(console, signals, deadline)
        self._retraining = _Retraining(self._searches)
        super().__init__(self._retraining, Passing(self._searches))

    @property
    def part(self) -> RetrainingCallback:
        """The callback of the whole."""
        return self

    def labelled(self, done: int, total: int) -> None:
        """Move the bar of the scoring."""
        self._retraining.count(done, total, "data", "scoring training data")

    def searching(self, number: int, objective: LatentObjective) -> SearchWatch:
        """Change to the live line of a search."""
        self._retraining.close()
        return self._searches.part(f"round {number}", objective)

    def round(self, row: Round) -> None:
        """Print a line."""
        again = "" if row.history is None else f", found {percent(row.history.reproduced)}"
        self._searches.bar.line(
            f"round {row.number}: {row.unique} unique  best {number(row.best)}  drift {row.drift.per_active:.2g} "
            f"({row.anchors.active_units} active)  reproduced: data {percent(row.anchors.reproduced)}{again}  "
            f"({span(row.training_seconds)} + {span(row.search_seconds)})"
        )

    def close(self) -> None:
        """Take the bars away."""
        self._retraining.close()
        self._searches.close()


class _Retraining(TrainingCallback):
    """The bar of a retraining, and of what comes before the first."""

    def __init__(self, searches: BlackBoxProgress) -> None:
        self.searches, self._name, self._steps = searches, "", 0
        self._counting: Counting | None = None

    def count(self, done: int, total: int, unit: str, text: str) -> None:
        if self._counting is None:
            self._counting = Counting(self.searches.console, unit, text)
        self._counting(done, total)

    def warn(self, text: str) -> None:
        self.searches.console.warn_once(text)

    def start(self, run: Run, steps: int, done: int) -> None:
        self.close()
        self.searches.close()
        self._name, self._steps = f"round {int(run.path.parent.name)}: retraining", steps

    def step(self, done: int) -> None:
        self.count(done, self._steps, "steps", self._name)

    def stop(self) -> str | None:
        return self.searches.reason()

    def close(self) -> None:
        if self._counting is not None:
            self._counting.close()
        self._counting = None
