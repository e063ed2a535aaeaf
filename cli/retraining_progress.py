"""What weighted retraining shows while it runs. Imports torch: the command imports it late."""

from lso.cli.bars import Counting
from lso.cli.black_box_progress import BlackBoxProgress, Passing
from lso.cli.console import Console, number, span
from lso.cli.signals import Signals
from lso.objective import LatentObjective
from lso.search import Watch as SearchWatch
from lso.tables import percent
from lso.tasks.retraining_record import Round, Watch
from lso.vae.runs import Run
from lso.vae.watch import Watch as TrainingWatch


class RetrainingProgress(Watch):
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
    def part(self) -> Watch:
        """What watches the whole."""
        return self

    def labelled(self, done: int, total: int) -> None:
        """Move the bar of the scoring.

        Args:
            done: data scored.
            total: to score.
        """
        self._retraining.count(done, total, "data", "scoring training data")

    def searching(self, number: int, objective: LatentObjective) -> SearchWatch:
        """Change to the live line of a search.

        Args:
            number: of the round.
            objective: searched over.
        Returns:
            What watches it.
        """
        self._retraining.close()
        return self._searches.part(f"round {number}", objective)

    def round(self, row: Round) -> None:
        """Print a line.

        Args:
            row: what came of the round.
        """
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


class _Retraining(TrainingWatch):
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
