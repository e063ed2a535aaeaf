"""CMA-ES: a Gaussian over codes that moves, turns and scales itself by the ranks of what it is told."""

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

SIGMA = 0.7  # first step size, below the prior's 1: the distribution widens itself within a few generations
KNOWN_SIGMA = 0.35  # around a known point: at 0.7 in 32 dimensions a step would be as long as the way from the origin
MIN_WIDEST_AXIS = 1e-3  # prior standard deviations; a search whose widest axis is below starts anew from a prior draw


def build_cmaes(
    space: LatentSpace, *, sigma: float | None = None, population: int | None = None, guard: str | None = "ball"
) -> Proposal:
    """CMA-ES over the coordinates of the space, over the active ones alone where its chart is ``active``.

    The state is a fold over the tells. Points told unasked before the first asked one are known data: the best of them
    is the first mean, else the prior's 0. After that every told point joins the open generation, those told unasked
    only where they beat all before (so a tell repeated counts once). A generation closes once it has lambda points of
    which mu = lambda // 2 have a value: infeasible points rank behind all others, and never are among those that the
    mean moves to. Points that clipping or the guard moved, or that an older distribution drew, are told as they are;
    ``cma`` shortens steps that its distribution could hardly have made. A search that has shrunk to nothing, or whose
    last generation is worth the same throughout, restarts.

    Args:
        space: to search.
        sigma: first step size in prior standard deviations; None is 0.7, around known data 0.35.
        population: lambda; None is 4 + floor(3 log d).
        guard: ``"ball"`` shrinks points outside the typical ball onto it, see `lso.black_box.bayesopt.guard`; None
            leaves them. It is no acquisition, so there is nothing for the soft guard to be added to.
    Returns:
        The proposal: draws from the current distribution. Points pending do not change it.
    Raises:
        UsageError: if the package ``cma`` is missing or an option makes no sense.
    Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772; the package ``cma``. Deviations:
        infeasible points and the restart, as said above.
    """
    require(sigma is None or sigma > 0, "sigma > 0", sigma, "0.7 is the default.")
    require(population is None or population >= 4, "a population >= 4", population, "None chooses by dimension.")
    if guard not in (None, "ball"):
        raise unknown_name("guard of cmaes", str(guard), ("ball", "none"))
    cma, memo, keep = _import_cma(), _ReplayCache(), make_guard(space, guard)

    def propose(history: History, n: int, seed: int) -> Float[Tensor, "n latent"]:
        search = memo.fold(history, lambda: _CmaesState(cma, space, sigma, population))
        noise = torch.randn(n, search.free, generator=generator(seed, "cmaes"), dtype=torch.float64)
        return space.clip(keep.pull_inside(space.clip(search.draw(noise))))

    return propose


@dataclass
class _CmaesState:
    """The state: told points go in by `tell`, in place; `draw` reads it."""

    cma: Any
    space: LatentSpace
    sigma: float | None
    population: int | None
    known: Tensor | None = None  # best of the known data
    top: float = -math.inf  # best gain so far
    strategy: Any = None  # of cma; None until the first asked point
    members: list[tuple[Tensor, float]] = field(default_factory=list)  # of the open generation
    restarts: int = 0
    origin: int = 0  # bits of the first asked point: searches with other seeds restart elsewhere

    @property
    def free(self) -> int:
        return self.space.unit_dim

    def tell(self, z: Tensor, gain: float, ask: int) -> None:
        better = gain > self.top
        self.top = max(self.top, gain) if gain == gain else self.top
        if ask == UNASKED and self.strategy is None:
            self.known = z if better else self.known
        elif ask != UNASKED or better:
            if self.strategy is None:
                self.strategy, self.origin = self.fresh(), int(z[:1].view(torch.int64))
            self.members.append((z, gain))
            self._close()

    def draw(self, noise: Tensor) -> Tensor:
        strategy = self.strategy or self.fresh()
        scale, turn = torch.linalg.eigh(torch.from_numpy(strategy.sm.C.copy()))
        spread = strategy.sigma * scale.clamp_min(0).sqrt()
        return self._codes(torch.from_numpy(strategy.mean.copy()) + (noise * spread) @ turn.T)

    def fresh(self) -> Any:
        """A new strategy; from the second on around prior draws."""
        mean, sigma = torch.zeros(self.space.dim, dtype=torch.float64), self.sigma or SIGMA
        if self.restarts:
            mean = self.space.sample(1, "prior", generator(self.origin, "cmaes restart", self.restarts))[0]
        elif self.known is not None:
            mean, sigma = self.known, self.sigma or KNOWN_SIGMA
        options: dict[str, Any] = {"verbose": -9, "verb_log": 0, "verb_disp": 0, "seed": math.nan}
        # Its own draws are thrown away, but must not come from numpy's global state.
        options["randn"] = numpy.random.RandomState(mix_seed(self.restarts, "cmaes") % 2**32).randn
        if self.population is not None:
            options["popsize"] = self.population
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.cma.CMAEvolutionStrategy(self._coordinates(mean).numpy(), sigma, options)

    def _close(self) -> None:
        size = self.strategy.popsize
        feasible = sum(math.isfinite(gain) for _, gain in self.members)
        if len(self.members) < size or feasible < size // 2:
            return
        ranked = sorted(self.members, key=lambda member: -member[1] if math.isfinite(member[1]) else math.inf)[:size]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.strategy.ask()  # it must have been asked
            self.strategy.tell([self._coordinates(z).numpy() for z, _ in ranked], _ranks([g for _, g in ranked]))
        self.members = []
        flat = len({gain for _, gain in ranked}) == 1  # as where all decode to one object: nothing left to rank
        if flat or self.strategy.sigma * float(self.strategy.sm.D.max()) < MIN_WIDEST_AXIS:
            self.restarts += 1
            self.strategy = self.fresh()

    def _coordinates(self, z: Tensor) -> Tensor:
        return z[..., self.space.active] if self.space.chart == "active" else z

    def _codes(self, coordinates: Tensor) -> Tensor:
        if self.space.chart != "active":
            return coordinates
        z = coordinates.new_zeros(*coordinates.shape[:-1], self.space.dim)
        return z.masked_scatter(self.space.active.expand_as(z), coordinates)


@dataclass
class _ReplayCache:
    """The last fold. A record that begins with the same tells continues it; any other is folded from the start."""

    search: _CmaesState | None = None
    rows: Tensor | None = None

    def fold(self, history: History, start: Callable[[], _CmaesState]) -> _CmaesState:
        rows = torch.cat([history.z, history.gain[:, None], history.ask[:, None].double()], 1)
        done = 0 if self.rows is None else len(self.rows)
        if self.search is None or not torch.equal(_replace_nan(rows[:done]), _replace_nan(self.rows)):
            self.search, done = start(), 0
        for row in rows[done:]:
            self.search.tell(row[:-2], float(row[-2]), int(row[-1]))
        self.rows = rows
        return self.search


def _replace_nan(rows: Tensor | None) -> Tensor:
    return torch.zeros(0) if rows is None else rows.nan_to_num(nan=math.inf)


def _ranks(gains: Iterable[float]) -> list[float]:
    """Places from 0, best first; equal gains share one, infeasible points the last. CMA-ES asks for no more."""
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
        raise UsageError("cmaes needs the package cma, which is not installed", "pip install 'lso[cma]'") from None
