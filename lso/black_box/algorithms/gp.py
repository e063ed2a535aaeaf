"""Bayesian optimization: a Gaussian process of the gain on the chart's unit cube, the acquisition qLogNEI, and a guard.

``saas`` is the same with BoTorch's MAP ensemble of SAAS processes (Eriksson & Jankowiak 2021, arXiv:2103.00349), whose
prior is that few dimensions matter, as in a latent space of which most dimensions have collapsed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.black_box.ask_tell import History, Proposal
from lso.black_box.bayesopt.acquisition import AcquisitionTerms, evaluate_acquisition, make_acquisition, maximize
from lso.black_box.bayesopt.candidates import DESIGNS, draw_design, draw_starts, restrict_to_chart, unit_bounds
from lso.black_box.bayesopt.guard import DEFAULT_GUARD_WEIGHT, Guard, make_guard
from lso.black_box.bayesopt.surrogates import SURROGATES, choose_fit_points, fit, fit_feasibility, isolated_botorch
from lso.optimizers import DEFAULT_DESIGN_SIZE
from lso.space import LatentSpace
from lso.vae.errors import unknown_name
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import require

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class GpSettings:
    """Options of a search by a surrogate model.

    Args:
        guard: keeps proposals typical of the prior.
        initial: points (feasible and pending ones) of the initial design, before a model is fitted.
        design: how they are drawn: ``prior`` (with known codes, half of them are codes) or ``sobol``.
        restarts: starts of the search for the acquisition's maximum.
        raw_samples: points from which these starts are chosen.
        joint: optimize the points of an ask together; else one after the other, each pending for the next.
        surrogate: see `lso.black_box.bayesopt.surrogates.SURROGATES`.
        features: function of codes ``(n, d)`` to features ``(n, f)`` of what they decode to, the model's inputs then.
        differentiable: whether the features have gradients; else the acquisition is maximized over a pool of points.
    """

    guard: Guard
    initial: int = DEFAULT_DESIGN_SIZE
    design: str = "prior"
    restarts: int = 8
    raw_samples: int = 512
    joint: bool = False
    surrogate: str = "gp"
    features: Features | None = None
    differentiable: bool = True

    def __post_init__(self) -> None:
        require(self.initial >= 1, "initial >= 1 points", self.initial, "A model needs at least one point.")
        require(self.restarts >= 1, "restarts >= 1", self.restarts, "8 is the default.")
        require(
            self.raw_samples >= 8,
            "raw_samples (of thompson: pool) >= 8",
            self.raw_samples,
            "The defaults are 512 and, of thompson, 2000.",
        )
        if self.design not in DESIGNS:
            raise unknown_name("design", self.design, DESIGNS)
        if self.surrogate not in SURROGATES:
            raise unknown_name("surrogate", self.surrogate, SURROGATES)


def build_gp(
    space: LatentSpace,
    *,
    guard: str | None = "typical",
    guard_weight: float = DEFAULT_GUARD_WEIGHT,
    initial: int = DEFAULT_DESIGN_SIZE,
    design: str = "prior",
    restarts: int = 8,
    raw_samples: int = 512,
    joint: bool = False,
    features: Features | None = None,
    differentiable: bool = True,
    surrogate: str = "gp",
) -> Proposal:
    """Bayesian optimization; for the options see `GpSettings`.

    ``guard`` is ``typical``, ``ball`` or None (`lso.black_box.bayesopt.guard`), ``guard_weight`` the weight of the soft
    guard, which is divided by the square root of the evaluations so far.
    """
    settings = GpSettings(
        guard=make_guard(space, guard, guard_weight),
        initial=initial,
        design=design,
        restarts=restarts,
        raw_samples=raw_samples,
        joint=joint,
        surrogate=surrogate,
        features=features,
        differentiable=differentiable,
    )
    return lambda history, n, seed: propose_gp(history, n, seed, settings, _propose_by_acquisition)


def propose_gp(
    history: History,
    n: int,
    seed: int,
    settings: GpSettings,
    by_model: Callable[[History, int, int, GpSettings], Tensor],
) -> Float[Tensor, "n latent"]:
    """The next points: of the design; by feasibility alone while no point has a value; else by a model of the gain."""
    space, guard = history.space, settings.guard
    with isolated_botorch(mix_seed(seed, "botorch")):
        if in_design(history, settings.initial):
            z = draw_design(history, n, settings.design, generator(seed, "design"))
        elif not bool(history.feasible.any()):
            z = propose_feasible(history, n, seed, settings)
        else:
            z = by_model(history, n, seed, settings)
        return space.clip(guard.pull_inside(restrict_to_chart(space, z)))


def in_design(history: History, initial: int) -> bool:
    """Whether the initial design goes on: until ``initial`` points are feasible or pending, or twice as many told."""
    known = int(history.feasible.sum()) + len(history.pending)
    return len(history.z) == 0 or (known < initial and len(history.z) < 2 * initial)


def propose_feasible(history: History, n: int, seed: int, settings: GpSettings) -> Float[Tensor, "n latent"]:
    """The points for an ask while no point has a value: prior draws, each the likeliest by a sample of feasibility."""
    view, x = surrogate_view(history, settings)
    rows = choose_fit_points(x, history.gain)
    model = fit_feasibility(x[rows], history.feasible[rows])
    assert model is not None
    pool = history.space.from_unit(
        draw_starts(history, max(settings.raw_samples, n), generator(seed, "pool"), box=False)
    )
    pool = settings.guard.pull_inside(pool)
    with torch.no_grad():
        samples = model.model.posterior(view(pool)).rsample(torch.Size([n])).squeeze(-1)
    return pool[pick_distinct_best(samples + settings.guard.log_weight(pool, 1))]


def pick_distinct_best(values: Float[Tensor, "n pool"]) -> Int[Tensor, " n"]:
    """The best column of each row that no earlier row has taken."""
    values = values.clone()
    taken: list[int] = []
    for row in values:
        row[taken] = -torch.inf
        taken.append(int(row.argmax()))
    return torch.tensor(taken)


def surrogate_view(history: History, settings: GpSettings) -> tuple[Features, Float[Tensor, "m f"]]:
    """The function of codes ``(..., d)`` to the surrogate's inputs ``(..., f)``, and the inputs of the points told.

    Inputs are chart coordinates, or features scaled so that those of the points told lie in the unit cube.
    """
    if settings.features is None:
        return history.space.to_unit, history.space.to_unit(history.z)
    features, dim = settings.features, history.space.dim
    with torch.no_grad():
        observed = features(history.z).double()
    lower, width = observed.amin(0), observed.amax(0) - observed.amin(0)
    width = torch.where(width > 0, width, 1.0)  # a feature that has not varied yet is left unscaled

    def view(z: Tensor) -> Tensor:
        scaled = (features(z.reshape(-1, dim)).double() - lower) / width
        return scaled.reshape(*z.shape[:-1], len(width))

    return view, (observed - lower) / width


def fit_terms(history: History, settings: GpSettings) -> AcquisitionTerms:
    """Fit the models of gain and feasibility to the points told."""
    view, x = surrogate_view(history, settings)
    rows = choose_fit_points(x, history.gain)
    x, gain, feasible = x[rows], history.gain[rows], history.feasible[rows]
    return AcquisitionTerms(
        surrogate=fit(x[feasible], gain[feasible], settings.surrogate),
        feasibility=fit_feasibility(x, feasible),
        guard=settings.guard,
        evaluations=len(history.z),
        view=view,
        plain=settings.features is None and not settings.guard.hard,
    )


def encode_inputs(z: Float[Tensor, "b latent"], terms: AcquisitionTerms) -> Float[Tensor, "b f"]:
    """Inputs of the surrogate for codes, without gradients; for no codes nothing is decoded."""
    if not len(z):
        return terms.surrogate.inputs[:0]
    with torch.no_grad():
        return terms.view(z)


def _propose_by_acquisition(history: History, n: int, seed: int, settings: GpSettings) -> Float[Tensor, "n latent"]:
    terms = fit_terms(history, settings)
    pending = encode_inputs(history.pending, terms)
    if settings.features is not None and not settings.differentiable:
        return _propose_from_pool(history, n, seed, settings, terms, pending)
    picks, q, box = [], n if settings.joint else 1, settings.guard.kind is None
    bounds = unit_bounds(history.space)
    for i in range(1 if settings.joint else n):
        raw = draw_starts(history, settings.raw_samples * q, generator(seed, "starts", i), box=box)
        raw = raw[torch.randperm(len(raw), generator=generator(seed, "groups", i))].reshape(-1, q, raw.shape[-1])
        picks.append(maximize(make_acquisition(terms, pending), raw, bounds, settings.restarts))
        pending = torch.cat([pending, encode_inputs(terms.codes(picks[-1]), terms)])
    return terms.codes(torch.cat(picks))


def _propose_from_pool(
    history: History, n: int, seed: int, settings: GpSettings, terms: AcquisitionTerms, pending: Tensor
) -> Float[Tensor, "n latent"]:
    """The best points of a pool, one after the other; each code of the pool is decoded once."""
    box = settings.guard.kind is None
    pool = terms.codes(draw_starts(history, max(settings.raw_samples, n), generator(seed, "pool"), box=box))
    x = encode_inputs(pool, terms)
    with torch.no_grad():
        added = terms.added(pool, x)
    free = torch.ones(len(pool), dtype=torch.bool)
    for _ in range(n):
        values = evaluate_acquisition(make_acquisition(terms, pending, over_inputs=True), x.unsqueeze(1)) + added
        best = int(torch.where(free, values, -torch.inf).argmax())
        free[best] = False
        pending = torch.cat([pending, x[best : best + 1]])
    return pool[torch.arange(len(pool))[~free]]


build_saas = partial(build_gp, surrogate="saas")
