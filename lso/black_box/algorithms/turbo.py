"""TuRBO: Bayesian optimization inside one trust region around the best typical point, by a local model.

Position and size of the trust region, and which points belong to it, are recomputed from the record at each ask.
"""

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
from lso.optimizers import trust_region_design_size
from lso.space import LatentSpace
from lso.vae.errors import unknown_name
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import require

INITIAL_LENGTH, MAX_LENGTH, MIN_LENGTH = 0.8, 1.6, 0.5**7  # of the region's sides in the chart's unit cube
SUCCESSES = 3  # consecutive successful asks until the sides double
# A success must exceed the best gain before by this share of (best - median). The authors take 1e-3 |best|, which
# depends on a constant added to the score; this does not.
SIGNIFICANT_SHARE = 1e-3
# Root mean square distance in the unit cube from a region's last center, within which a point that was told after the
# region's end is recognized as one of its asks. Sides are then below 0.5**7 = 0.008; prior draws lie about 0.2 apart.
ENDED_RADIUS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRules:
    """When a trust region grows, shrinks and ends."""

    design: int  # points of the initial design of each region
    patience: int  # consecutive points without success until the sides halve; the paper's ceil(max(4, d) / q) asks of q
    successes: int = SUCCESSES  # consecutive successful asks until the sides double
    typical: bool = True  # whether the center must be typical of the prior, where a typical point has a value

    def __post_init__(self) -> None:
        require(
            self.design >= 1, "initial >= 1 points", self.design, "A region needs at least one point to begin with."
        )
        require(self.patience >= 1, "patience >= 1 points", self.patience, "None takes max(4, d), as in the paper.")
        require(
            self.successes >= 1, "successes >= 1 asks", self.successes, f"{SUCCESSES} is the default, as in the paper."
        )


@dataclass(kw_only=True)
class RegionState:
    """The state of the current trust region; rows are those of the record, `History.z`."""

    first: int = 0  # number of the first ask that may belong to it
    length: float = INITIAL_LENGTH  # base length of the sides
    rows: list[int] = field(default_factory=list)  # of its points
    center: int | None = None  # row of its center; None before a point has a value
    restarts: int = 0  # regions that ended before
    counted_asks: int = 0  # asks that succeeded or failed: those after the design and after the first value
    successes_in_row: int = 0  # asks
    failures_in_row: int = 0  # points
    ended_centers: list[int] = field(default_factory=list)  # rows of the last centers of the regions before
    in_design: bool = True  # whether the next ask belongs to the design, as it does while no point has a value


def replay_region(history: History, rules: RegionRules) -> RegionState:
    """Recompute the current trust region from the record.

    Asks count in the order of their completion: an ask is complete once none of its points is pending, and counts at
    the position of its last told point. It is a success if its best point beats the best point of the region by then.
    Told points of incomplete asks belong to the region and may be its center, but are no success or failure yet. Points
    told unasked belong to the region that is current when they are told; before the first ask they take the place of
    the design. A code told several times counts once, with the first value told for it. Where the sides fall below
    0.5**7 the region ends, and asks numbered after all that were told by then belong to the next region. An ask that
    was pending at that moment is told apart from the next region's design by its distance to the old center.
    """
    replay = _RegionReplay(history, rules)
    for ask, rows in replay.events():
        if ask == UNASKED:
            replay.add_points(rows)
        elif replay.owns(ask):
            replay.count_ask(ask, rows)
    for ask, rows in replay.incomplete.items():
        if replay.owns(ask):
            replay.add_points(rows)
    region = replay.region
    region.in_design = region.center is None or replay.is_in_design(history.number)
    return region


class _RegionReplay:
    """The replay of a record: regions begin, grow, shrink and end as its asks are completed."""

    def __init__(self, history: History, rules: RegionRules) -> None:
        self.rules, self.region = rules, RegionState()
        self.sorted_gains: list[float] = []  # of the region's points, ascending
        self.gain_of_row: list[float] = history.gain.tolist()
        self.asks: list[int] = history.ask.tolist()
        self.typical: list[bool] = history.typical.tolist() if rules.typical else [True] * len(self.asks)
        self.pending_asks: list[int] = history.pending_ask.tolist()
        self.positions = history.space.to_unit(torch.cat([history.z, history.pending]))  # in the unit cube
        # Whether a row counts: of the rows of one code only one does.
        self.counts = _first_of_each(history)
        self.rows_of_ask: dict[int, list[int]] = {}  # rows in `positions`
        for row, ask in enumerate(self.asks + self.pending_asks):
            self.rows_of_ask.setdefault(ask, []).append(row)
        self.known_points = 0  # told unasked before the first ask
        for ask in self.asks:
            if ask != UNASKED:
                break
            self.known_points += 1
        pending = set(self.pending_asks)
        told_rows = {
            ask: [r for r in rows if r < len(self.asks)] for ask, rows in self.rows_of_ask.items() if ask != UNASKED
        }
        # Told rows by ask: of asks without pending points, and of the others.
        self.complete = {ask: rows for ask, rows in told_rows.items() if rows and ask not in pending}
        self.incomplete = {ask: rows for ask, rows in told_rows.items() if rows and ask in pending}
        self._assign_asks()

    def events(self) -> Iterator[tuple[int, list[int]]]:
        """Complete asks and points told unasked, with their rows, in the order of the record."""
        last = {rows[-1]: ask for ask, rows in self.complete.items()}
        for row, ask in enumerate(self.asks):
            if ask == UNASKED:
                yield UNASKED, [row]
            elif row in last:
                yield last[row], self.complete[last[row]]

    def owns(self, ask: int) -> bool:
        return ask >= self.region.first and ask not in self.late_asks

    def is_in_design(self, ask: int) -> bool:
        """Whether an ask of the current region belongs to its design."""
        return self.points_before.get(ask, self.region_points) < self.rules.design

    def add_points(self, rows: Iterable[int]) -> None:
        """Add points to the region, and move its center to the best."""
        region = self.region
        for row in rows:
            if self.counts[row]:
                region.rows.append(row)
                if math.isfinite(self.gain_of_row[row]):
                    insort(self.sorted_gains, self.gain_of_row[row])
                    if region.center is None or self.rank(row) > self.rank(region.center):
                        region.center = row

    def rank(self, row: int) -> tuple[bool, float]:
        return self.typical[row], self.gain_of_row[row]

    def count_ask(self, ask: int, rows: list[int]) -> None:
        """Add a complete ask, and count it as a success or a failure."""
        region, threshold = self.region, self.success_threshold()
        self.add_points(rows)
        if threshold is None or self.is_in_design(ask) or region.center is None:
            return
        region.counted_asks += 1
        if self.rank(region.center) > threshold:
            region.successes_in_row, region.failures_in_row = region.successes_in_row + 1, 0
        else:
            region.successes_in_row, region.failures_in_row = 0, region.failures_in_row + len(rows)
        if region.successes_in_row >= self.rules.successes:
            region.length, region.successes_in_row = min(2 * region.length, MAX_LENGTH), 0
        elif region.failures_in_row >= self.rules.patience:
            region.length, region.failures_in_row = region.length / 2, 0
        if region.length < MIN_LENGTH:
            self.restart(rows[-1])

    def success_threshold(self) -> tuple[bool, float] | None:
        """What the best point of an ask must exceed for a success; None before a point has a value."""
        center = self.region.center
        if center is None:
            return None
        typical, best = self.rank(center)
        return typical, best + max(0.0, SIGNIFICANT_SHARE * (best - self.sorted_gains[len(self.sorted_gains) // 2]))

    def restart(self, row: int) -> None:
        """End the region at a row of the record and begin the next."""
        old = self.region
        assert old.center is not None
        ended = [*old.ended_centers, old.center]
        first = 1 + max(self.asks[: row + 1])
        self.region, self.sorted_gains = RegionState(first=first, restarts=old.restarts + 1, ended_centers=ended), []
        self._assign_asks()

    def _assign_asks(self) -> None:
        """Find the asks of an earlier region that were told late, and the number of points before each other ask."""
        self.late_asks: set[int] = set()
        self.points_before: dict[int, int] = {}
        self.region_points = 0 if self.region.restarts else self.known_points
        for ask in sorted(ask for ask in self.rows_of_ask if ask >= self.region.first):
            if self.region_points < self.rules.design and self._is_near_ended_center(self.rows_of_ask[ask]):
                self.late_asks.add(ask)
            else:
                self.points_before[ask] = self.region_points
                self.region_points += len(self.rows_of_ask[ask])

    def _is_near_ended_center(self, rows: list[int]) -> bool:
        ends = self.positions[self.region.ended_centers]
        distance = (self.positions[rows].unsqueeze(1) - ends).square().mean(-1).sqrt()
        return bool((distance < ENDED_RADIUS).any())


def _first_of_each(history: History) -> list[bool]:
    """Which rows count for their code: of a code told several times the first with a value, or else the first."""
    chosen: dict[bytes, int] = {}
    valued: set[bytes] = set()
    for row, (code, finite) in enumerate(zip(history.z.numpy(), history.feasible.tolist(), strict=True)):
        key = code.tobytes()
        if key not in chosen or (finite and key not in valued):
            chosen[key] = row
        if finite:
            valued.add(key)
    counted = set(chosen.values())
    return [row in counted for row in range(len(history.z))]


MEAN_PERTURBED = 20  # coordinates in which a candidate differs from the center, on average
LOCAL_POINTS = 128  # points of the local model at most: the time of an ask does not grow with the record
# Of a fit, as many as the paper's steps of Adam. Without this limit a fit takes hundreds, and most of an ask's time.
FIT_ITERATIONS = 50
CANDIDATES = 1000  # the time of their joint sample grows with the cube: 0.03 s, for 2,000 candidates 0.2 s


@dataclass(frozen=True, eq=False, kw_only=True)
class TurboSettings:
    """Options of the search, explained at `build_turbo`."""

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

    The region is a box around its best point with base length L: 0.8 at first, doubled (1.6 at most) after 3 successful
    asks in a row, halved after max(4, d) points without success. Below 0.5**7 it ends, and another begins with a design
    of its own, whose model does not use the points known before. A side is L times the length scale of its dimension
    over their geometric mean. A candidate differs from the center in a random subset of about 20 coordinates. Points
    told unasked before the first ask, even thousands, take the place of the first design.

    The model is fitted to the points nearest to the center, in coordinates in which the region's base box is the unit
    cube: there the prior over length scales means the same at every L.

    Args:
        space: the space to search.
        guard: see `lso.black_box.bayesopt.guard`: ``typical``, ``ball`` or None. With a guard the center is the best
            typical point, as soon as a typical point has a value.
        guard_weight: weight of the soft guard, divided by the square root of the evaluations so far.
        acquisition: ``thompson``: each point of an ask maximizes a joint sample over the candidates; or ``qlognei``:
            noisy log expected improvement, maximized by gradient in the region for one point of an ask after the other.
        initial: points of a design; None is 2 d, at most 64.
        design: how they are drawn: ``prior`` (with known codes, half of them are codes) or ``sobol``.
        successes: consecutive successful asks until the sides double.
        patience: consecutive points without success until the sides halve; None is max(4, d).
        local: points of the local model at most.
        candidates: number of candidates of an ask.
    Returns:
        The proposal.
    Source: Eriksson, Pearce, Gardner, Turner, Poloczek (2019), arXiv:1910.01739, sec. 2; the typical center after
        Maus et al. (2022), arXiv:2201.11872, whose center is the best point. Deviations: points instead of asks count
        towards shrinking (the same for asks of one size), what counts as better, the local model and its coordinates,
        BoTorch's default process in place of a Matern kernel with bounded length scales, guard and feasibility.
    """
    if acquisition not in ACQUISITIONS:
        raise unknown_name("acquisition", acquisition, ACQUISITIONS)
    if design not in DESIGNS:
        raise unknown_name("design", design, DESIGNS)
    require(
        local >= 2 and candidates >= 2,
        "local and candidates >= 2",
        (local, candidates),
        "128 and 1000 are the defaults.",
    )
    d = space.unit_dim
    rules = RegionRules(
        design=trust_region_design_size(d) if initial is None else initial,
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
    """The next points: of the region's design, or by the acquisition inside the region.

    Where twice as many points as the design has have no value, they are chosen by feasibility alone.
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
            model = LocalModel(history, region, settings)
            z = ACQUISITIONS[settings.acquisition](model, n, seed)
    return space.clip(settings.guard.pull_inside(restrict_to_chart(space, z)))


class LocalModel:
    """The current trust region, which has a center, with the models that are fitted to its points."""

    def __init__(self, history: History, region: RegionState, settings: TurboSettings) -> None:
        from lso.black_box.bayesopt.acquisition import AcquisitionTerms  # loads BoTorch

        assert region.center is not None
        self.history, self.settings, self.length = history, settings, region.length
        self.space = history.space
        self.center = self.space.to_unit(history.z[region.center])
        rows = torch.tensor(region.rows)
        distance = (self.space.to_unit(history.z[rows]) - self.center).square().sum(-1)
        rows = rows[distance.argsort(stable=True)]
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
        # A center that was told unasked may lie outside the cube.
        middle = torch.minimum(torch.maximum(self.center, cube[0]), cube[1])
        self.bounds = torch.stack(
            [torch.maximum(middle - side / 2, cube[0]), torch.minimum(middle + side / 2, cube[1])]
        )
        self.middle = middle

    def view(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch k"]:
        """Inputs of the local models: coordinates in which the region's base box is the unit cube."""
        return (self.space.to_unit(z) - self.center) / self.length + 0.5

    def candidates(self, n: int, generator: Generator) -> Float[Tensor, "n k"]:
        """Points of the box that differ from its center in a random subset of the coordinates."""
        k = len(self.middle)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        engine = torch.quasirandom.SobolEngine(k, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        u = self.bounds[0] + (self.bounds[1] - self.bounds[0]) * engine.draw(n, dtype=torch.float64)
        moved = torch.rand(n, k, generator=generator) < min(1.0, MEAN_PERTURBED / k)
        forced = torch.randint(k, (n,), generator=generator)  # moved where the random subset is empty
        moved[torch.arange(n), forced] |= ~moved.any(1)
        return torch.where(moved, u, self.middle)


def choose_by_sampling(model: LocalModel, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """Thompson sampling: n candidates, each the maximum of a joint sample plus the terms of guard and feasibility.

    ``seed`` is that of the candidates; the samples are BoTorch's, from the random state that `isolated_botorch` set.
    """
    count = max(model.settings.candidates, n)
    z = model.terms.codes(model.candidates(count, generator(seed, "candidates")))
    x = model.view(z)
    with torch.no_grad():
        sample = model.terms.surrogate.model.posterior(x).rsample(torch.Size([n])).squeeze(-1)
        score = sample + model.terms.added(z, x)
    picks: list[int] = []
    for row in score.nan_to_num(nan=-torch.inf):
        row[picks] = -torch.inf
        picks.append(int(row.argmax()))
    return z[picks]


def choose_by_improvement(model: LocalModel, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """n maxima of the noisy log expected improvement in the region, each pending for the next."""
    from lso.black_box.bayesopt.acquisition import make_acquisition, maximize

    picks, pending = [], model.view(model.history.pending)
    for i in range(n):
        random = generator(seed, "starts", i)
        raw = torch.cat([model.candidates(192, random), perturb(model.middle.unsqueeze(0), 64, random)])
        raw = torch.minimum(torch.maximum(raw, model.bounds[0]), model.bounds[1]).unsqueeze(1)
        picks.append(model.terms.codes(maximize(make_acquisition(model.terms, pending), raw, model.bounds, 4)))
        pending = torch.cat([pending, model.view(picks[-1])])
    return torch.cat(picks)


# The functions that choose the points of an ask, by the name of the acquisition.
ACQUISITIONS: Mapping[str, Callable[[LocalModel, int, int], Tensor]] = {
    "thompson": choose_by_sampling,
    "qlognei": choose_by_improvement,
}
