"""The trust region as a fold over the record: where it is, how long its sides are, and which points are its own."""

import math
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from lso.asktell import UNASKED, History
from lso.vae.values import require

FIRST, LONGEST, SHORTEST = 0.8, 1.6, 0.5**7  # side of the region in the chart's unit cube
SUCCESSES = 3
# A success beats the best before by this share of what that is better than the median: like the 1e-3 |best|
# of the authors, but the same whatever constant is added to the score.
SIGNIFICANT = 1e-3
# Root mean square distance in the unit cube from where a region ended, within which a point asked for before its end
# and told after it is known for what it is. At the end sides are under 0.5**7; prior draws lie some 0.2 apart.
ENDED = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a region grows, shrinks and ends.

    Args:
        design: points of the design that each region begins with.
        patience: points without success until the sides halve. The paper's ceil(max(4, d) / q) asks of q points each.
        successes: asks with success, one after the other, until the sides double.
        typical: whether the center has to be typical, where a typical point has a value at all.
    Raises:
        UsageError: if a number is below 1.
    """

    design: int
    patience: int
    successes: int = SUCCESSES
    typical: bool = True

    def __post_init__(self) -> None:
        require(self.design >= 1, "initial >= 1 points", self.design, "A region has to begin somewhere.")
        require(self.patience >= 1, "patience >= 1 points", self.patience, "None takes the paper's.")
        require(self.successes >= 1, "successes >= 1 asks", self.successes, f"{SUCCESSES} is the paper's.")


@dataclass(kw_only=True)
class Region:
    """State of the current region.

    Args:
        first: number of the first ask that may be its own.
        length: base length of the sides.
        rows: of the record that are its own.
        center: row it lies around; None before a value is known.
        restarts: regions ended before.
        counted: own asks that were neither of the design nor before the first value.
        won: successes in a row.
        lost: points without success in a row.
        ended: rows that the regions before had for their centers in the end.
        designing: whether the next ask still belongs to the design, as it does while no point has a value.
    """

    first: int = 0
    length: float = FIRST
    rows: list[int] = field(default_factory=list)
    center: int | None = None
    restarts: int = 0
    counted: int = 0
    won: int = 0
    lost: int = 0
    ended: list[int] = field(default_factory=list)
    designing: bool = True


def follow(history: History, rules: Rules) -> Region:
    """Fold the record.

    Asks count in the order of their completion: an ask is complete once none of its points is pending, and it counts
    where its last told point stands. It is a success if its best point beats the best that the region had by then. Told
    points of asks that are not complete are the region's own already, and may be its center, but count for nothing
    yet. Points told unasked belong to the region that is current when they are told; before the first ask they take
    the place of its design. A code told again counts once, with the first value that was told of it. Where the sides
    fall below 0.5**7 the region ends, and asks numbered after all that were told by then belong to the next; an ask
    that was still out at that moment is told from the design of the next by lying where the old region ended.

    Args:
        history: the record.
        rules: see there.
    Returns:
        The region that the next ask is for.
    """
    fold = _Fold(history, rules)
    for ask, rows in fold.events():
        if ask == UNASKED:
            fold.take(rows)
        elif fold.own(ask):
            fold.count(ask, rows)
    for ask, rows in fold.open.items():
        if fold.own(ask):
            fold.take(rows)
    region = fold.region
    region.designing = region.center is None or fold.designed(history.number)
    return region


class _Fold:
    def __init__(self, history: History, rules: Rules) -> None:
        self.rules, self.region = rules, Region()
        self.gains: list[float] = []  # of the region, ascending
        self.gain: list[float] = history.gain.tolist()
        self.asks: list[int] = history.ask.tolist()
        self.typical: list[bool] = history.typical.tolist() if rules.typical else [True] * len(self.asks)
        self.waiting: list[int] = history.pending_ask.tolist()
        self.where = history.space.to_unit(torch.cat([history.z, history.pending]))
        self.fresh = _first_of_each(history)
        self.sizes: dict[int, list[int]] = {}  # of each ask, its rows in `where`
        for row, ask in enumerate(self.asks + self.waiting):
            self.sizes.setdefault(ask, []).append(row)
        self.known = 0
        for ask in self.asks:
            if ask != UNASKED:
                break
            self.known += 1
        out = set(self.waiting)
        told = {ask: [r for r in rows if r < len(self.asks)] for ask, rows in self.sizes.items() if ask != UNASKED}
        self.complete = {ask: rows for ask, rows in told.items() if rows and ask not in out}
        self.open = {ask: rows for ask, rows in told.items() if rows and ask in out}
        self._plan()

    def events(self) -> Iterator[tuple[int, list[int]]]:
        """Completed asks and points told unasked, in order."""
        last = {rows[-1]: ask for ask, rows in self.complete.items()}
        for row, ask in enumerate(self.asks):
            if ask == UNASKED:
                yield UNASKED, [row]
            elif row in last:
                yield last[row], self.complete[last[row]]

    def own(self, ask: int) -> bool:
        return ask >= self.region.first and ask not in self.strangers

    def designed(self, ask: int) -> bool:
        """Whether an ask of the current region was, or is, of its design."""
        return self.before.get(ask, self.planned) < self.rules.design

    def take(self, rows: Iterable[int]) -> None:
        """Make points the region's own."""
        region = self.region
        for row in rows:
            if self.fresh[row]:
                region.rows.append(row)
                if math.isfinite(self.gain[row]):
                    insort(self.gains, self.gain[row])
                    if region.center is None or self.rank(row) > self.rank(region.center):
                        region.center = row

    def rank(self, row: int) -> tuple[bool, float]:
        return self.typical[row], self.gain[row]

    def count(self, ask: int, rows: list[int]) -> None:
        """Take an ask and let it succeed or fail."""
        region, bar = self.region, self.bar()
        self.take(rows)
        if bar is None or self.designed(ask) or region.center is None:
            return
        region.counted += 1
        if self.rank(region.center) > bar:
            region.won, region.lost = region.won + 1, 0
        else:
            region.won, region.lost = 0, region.lost + len(rows)
        if region.won >= self.rules.successes:
            region.length, region.won = min(2 * region.length, LONGEST), 0
        elif region.lost >= self.rules.patience:
            region.length, region.lost = region.length / 2, 0
        if region.length < SHORTEST:
            self.restart(rows[-1])

    def bar(self) -> tuple[bool, float] | None:
        """What a success has to beat."""
        center = self.region.center
        if center is None:
            return None
        typical, best = self.rank(center)
        return typical, best + max(0.0, SIGNIFICANT * (best - self.gains[len(self.gains) // 2]))

    def restart(self, row: int) -> None:
        """End the region at a row of the record and begin the next."""
        old = self.region
        assert old.center is not None
        ended = [*old.ended, old.center]
        first = 1 + max(self.asks[: row + 1])
        self.region, self.gains = Region(first=first, restarts=old.restarts + 1, ended=ended), []
        self._plan()

    def _plan(self) -> None:
        """Which asks since the region's first are strangers, and how many points came before each of the others."""
        self.strangers: set[int] = set()
        self.before: dict[int, int] = {}
        self.planned = 0 if self.region.restarts else self.known
        for ask in sorted(ask for ask in self.sizes if ask >= self.region.first):
            if self.planned < self.rules.design and self._at_an_end(self.sizes[ask]):
                self.strangers.add(ask)
            else:
                self.before[ask] = self.planned
                self.planned += len(self.sizes[ask])

    def _at_an_end(self, rows: list[int]) -> bool:
        ends = self.where[self.region.ended]
        away = (self.where[rows].unsqueeze(1) - ends).square().mean(-1).sqrt()
        return bool((away < ENDED).any())


def _first_of_each(history: History) -> list[bool]:
    """Which rows stand for their code: the first with a value, or else the first."""
    chosen: dict[bytes, int] = {}
    valued: set[bytes] = set()
    for row, (code, finite) in enumerate(zip(history.z.numpy(), history.feasible.tolist(), strict=True)):
        name = code.tobytes()
        if name not in chosen or (finite and name not in valued):
            chosen[name] = row
        if finite:
            valued.add(name)
    standing = set(chosen.values())
    return [row in standing for row in range(len(history.z))]
