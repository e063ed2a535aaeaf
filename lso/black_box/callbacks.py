"""The callback of a black-box search under its earlier method names, and what a search says of calls of the score."""

from lso.black_box.budget import Ledger, SearchLimits
from lso.vae.callbacks import Callback, Event
from lso.vae.utils.validation import pluralize

REPEATED, AWAITED = "repeated_calls", "awaited_calls"  # values of `on_log`


class SearchCallback(Callback):
    """A `lso.vae.callbacks.Callback` under the method names of earlier versions; new ones derive from that class."""

    def called(self, ledger: Ledger, limits: SearchLimits) -> None:
        """Called when a call was finished and recorded; it is the last record of the ledger."""

    def repeated(self, calls: int) -> None:
        """Called on resuming a search whose process was killed; so many calls without recorded answer are repeated."""

    def finishing(self, calls: int) -> None:
        """Called when the search stops and waits for the answers of so many calls that have begun, which are kept."""

    def stop(self) -> str | None:
        """Called between calls; returns a reason to stop now, e.g. ``"interrupted"``, or None to continue."""
        return None

    def on_evaluation(self, event: Event) -> None:
        """Call `called`."""
        self.called(event.source.ledger, event.source.limits)

    def on_log(self, event: Event) -> None:
        """Call `repeated` or `finishing`."""
        if REPEATED in event.values:
            self.repeated(event.values[REPEATED])
        if AWAITED in event.values:
            self.finishing(event.values[AWAITED])
        super().on_log(event)

    def should_stop(self) -> str | None:
        """Call `stop`."""
        return self.stop()


def repeated_calls(work: str, calls: int) -> Event:
    """What is said of calls without a recorded value, which a killed process was making, and which are made again."""
    verb = "is" if calls == 1 else "are"
    counted = pluralize(calls, "call")
    text = f"{counted} of the score had no recorded value when the process ended, and {verb} repeated"
    return Event(work=work, values={REPEATED: calls}, text=text)


def awaited_calls(work: str, calls: int) -> Event:
    """What is said of running calls that are waited for before the work stops."""
    text = f"waiting for {pluralize(calls, 'running call')} of the score, to keep the values"
    return Event(work=work, values={AWAITED: calls}, text=text)
