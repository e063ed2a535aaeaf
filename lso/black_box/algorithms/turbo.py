"""TuRBO: Bayesian optimization inside one trust region around the best typical point, from a local model alone.

The trust region is a fold over the record: where it is, how long its sides are, and which points are its own."""

import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lso.black_box.ask_tell import UNASKED, History, Proposal
from lso.black_box.bayesopt.candidates import DESIGNS, draw_design, perturb, restrict_to_chart, unit_bounds
from lso.black_box.bayesopt.guard import DEFAULT_GUARD_WEIGHT, Guard, make_guard
from lso.black_box.bayesopt.surrogates import fit, fit_feasibility, isolated_botorch
from lso.optimizers import trust_region_design
from lso.space import LatentSpace
from lso.vae.errors import unknown_name
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import require

INITIAL_LENGTH, MAX_LENGTH, MIN_LENGTH = 0.8, 1.6, 0.5**7  # side of the region in the chart's unit cube
SUCCESSES = 3
# A success beats the best before by this share of what that is better than the median: like the 1e-3 |best|
# of the authors, but the same whatever constant is added to the score.
SIGNIFICANT_SHARE = 1e-3
# Root mean square distance in the unit cube from where a region ended, within which a point asked for before its end
# and told after it is known for what it is. At the end sides are under 0.5**7; prior draws lie some 0.2 apart.
ENDED_RADIUS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRules:
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
class RegionState:
    """State of the current region.

    Args:
        first: number of the first ask that may be its own.
        length: base length of the sides.
        rows: of the record that are its own.
        center: row it lies around; None before a value is known.
        restarts: regions ended before.
        counted_asks: own asks that were neither of the design nor before the first value.
        successes_in_row: successes in a row.
        failures_in_row: points without success in a row.
        ended_centers: rows that the regions before had for their centers in the end.
        in_design: whether the next ask still belongs to the design, as it does while no point has a value.
    """

    first: int = 0
    length: float = INITIAL_LENGTH
    rows: list[int] = field(default_factory=list)
    center: int | None = None
    restarts: int = 0
    counted_asks: int = 0
    successes_in_row: int = 0
    failures_in_row: int = 0
    ended_centers: list[int] = field(default_factory=list)
    in_design: bool = True


def replay_region(history: History, rules: RegionRules) -> RegionState:
    """Fold the record.

    Asks count in the order of their completion: an ask is complete once none of its points is pending, and it counts
    where its last told point stands. It is a success if its best point beats the best that the region had by then. Told
    points of asks that are not complete are the region's own already, and may be its center, but count for nothing
    yet. Points told unasked belong to the region that is current when they are told; before the first ask they take
    the place of its design. A code told again counts once, with the first value that was told of it. Where the sides
    fall below 0.5**7 the region ends, and asks numbered after all that were told by then belong to the next; an ask
    that was still out at that moment is told from the design of the next by lying where the old region ended.
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
    region.in_design = region.center is None or fold.designed(history.number)
    return region


class _Fold:
    def __init__(self, history: History, rules: RegionRules) -> None:
        self.rules, self.region = rules, RegionState()
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
        return ask >= self.region.first and ask not in self.late_asks

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
        region.counted_asks += 1
        if self.rank(region.center) > bar:
            region.successes_in_row, region.failures_in_row = region.successes_in_row + 1, 0
        else:
            region.successes_in_row, region.failures_in_row = 0, region.failures_in_row + len(rows)
        if region.successes_in_row >= self.rules.successes:
            region.length, region.successes_in_row = min(2 * region.length, MAX_LENGTH), 0
        elif region.failures_in_row >= self.rules.patience:
            region.length, region.failures_in_row = region.length / 2, 0
        if region.length < MIN_LENGTH:
            self.restart(rows[-1])

    def bar(self) -> tuple[bool, float] | None:
        """What a success has to beat."""
        center = self.region.center
        if center is None:
            return None
        typical, best = self.rank(center)
        return typical, best + max(0.0, SIGNIFICANT_SHARE * (best - self.gains[len(self.gains) // 2]))

    def restart(self, row: int) -> None:
        """End the region at a row of the record and begin the next."""
        old = self.region
        assert old.center is not None
        ended = [*old.ended_centers, old.center]
        first = 1 + max(self.asks[: row + 1])
        self.region, self.gains = RegionState(first=first, restarts=old.restarts + 1, ended_centers=ended), []
        self._plan()

    def _plan(self) -> None:
        """Which asks since the region's first are strangers, and how many points came before each of the others."""
        self.late_asks: set[int] = set()
        self.before: dict[int, int] = {}
        self.planned = 0 if self.region.restarts else self.known
        for ask in sorted(ask for ask in self.sizes if ask >= self.region.first):
            if self.planned < self.rules.design and self._at_an_end(self.sizes[ask]):
                self.late_asks.add(ask)
            else:
                self.before[ask] = self.planned
                self.planned += len(self.sizes[ask])

    def _at_an_end(self, rows: list[int]) -> bool:
        ends = self.where[self.region.ended_centers]
        away = (self.where[rows].unsqueeze(1) - ends).square().mean(-1).sqrt()
        return bool((away < ENDED_RADIUS).any())


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


MEAN_PERTURBED = 20  # coordinates that a candidate moves on average
LOCAL_POINTS = 128  # points of the local model: an ask costs the same however long the record
# Of a fit, as many as the paper's steps of Adam. Without this limit a fit takes hundreds, and most of an ask's time.
FIT_ITERATIONS = 50
CANDIDATES = 1000  # their joint sample costs the cube: 0.03 s, for 2,000 of them 0.2 s


@dataclass(frozen=True, eq=False, kw_only=True)
class TurboSettings:
    """Options of the search; `build_turbo` explains them."""

    rules: RegionRules
    start: str
    guard: Guard
    acquisition: str
    local: int
    candidates: int


def build_turbo(
    space: LatentSpace,
    *,
    guard: str | None = "typical",
    guard_weight: float = DEFAULT_GUARD_WEIGHT,
    acquisition: str = "thompson",
    initial: int | None = None,
    design: str = "prior",
    successes: int = SUCCESSES,
    patience: int | None = None,
    local: int = LOCAL_POINTS,
    candidates: int = CANDIDATES,
) -> Proposal:
    """TuRBO-1 in the chart's unit cube; the trust region is recomputed from the record at each ask (`replay_region`).

    The region is a box around the best point of its own with base length L: 0.8 at first, twice as long (1.6 at most)
    after 3 asks with success in a row, half as long after max(4, d) points without; below 0.5**7 it ends and another
    begins with a design of its own, and what was known before stays out of its model. A side is L times the length
    scale of its dimension over their geometric mean. A candidate moves a random subset of about 20 coordinates. Points
    told unasked before the first ask, thousands of them if need be, stand for the first design.

    The model is of the points nearest to the center, in coordinates in which the region's base box is the unit cube:
    there the prior over length scales means the same at every L.

    Args:
        space: to search.
        guard: see `lso.black_box.bayesopt.guard`: ``typical``, ``ball`` or None. With one the center is the best
            typical point, where any typical one has a value.
        guard_weight: of the soft guard, over the square root of the evaluations so far.
        acquisition: ``thompson``, a joint sample over the candidates for each point of an ask, or ``qlognei``, the
            noisy log expected improvement, by gradient in the region, the points of an ask one after the other.
        initial: points of a design; None is 2 d, at most 64.
        design: of those: ``prior`` (with codes, half of them codes) or ``sobol``.
        successes: see above.
        patience: points without success until the region shrinks; None is max(4, d).
        local: points of the local model at most.
        candidates: to choose from.
    Returns:
        The proposal.
    Raises:
        UsageError: if an option is out of range.
    Source: Eriksson, Pearce, Gardner, Turner, Poloczek (2019), arXiv:1910.01739, sec. 2; the typical center after
        Maus et al. (2022), arXiv:2201.11872, whose center is the best point. Deviations: points instead of asks count
        towards shrinking (the same for asks of one size), what counts as better, the local model and its coordinates,
        BoTorch's default process in place of a Matern kernel with bounded length scales, guard and feasibility.
    """
    if acquisition not in ACQUISITIONS:
        raise unknown_name("acquisition", acquisition, ACQUISITIONS)
    if design not in DESIGNS:
        raise unknown_name("design", design, DESIGNS)
    require(local >= 2 and candidates >= 2, "local and candidates >= 2", (local, candidates), "128 and 1000 are usual.")
    d = space.unit_dim
    rules = RegionRules(
        design=trust_region_design(d) if initial is None else initial,
        patience=max(4, d) if patience is None else patience,
        successes=successes,
        typical=guard is not None,
    )
    settings = TurboSettings(
        rules=rules,
        start=design,
        guard=make_guard(space, guard, guard_weight),
        acquisition=acquisition,
        local=local,
        candidates=candidates,
    )
    return lambda history, n, seed: propose_turbo(history, n, seed, settings)


def propose_turbo(history: History, n: int, seed: int, settings: TurboSettings) -> Float[Tensor, "n latent"]:
    """The next points: of the region's design, by feasibility alone where twice as many found no value, or by the
    acquisition inside it.
    """
    space, region = history.space, replay_region(history, settings.rules)
    if region.center is None and len(region.rows) >= 2 * settings.rules.design:
        from lso.black_box.algorithms import gp

        with isolated_botorch(mix_seed(seed, "botorch")):
            z = gp.propose_feasible(history, n, seed, gp.GpSettings(guard=settings.guard))
    elif region.in_design:
        z = draw_design(history, n, settings.start, generator(seed, "design"))
    else:
        with isolated_botorch(mix_seed(seed, "botorch")):
            box = LocalModel(history, region, settings)
            z = ACQUISITIONS[settings.acquisition](box, n, seed)
    return space.clip(settings.guard.pull_inside(restrict_to_chart(space, z)))


class LocalModel:
    """The region with its local models.

    Args:
        history: all that is known.
        region: the current one; it has a center.
        settings: options.
    """

    def __init__(self, history: History, region: RegionState, settings: TurboSettings) -> None:
        from lso.black_box.bayesopt.acquisition import AcquisitionTerms  # loads BoTorch

        assert region.center is not None
        self.history, self.settings, self.length = history, settings, region.length
        self.space = history.space
        self.center = self.space.to_unit(history.z[region.center])
        rows = torch.tensor(region.rows)
        away = (self.space.to_unit(history.z[rows]) - self.center).square().sum(-1)
        rows = rows[away.argsort(stable=True)]
        valued = rows[history.feasible[rows]][: settings.local]
        near = rows[: settings.local]
        self.terms = AcquisitionTerms(
            surrogate=fit(self.view(history.z[valued]), history.gain[valued], iterations=FIT_ITERATIONS),
            feasibility=fit_feasibility(self.view(history.z[near]), history.feasible[near], FIT_ITERATIONS),
            guard=settings.guard,
            evaluations=len(history.z),
            view=self.view,
            plain=False,
        )
        scales = self.terms.surrogate.lengthscales
        side = self.length * scales / scales.log().mean().exp()
        cube = unit_bounds(self.space)
        # The center itself may lie outside the cube where it was told unasked.
        middle = torch.minimum(torch.maximum(self.center, cube[0]), cube[1])
        self.bounds = torch.stack(
            [torch.maximum(middle - side / 2, cube[0]), torch.minimum(middle + side / 2, cube[1])]
        )
        self.middle = middle

    def view(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch k"]:
        """Inputs of the local models: the base box of the region is the unit cube."""
        return (self.space.to_unit(z) - self.center) / self.length + 0.5

    def candidates(self, n: int, generator: Generator) -> Float[Tensor, "n k"]:
        """Points of the box that differ from its center in a random subset of the coordinates."""
        k = len(self.middle)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        engine = torch.quasirandom.SobolEngine(k, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        u = self.bounds[0] + (self.bounds[1] - self.bounds[0]) * engine.draw(n, dtype=torch.float64)
        moved = torch.rand(n, k, generator=generator) < min(1.0, MEAN_PERTURBED / k)
        forced = torch.randint(k, (n,), generator=generator)  # any of them, the last one too
        moved[torch.arange(n), forced] |= ~moved.any(1)
        return torch.where(moved, u, self.middle)


def choose_by_sampling(box: LocalModel, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """For each point a joint sample over the candidates: its largest value, guard and feasibility added, is taken.

    Args:
        box: with its models.
        n: how many.
        seed: of the candidates; the samples are BoTorch's, from the state that `isolated_botorch` set.
    Returns:
        ``(n, d)`` codes.
    """
    count = max(box.settings.candidates, n)
    z = box.terms.codes(box.candidates(count, generator(seed, "candidates")))
    x = box.view(z)
    with torch.no_grad():
        sample = box.terms.surrogate.model.posterior(x).rsample(torch.Size([n])).squeeze(-1)
        score = sample + box.terms.added(z, x)
    picks: list[int] = []
    for row in score.nan_to_num(nan=-torch.inf):
        row[picks] = -torch.inf
        picks.append(int(row.argmax()))
    return z[picks]


def choose_by_improvement(box: LocalModel, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """The maxima of the noisy log expected improvement in the box, each pending for the next."""
    from lso.black_box.bayesopt.acquisition import make_acquisition, maximize

    picks, pending = [], box.view(box.history.pending)
    for i in range(n):
        random = generator(seed, "starts", i)
        raw = torch.cat([box.candidates(192, random), perturb(box.middle.unsqueeze(0), 64, random)])
        raw = torch.minimum(torch.maximum(raw, box.bounds[0]), box.bounds[1]).unsqueeze(1)
        picks.append(box.terms.codes(maximize(make_acquisition(box.terms, pending), raw, box.bounds, 4)))
        pending = torch.cat([pending, box.view(picks[-1])])
    return torch.cat(picks)


# What chooses the points of an ask, by name.
ACQUISITIONS: Mapping[str, Callable[[LocalModel, int, int], Tensor]] = {
    "thompson": choose_by_sampling,
    "qlognei": choose_by_improvement,
}
