"""TuRBO: Bayesian optimization inside one trust region around the best typical point, from a local model alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lso.asktell import History, Proposal
from lso.guard import WEIGHT, Guard, make_guard
from lso.pools import DESIGNS, design, on_chart, perturbed, unit_bounds
from lso.region import SUCCESSES, Region, Rules, follow
from lso.space import LatentSpace
from lso.surrogate import fit, fit_feasibility, isolated
from lso.vae.errors import unknown_name
from lso.vae.seeds import generator, mix
from lso.vae.values import require

ACQUISITIONS = ("thompson", "qlognei")
PERTURBED = 20  # coordinates that a candidate moves on average
LOCAL = 128  # points of the local model: an ask costs the same however long the record
ITERATIONS = 50  # of a fit; the paper takes 50 steps of Adam. Without an end it takes hundreds, and most of the time
CANDIDATES = 1000  # their joint sample costs the cube: 0.03 s, for 2,000 of them 0.2 s


@dataclass(frozen=True, eq=False, kw_only=True)
class Settings:
    """Options of the search; `build` explains them."""

    rules: Rules
    start: str
    guard: Guard
    acquisition: str
    local: int
    candidates: int


def build(
    space: LatentSpace,
    *,
    guard: str | None = "typical",
    guard_weight: float = WEIGHT,
    acquisition: str = "thompson",
    initial: int | None = None,
    design: str = "prior",
    successes: int = SUCCESSES,
    patience: int | None = None,
    local: int = LOCAL,
    candidates: int = CANDIDATES,
) -> Proposal:
    """TuRBO-1 in the chart's unit cube, its state a fold over the record (see `lso.region.follow`).

    The region is a box around the best point of its own with base length L: 0.8 at first, twice as long (1.6 at most)
    after 3 asks with success in a row, half as long after max(4, d) points without; below 0.5**7 it ends and another
    begins with a design of its own, and what was known before stays out of its model. A side is L times the length
    scale of its dimension over their geometric mean. A candidate moves a random subset of about 20 coordinates. Points
    told unasked before the first ask, thousands of them if need be, stand for the first design.

    The model is of the points nearest to the center, in coordinates in which the region's base box is the unit cube:
    there the prior over length scales means the same at every L.

    Args:
        space: to search.
        guard: see `lso.guard`: ``typical``, ``ball`` or None. With one the center is the best typical point, where any
            typical one has a value.
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
    rules = Rules(
        design=min(2 * d, 64) if initial is None else initial,
        patience=max(4, d) if patience is None else patience,
        successes=successes,
        typical=guard is not None,
    )
    settings = Settings(
        rules=rules,
        start=design,
        guard=make_guard(space, guard, guard_weight),
        acquisition=acquisition,
        local=local,
        candidates=candidates,
    )
    return lambda history, n, seed: propose(history, n, seed, settings)


def propose(history: History, n: int, seed: int, settings: Settings) -> Float[Tensor, "n latent"]:
    """The next points: of the region's design, by feasibility alone where twice as many found no value, or by the
    acquisition inside it.

    Args:
        history: all that is known.
        n: how many.
        seed: of everything random in it.
        settings: options.
    Returns:
        ``(n, d)`` codes inside the bounds.
    """
    space, region = history.space, follow(history, settings.rules)
    if region.center is None and len(region.rows) >= 2 * settings.rules.design:
        from lso import gp  # loads BoTorch

        with isolated(mix(seed, "botorch")):
            z = gp.likely_feasible(history, n, seed, gp.Settings(guard=settings.guard))
    elif region.designing:
        z = design(history, n, settings.start, generator(seed, "design"))
    else:
        with isolated(mix(seed, "botorch")):
            box = Box(history, region, settings)
            choose = thompson if settings.acquisition == "thompson" else improving
            z = choose(box, n, seed)
    return space.clip(settings.guard.inside(on_chart(space, z)))


class Box:
    """The region with its local models.

    Args:
        history: all that is known.
        region: the current one; it has a center.
        settings: options.
    """

    def __init__(self, history: History, region: Region, settings: Settings) -> None:
        from lso.acquire import Terms  # loads BoTorch

        assert region.center is not None
        self.history, self.settings, self.length = history, settings, region.length
        self.space = history.space
        self.center = self.space.to_unit(history.z[region.center])
        rows = torch.tensor(region.rows)
        away = (self.space.to_unit(history.z[rows]) - self.center).square().sum(-1)
        rows = rows[away.argsort(stable=True)]
        valued = rows[history.feasible[rows]][: settings.local]
        near = rows[: settings.local]
        self.terms = Terms(
            surrogate=fit(self.view(history.z[valued]), history.gain[valued], iterations=ITERATIONS),
            feasibility=fit_feasibility(self.view(history.z[near]), history.feasible[near], ITERATIONS),
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
        """Inputs of the local models: the base box of the region is the unit cube.

        Args:
            z: ``(..., d)`` codes.
        Returns:
            ``(..., k)``.
        """
        return (self.space.to_unit(z) - self.center) / self.length + 0.5

    def candidates(self, n: int, generator: Generator) -> Float[Tensor, "n k"]:
        """Points of the box that differ from its center in a random subset of the coordinates.

        Args:
            n: how many.
            generator: of the draws.
        Returns:
            ``(n, k)`` chart coordinates.
        """
        k = len(self.middle)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        engine = torch.quasirandom.SobolEngine(k, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        u = self.bounds[0] + (self.bounds[1] - self.bounds[0]) * engine.draw(n, dtype=torch.float64)
        moved = torch.rand(n, k, generator=generator) < min(1.0, PERTURBED / k)
        forced = torch.randint(k, (n,), generator=generator)  # any of them, the last one too
        moved[torch.arange(n), forced] |= ~moved.any(1)
        return torch.where(moved, u, self.middle)


def thompson(box: Box, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """For each point a joint sample over the candidates: its largest value, guard and feasibility added, is taken.

    Args:
        box: with its models.
        n: how many.
        seed: of the candidates; the samples are BoTorch's, from the state that `isolated` set.
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


def improving(box: Box, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """The maxima of the noisy log expected improvement in the box, each pending for the next.

    Args:
        box: with its models.
        n: how many.
        seed: of the starts.
    Returns:
        ``(n, d)`` codes.
    """
    from lso.acquire import improvement, maximize

    picks, pending = [], box.view(box.history.pending)
    for i in range(n):
        random = generator(seed, "starts", i)
        raw = torch.cat([box.candidates(192, random), perturbed(box.middle.unsqueeze(0), 64, random)])
        raw = torch.minimum(torch.maximum(raw, box.bounds[0]), box.bounds[1]).unsqueeze(1)
        picks.append(box.terms.codes(maximize(improvement(box.terms, pending), raw, box.bounds, 4)))
        pending = torch.cat([pending, box.view(picks[-1])])
    return torch.cat(picks)
