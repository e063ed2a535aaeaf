"""The callback, rounds and result of weighted retraining."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lso.black_box.runner import WORK as SEARCH
from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Evaluation
from lso.tasks.goals import Goal
from lso.tasks.retraining.drift import CodeStatistics, Drift
from lso.tasks.retraining.labelled_data import LabelledData
from lso.tasks.retraining.labelling import WORK as SCORING
from lso.vae.callbacks import Callback, Event, as_callback
from lso.vae.runs import Run
from lso.vae.utils.reading import read_json, replace_sealed, unreadable_error

ROUNDS, RETRAINING = "weighted retraining", "retraining"  # in events: the whole, and the training of a round
ROUND_NAME = "round {}"


class RetrainingCallback(Callback):
    """A `lso.vae.callbacks.Callback` under the method names of earlier versions; new ones derive from that class.

    Args:
        training: callback of each retraining.
        search: callback of each search, and of the scoring of training data.
    """

    def __init__(self, training: Callback | None = None, search: Callback | None = None) -> None:
        self.training, self.search = as_callback(training), as_callback(search)
        self._part = self.search

    def labelled(self, done: int, total: int) -> None:
        """Called after a training datum was scored."""

    def searching(self, number: int, objective: LatentObjective) -> Callback:
        """Called when the search of a round begins, over the latent space of the model just retrained.

        Returns:
            The callback of this search.
        """
        return self.search

    def round(self, row: "Round") -> None:
        """Called after a round."""

    def on_start(self, event: Event) -> None:
        """Pass what follows to the callback of the part that begins."""
        self._part = self.training if event.work == RETRAINING else self.search
        if event.work == SEARCH:
            self._part = self.searching(int(event.name.split()[-1]), event.source.objective)
        if event.work in (SEARCH, RETRAINING):
            self._part.on_start(event)

    def on_step(self, event: Event) -> None:
        """Call `labelled`, `round`, or the callback of the training."""
        if event.work == SCORING:
            self.labelled(event.done, event.total)
        elif event.work == ROUNDS:
            self.round(event.source)
        else:
            self._part.on_step(event)

    def on_epoch(self, event: Event) -> None:
        """Pass the event to the callback of the training."""
        self._part.on_epoch(event)

    def on_evaluation(self, event: Event) -> None:
        """Pass the event to the callback of the search."""
        self._part.on_evaluation(event)

    def on_log(self, event: Event) -> None:
        """Pass the event to the callback of the running part."""
        self._part.on_log(event)

    def should_stop(self) -> str | None:
        """Ask the callback of the running part."""
        return self._part.should_stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: a retraining and the search after it.

    Args:
        number: number of the round, from 0.
        drawn: data drawn for the retraining.
        effective_size: of the weights, see `lso.tasks.retraining.weighting.effective_size`.
        drift: of the anchors' codes by this retraining.
        anchors: how the new model stands to the anchors.
        history: how it stands to the objects found before; None in the first round.
        unique: objects scored so far, this round's among them.
        best: value so far; None where nothing was valid.
        status: of the search.
        sentence: the status in words.
        training_seconds: of the retraining.
        search_seconds: of the search.
    """

    number: int
    drawn: int
    effective_size: float
    drift: Drift
    anchors: CodeStatistics
    history: CodeStatistics | None
    unique: int
    best: float | None
    status: str
    sentence: str
    training_seconds: float
    search_seconds: float

    @classmethod
    def read(cls, path: Path) -> "Round":
        """Read a round from its round.json."""
        row = read_json(path)
        try:
            row["drift"], row["anchors"] = Drift(**row["drift"]), CodeStatistics(**row["anchors"])
            row["history"] = None if row["history"] is None else CodeStatistics(**row["history"])
            return cls(**row)
        except (KeyError, TypeError) as error:
            raise unreadable_error(path, error) from None

    def write(self, path: Path) -> None:
        """Write the round to its round.json."""
        replace_sealed(path, dataclasses.asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RetrainingResult:
    """The result of weighted retraining; values are those of the user's score.

    Args:
        status: ``finished``, ``stopped`` (from outside), or that of a search that found nothing new.
        sentence: the status in words.
        rounds: those that are complete.
        parts: of each round every call of the score and every duplicate, in order; of one that was cut as well.
        data: training data retrained upon, with their values; none where the session was cut before they had them.
        goal: what was sought.
        run: training run of the model of the last complete round; before there is one, of the model begun with.
        folder: where everything is recorded.
        seconds: of retraining and searching.
    """

    status: str
    sentence: str
    rounds: tuple[Round, ...]
    parts: tuple[tuple[Evaluation, ...], ...] = field(repr=False)
    data: LabelledData | None = field(repr=False)
    goal: Goal
    run: Run
    folder: Path
    seconds: float

    @property
    def maximize(self) -> bool:
        """Sense of the values."""
        return self.goal.maximize

    @property
    def records(self) -> tuple[Evaluation, ...]:
        """All calls and duplicates of all rounds."""
        return tuple(record for part in self.parts for record in part)

    @property
    def fresh(self) -> list[Evaluation]:
        """The evaluations that the budget counts: of new valid objects."""
        return [record for record in self.records if record.duplicate_of is None and record.outcome == "evaluated"]

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation, the first of equals; None if no object was valid."""
        sign = -1 if self.maximize else 1
        return min(self.fresh, key=lambda record: sign * record.value, default=None)

    @property
    def best_value(self) -> float:
        """The best value; NaN if no object was valid."""
        return math.nan if self.best is None else self.best.value

    @property
    def best_so_far(self) -> Float[Tensor, " n"]:
        """``(n,)`` the best value up to each unique valid object."""
        values = torch.tensor([record.value for record in self.fresh], dtype=torch.float64)
        if not len(values):
            return values
        return values.cummax(0).values if self.maximize else values.cummin(0).values

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report of this search.

        Args:
            path: ``.html`` file, or a folder for ``report.html``; the numbers go beside it as JSON. None is `folder`.
        Returns:
            The HTML file.
        Raises:
            UsageError: if no call was made yet.
        """
        from lso.tasks.retraining.report import retraining_report

        return retraining_report(self, path)
