"""One callback for every kind of work: training, search, sweeps, retraining, evaluation. Torch-free."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lso.vae.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened in a training, search or other work, so that a consumer need not know its kind.

    Args:
        work: kind of work, e.g. ``"training"``, ``"black-box search"``, ``"evaluation"`` or ``"sweep"``.
        name: which one of several, e.g. the folder of a training within a sweep; empty where there is one only.
        done: steps, epochs or evaluations done so far, whichever the method of the callback is named for.
        total: how many there are to be; 0 where that is unknown.
        values: numbers by name, which were on the host anyway: no event makes a step wait for the device.
        text: a sentence for people.
        warning: whether the sentence is a warning.
        source: the object that it happened to, for those who know the kind of work: the `lso.vae.runs.Run` of a
            training, the objective of a search.
        model: after an epoch, the `lso.vae.models.vae.VAE` in training as it is now, in the main process; to be read
            only, and left in the mode it is in.
        posterior: after an epoch, the posteriors of the validation data, in the main process.
    """

    work: str
    name: str = ""
    done: int = 0
    total: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    warning: bool = False
    source: Any = None
    model: Any = None
    posterior: Any = None


class Callback:
    """Receives the progress of any work and may stop it; subclasses override the methods that they need.

    Work within work, such as the trainings of a sweep, reports to the same callback: ``event.work`` and ``event.name``
    say which it was. Trainings that run in lockstep take turns.
    """

    def on_start(self, event: Event) -> None:
        """Called when work begins or is resumed; ``done`` steps were taken in earlier sessions.

        Args:
            event: the work, the steps planned and those done; ``source`` is its run, objective or search.
        """

    def on_step(self, event: Event) -> None:
        """Called after a step; of a training it may still be computed on a GPU, and there are no values.

        Args:
            event: the steps done and planned.
        """

    def on_epoch(self, event: Event) -> None:
        """Called after an epoch of a training, with its row of metrics.jsonl as ``values``.

        Args:
            event: the epochs done and planned, the row, the model and the posteriors of the validation data.
        """

    def on_evaluation(self, event: Event) -> None:
        """Called after an evaluation of the score in a black-box search, with its value and the best so far.

        Args:
            event: the unique objects scored and to be scored, and as ``values`` ``value``, ``valid``, ``best``,
                ``best_typical`` and the numbers of calls by category.
        """

    def on_log(self, event: Event) -> None:
        """Called with anything else that is worth logging: a sentence, perhaps a warning, or ``values``.

        Args:
            event: the sentence or the numbers.
        """

    def on_end(self, event: Event) -> None:
        """Called when work ends, whatever ended it; ``text`` is the sentence of its outcome, if it has one.

        Args:
            event: the steps done and planned, and the sentence.
        """

    def should_stop(self) -> str | None:
        """Called between steps.

        Returns:
            The reason to stop now, e.g. ``"interrupted"``; None to continue.
        """
        return None


class CallbackList(Callback):
    """Passes every event to several callbacks in turn; the first one with a reason to stop gives it."""

    def __init__(self, *callbacks: Callback) -> None:
        self.callbacks = callbacks

    def tell(self, method: str, event: Event) -> None:
        """Pass an event to the method of that name of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, method)(event)

    def on_start(self, event: Event) -> None:
        """See `Callback`; so the methods below."""
        self.tell("on_start", event)

    def on_step(self, event: Event) -> None:
        """Pass the event on."""
        self.tell("on_step", event)

    def on_epoch(self, event: Event) -> None:
        """Pass the event on."""
        self.tell("on_epoch", event)

    def on_evaluation(self, event: Event) -> None:
        """Pass the event on."""
        self.tell("on_evaluation", event)

    def on_log(self, event: Event) -> None:
        """Pass the event on."""
        self.tell("on_log", event)

    def on_end(self, event: Event) -> None:
        """Pass the event on."""
        self.tell("on_end", event)

    def should_stop(self) -> str | None:
        """The first reason to stop that any of the callbacks has."""
        return next(filter(None, (callback.should_stop() for callback in self.callbacks)), None)


class PartCallback(CallbackList):
    """The callback of a part of larger work: gives the part's events the ``name``, ``work``, ... that it has there."""

    def __init__(self, callback: Callback, **changes: Any) -> None:
        super().__init__(callback)
        self._changes = changes

    def tell(self, method: str, event: Event) -> None:
        """Pass a changed event on."""
        CallbackList.tell(self, method, replace(event, **self._changes))


class StepFunction(Callback):
    """A plain function ``(done, total)`` as a callback of the steps."""

    def __init__(self, function: Callable[[int, int], Any]) -> None:
        self._function = function

    def on_step(self, event: Event) -> None:
        """Call the function."""
        self._function(event.done, event.total)


StepCallback = Callback | Callable[[int, int], Any]


def as_callback(callback: Any) -> Callback:
    """A callback from what a user may give: one, a plain function ``(done, total)``, or None."""
    if callback is None:
        return Callback()
    if isinstance(callback, Callback):
        return callback
    if callable(callback):
        return StepFunction(callback)
    raise UsageError(
        f"expected a callback, got {type(callback).__name__}", "Derive it from lso.vae.callbacks.Callback."
    )


@contextmanager
def count_steps(callback: Callback, work: str, name: str = "") -> Iterator[Callable[[int, int], None]]:
    """A function ``(done, total)`` whose calls reach a callback as the start, the steps and the end of some work."""
    last: list[Event] = []

    def count(done: int, total: int) -> None:
        event = Event(work=work, name=name, done=done, total=total)
        if not last:
            callback.on_start(replace(event, done=0))
        last[:] = [event]
        callback.on_step(event)

    try:
        yield count
    finally:
        if last:
            callback.on_end(last[0])
