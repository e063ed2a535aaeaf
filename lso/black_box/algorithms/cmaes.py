"""CMA-ES: a Gaussian over codes whose mean, covariance and step size adapt to the ranks of the values told."""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from lso.black_box.ask_tell import UNASKED, History, Proposal
from lso.black_box.bayesopt.guard import make_guard
from lso.space import LatentSpace
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import require

SIGMA = 0.7  # initial step size, below the prior's 1: the distribution widens by itself within a few generations
KNOWN_SIGMA = 0.35  # around a known point: with 0.7 in 32 dimensions a step is as long as the way from the origin to it
MIN_WIDEST_AXIS = 1e-3  # prior standard deviations; a search whose widest axis is shorter restarts from a prior draw


def build_cmaes(
    space: LatentSpace, *, sigma: float | None = None, population: int | None = None, guard: str | None = "ball"
) -> Proposal:
    """CMA-ES over the codes of the space, or over the active coordinates alone where its chart is ``active``.

    The state is recomputed from the tells in their order. Points told unasked before the first asked one are known
    data: the first mean is the best of them, without known data the prior's 0. After that every told point joins the
    current generation; of points told unasked, only those that are better than all before (so that a repeated tell
    counts once). A generation ends once it has lambda points of which mu = lambda // 2 have a value: infeasible points
    rank behind all others, so that the mean never moves towards them. Points that clipping or the guard moved, or that
    an older distribution drew, are told as they are; ``cma`` shortens steps that its distribution could hardly have
    made. The search restarts where its widest axis falls below `MIN_WIDEST_AXIS`, and where all values of its last
    generation are equal.

    Args:
        space: the space to search.
        sigma: initial step size in prior standard deviations; None is 0.7, around known data 0.35.
        population: lambda; None is 4 + floor(3 log d).
        guard: ``"ball"`` pulls points outside the typical ball onto it, see `lso.black_box.bayesopt.guard`; None leaves
            them. CMA-ES has no acquisition to which the soft guard ``"typical"`` could be added.
    Returns:
        The proposal: draws from the current distribution. Pending points do not change it.
    Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772; the package ``cma``. Deviations:
        infeasible points and the restart, as described above.
    """
    require(sigma is None or sigma > 0, "sigma > 0", sigma, "0.7 is the default.")
    require(population is None or population >= 4, "a population >= 4", population, "None chooses by dimension.")
    if guard not in (None, "ball"):
        raise unknown_name("guard of cmaes", str(guard), ("ball", "none"))
    cma, cache, ball = _import_cma(), _ReplayCache(), make_guard(space, guard)

    def propose(history: History, n: int, seed: int) -> Float[Tensor, "n latent"]:
        state = cache.replay(history, lambda: _CmaesState(cma, space, sigma, population))
        noise = torch.randn(n, state.dim, generator=generator(seed, "cmaes"), dtype=torch.float64)
        return space.clip(ball.pull_inside(space.clip(state.draw(noise))))

    return propose


@dataclass
class _CmaesState:
    """The state of a search: `tell` adds a told point in place, `draw` samples the current distribution."""

    cma: Any
    space: LatentSpace
    sigma: float | None
    population: int | None
    known: Tensor | None = None  # best of the known data (told before the first asked point)
    top: float = -math.inf  # best gain so far
    strategy: Any = None  # cma.CMAEvolutionStrategy; None until the first asked point is told
    members: list[tuple[Tensor, float]] = field(default_factory=list)  # codes and gains of the current generation
    restarts: int = 0
    # Bits of the first asked point, which seed the restarts, so that searches with other seeds restart elsewhere.
    origin: int = 0

    @property
    def dim(self) -> int:
        return self.space.unit_dim

    def tell(self, z: Tensor, gain: float, ask: int) -> None:
        better = gain > self.top
        self.top = max(self.top, gain) if gain == gain else self.top  # NaN is not equal to itself
        if ask == UNASKED and self.strategy is None:
            self.known = z if better else self.known
        elif ask != UNASKED or better:
            if self.strategy is None:
                self.strategy, self.origin = self.new_strategy(), int(z[:1].view(torch.int64))
            self.members.append((z, gain))
            self._end_generation()

    def draw(self, noise: Tensor) -> Tensor:
        strategy = self.strategy or self.new_strategy()
        eigenvalues, eigenvectors = torch.linalg.eigh(torch.from_numpy(strategy.sm.C.copy()))
        deviations = strategy.sigma * eigenvalues.clamp_min(0).sqrt()
        return self._codes(torch.from_numpy(strategy.mean.copy()) + (noise * deviations) @ eigenvectors.T)

    def new_strategy(self) -> Any:
        """A new strategy: the first around known data or the prior's mean, after a restart around a prior draw."""
        mean, sigma = torch.zeros(self.space.dim, dtype=torch.float64), self.sigma or SIGMA
        if self.restarts:
            mean = self.space.sample(1, "prior", generator(self.origin, "cmaes restart", self.restarts))[0]
        elif self.known is not None:
            mean, sigma = self.known, self.sigma or KNOWN_SIGMA
        options: dict[str, Any] = {"verbose": -9, "verb_log": 0, "verb_disp": 0, "seed": math.nan}
        # The strategy's own draws are discarded, but must not come from numpy's global random state.
        options["randn"] = numpy.random.RandomState(mix_seed(self.restarts, "cmaes") % 2**32).randn
        if self.population is not None:
            options["popsize"] = self.population
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.cma.CMAEvolutionStrategy(self._coordinates(mean).numpy(), sigma, options)

    def _end_generation(self) -> None:
        """Once the current generation is complete, update the strategy by it; restart a search that has converged."""
        size = self.strategy.popsize
        feasible = sum(math.isfinite(gain) for _, gain in self.members)
        if len(self.members) < size or feasible < size // 2:
            return
        ranked = sorted(self.members, key=lambda member: -member[1] if math.isfinite(member[1]) else math.inf)[:size]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.strategy.ask()  # cma refuses a tell without an ask before; its proposals are not used
            self.strategy.tell([self._coordinates(z).numpy() for z, _ in ranked], _ranks([g for _, g in ranked]))
        self.members = []
        flat = len({gain for _, gain in ranked}) == 1  # e.g. where all codes decode to one object
        if flat or self.strategy.sigma * float(self.strategy.sm.D.max()) < MIN_WIDEST_AXIS:
            self.restarts += 1
            self.strategy = self.new_strategy()

    def _coordinates(self, z: Tensor) -> Tensor:
        return z[..., self.space.active] if self.space.chart == "active" else z

    def _codes(self, coordinates: Tensor) -> Tensor:
        if self.space.chart != "active":
            return coordinates
        z = coordinates.new_zeros(*coordinates.shape[:-1], self.space.dim)
        return z.masked_scatter(self.space.active.expand_as(z), coordinates)


@dataclass
class _ReplayCache:
    """The state after the last tells. A history that begins with these continues it; any other is replayed anew."""

    state: _CmaesState | None = None
    rows: Tensor | None = None  # the tells: code, gain, ask

    def replay(self, history: History, start: Callable[[], _CmaesState]) -> _CmaesState:
        rows = torch.cat([history.z, history.gain[:, None], history.ask[:, None].double()], 1)
        done = 0 if self.rows is None else len(self.rows)
        if self.state is None or not torch.equal(_replace_nan(rows[:done]), _replace_nan(self.rows)):
            self.state, done = start(), 0
        for row in rows[done:]:
            self.state.tell(row[:-2], float(row[-2]), int(row[-1]))
        self.rows = rows
        return self.state


def _replace_nan(rows: Tensor | None) -> Tensor:
    return torch.zeros(0) if rows is None else rows.nan_to_num(nan=math.inf)


def _ranks(gains: Iterable[float]) -> list[float]:
    """Ranks from 0, best first; equal gains share a rank, infeasible points share the last one."""
    from scipy.stats import rankdata  # late: it takes a second to import

    loss = [-gain if math.isfinite(gain) else math.inf for gain in gains]
    ranks: list[float] = (rankdata(loss, method="min") - 1.0).tolist()
    return ranks


def _import_cma() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("cma")
    except ImportError:
        raise UsageError(
            "cmaes needs the package cma, which is not installed", "Install it: pip install 'lso[cma]'"
        ) from None
