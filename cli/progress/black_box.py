"""Progress of black-box searches and of weighted retraining. Imports torch, so commands import it when they run."""

import time

from lso.black_box.budget import CALL_CATEGORIES, Ledger, SearchLimits
from lso.black_box.runner import SearchCallback
from lso.cli.console import Console, format_duration, format_number
from lso.cli.progress.bars import LINE_SECONDS, Bar, Counting
from lso.cli.signals import Signals
from lso.objectives.latent_objective import LatentObjective
from lso.reports.tables import percent
from lso.tasks.retraining.records import RetrainingCallback, Round
from lso.vae.runs import Run
from lso.vae.training.callbacks import TrainingCallback
from lso.vae.utils.validation import pluralize


class BlackBoxProgress:
    """Shows the parts of a black-box search one after the other: one part for each seed or target.

    ``deadline`` is in seconds, for all parts together.
    """

    def __init__(self, console: Console, signals: Signals, deadline: float | None) -> None:
        self.console, self.signals = console, signals
        self._until = None if deadline is None else time.monotonic() + deadline
        self._bar = Bar(console, "objects")

    def part(self, name: str, objective: LatentObjective) -> SearchCallback:
        """Begin a part (``name`` is that of its folder); the result is its callback."""
        self._bar.stop()
        return PartProgress(self, name, objective)

    def reason(self) -> str | None:
        """The reason to stop now; None to continue."""
        if self._until is not None and time.monotonic() > self._until:
            return "time limit"
        return self.signals.reason()

    def repeated(self, calls: int) -> None:
        """Say that calls without a recorded value, which a killed process was making, are made again."""
        verb = "is" if calls == 1 else "are"
        self._bar.line(
            f"{pluralize(calls, 'call')} of the score had no recorded value when the process ended, and {verb} repeated"
        )

    def finishing(self, calls: int) -> None:
        """Say that running calls are waited for before the search stops."""
        self._bar.line(f"waiting for {pluralize(calls, 'running call')} of the score, to keep the values")

    @property
    def bar(self) -> Bar:
        """The bar of the running part."""
        return self._bar

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class ForwardingCallback(SearchCallback):
    """Search callback that forwards to the progress of the whole search: its messages and its wish to stop."""

    def __init__(self, whole: BlackBoxProgress) -> None:
        self._whole = whole

    def repeated(self, calls: int) -> None:
        """Forward to `BlackBoxProgress.repeated`."""
        self._whole.repeated(calls)

    def finishing(self, calls: int) -> None:
        """Forward to `BlackBoxProgress.finishing`."""
        self._whole.finishing(calls)

    def stop(self) -> str | None:
        """The whole search's reason to stop, if any."""
        return self._whole.reason()


class PartProgress(ForwardingCallback):
    """Shows one part of a search: its best values and the numbers of objects and calls."""

    def __init__(self, whole: BlackBoxProgress, name: str, objective: LatentObjective) -> None:
        super().__init__(whole)
        self._name, self._objective = f"{name}: " if name else "", objective
        self._begun = False
        self._last_line = time.monotonic()
        self._best: dict[bool, float] = {}  # False: over all codes; True: over typical ones

    def called(self, ledger: Ledger, limits: SearchLimits) -> None:
        """Show the state after a call: beside the bar, or as a line every two seconds."""
        bar = self._whole.bar
        # A resumed search has records from before the first call of this session.
        for record in ledger.records[-1:] if self._begun else ledger.records:
            if record.valid:
                typical = bool(self._objective.space.typical(self._objective.bounds.new_tensor(record.z)))
                for kind in (False, True) if typical else (False,):
                    self._update_best(kind, record.value)
        if not self._begun:
            self._begun = True
            bar.start(limits.budget, ledger.unique, self._text(ledger, limits))
        bar.move(ledger.unique, self._text(ledger, limits))
        if not bar.live and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self._whole.console.note(self._text(ledger, limits))

    def _update_best(self, typical: bool, value: float) -> None:
        before = self._best.get(typical)
        if before is None or self._objective.sign * value < self._objective.sign * before:
            self._best[typical] = value

    def _text(self, ledger: Ledger, limits: SearchLimits) -> str:
        best = " ".join(
            f"{word} {format_number(self._best[kind])}" if kind in self._best else f"{word} –"
            for kind, word in ((False, "best"), (True, "typical"))
        )
        count = ledger.counters()
        others = [f"{count[kind]} {kind.replace('_', ' ')}" for kind in CALL_CATEGORIES[1:] if count[kind]]
        return f"{self._name}{best}  {', '.join([f'{ledger.unique}/{limits.budget} unique', *others])}"


class RetrainingProgress(RetrainingCallback):
    """Shows weighted retraining: bars for scoring data, retraining and searching, and a line after each round.

    ``deadline`` is in seconds, for all rounds together.
    """

    def __init__(self, console: Console, signals: Signals, deadline: float | None) -> None:
        self._searches = BlackBoxProgress(console, signals, deadline)
        self._retraining = _Retraining(self._searches)
        super().__init__(self._retraining, ForwardingCallback(self._searches))

    @property
    def part(self) -> RetrainingCallback:
        """This object, which is the callback of the whole: by the name that `BlackBoxProgress` has for its own."""
        return self

    def labelled(self, done: int, total: int) -> None:
        """Move the bar of the scoring of training data."""
        self._retraining.count(done, total, "data", "scoring training data")

    def searching(self, number: int, objective: LatentObjective) -> SearchCallback:
        """Begin the search of a round."""
        self._retraining.close()
        return self._searches.part(f"round {number}", objective)

    def round(self, row: Round) -> None:
        """Print the line of a finished round."""
        found = "" if row.history is None else f", found {percent(row.history.reproduced)}"
        self._searches.bar.line(
            f"round {row.number}: {row.unique} unique  best {format_number(row.best)}  "
            f"drift {row.drift.per_active:.2g} ({row.anchors.active_units} active)  "
            f"reproduced: data {percent(row.anchors.reproduced)}{found}  "
            f"({format_duration(row.training_seconds)} + {format_duration(row.search_seconds)})"
        )

    def close(self) -> None:
        """Remove the bars."""
        self._retraining.close()
        self._searches.close()


class _Retraining(TrainingCallback):
    """The bar of a retraining, and of the scoring of training data before the first one."""

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
