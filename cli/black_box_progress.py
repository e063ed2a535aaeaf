"""What a black-box search shows while it runs. Imports torch: the command imports it late."""

import time

from lso.cli.bars import LINE_SECONDS, Bar
from lso.cli.console import Console, number
from lso.cli.signals import Signals
from lso.ledger import ACCOUNTS, Ledger, Limits
from lso.objective import LatentObjective
from lso.search import Watch
from lso.vae.values import counted


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

    def part(self, name: str, objective: LatentObjective) -> Watch:
        """What watches one part.

        Args:
            name: of its folder, empty for the only one.
            objective: searched over.
        Returns:
            The watch.
        """
        self._bar.stop()
        return PartProgress(self, name, objective)

    def reason(self) -> str | None:
        """Why to stop now.

        Returns:
            The reason, or None.
        """
        if self._until is not None and time.monotonic() > self._until:
            return "time limit"
        return self.signals.reason()

    def repeated(self, calls: int) -> None:
        """Say that calls are made again.

        Args:
            calls: how many had no answer on record when the process was killed.
        """
        told = "no answer on record when the process ended, and {} made again".format("is" if calls == 1 else "are")
        self._bar.line(f"{counted(calls, 'call')} of the score had {told}")

    def finishing(self, calls: int) -> None:
        """Say what is waited for.

        Args:
            calls: of the score, under way.
        """
        self._bar.line(f"waiting for {counted(calls, 'call')} of the score under way, to keep what comes of it")

    @property
    def bar(self) -> Bar:
        """The bar of the part under way."""
        return self._bar

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Passing(Watch):
    """Asks the whole whether to stop, and has it say what is to be said of calls.

    Args:
        whole: all parts.
    """

    def __init__(self, whole: BlackBoxProgress) -> None:
        self._whole = whole

    def repeated(self, calls: int) -> None:
        """Say that calls are made again.

        Args:
            calls: how many.
        """
        self._whole.repeated(calls)

    def finishing(self, calls: int) -> None:
        """Say what is waited for.

        Args:
            calls: how many.
        """
        self._whole.finishing(calls)

    def stop(self) -> str | None:
        """Ask whether to stop.

        Returns:
            The reason, or None.
        """
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

    def called(self, ledger: Ledger, limits: Limits) -> None:
        """Show where it stands: beside the bar, or as a line every other second.

        Args:
            ledger: with the call last.
            limits: of the search.
        """
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

    def _text(self, ledger: Ledger, limits: Limits) -> str:
        best = " ".join(
            f"{word} {number(self._best[kind])}" if kind in self._best else f"{word} –"
            for kind, word in ((False, "best"), (True, "typical"))
        )
        count = ledger.counters()
        others = [f"{count[kind]} {kind.replace('_', ' ')}" for kind in ACCOUNTS[1:] if count[kind]]
        return f"{self._name}{best}  {', '.join([f'{ledger.unique}/{limits.budget} unique', *others])}"
