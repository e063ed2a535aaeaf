"""Thompson sampling over a pool: each point asked for maximizes one sample of the posterior, so batches are cheap.

Pending points need no treatment: a sample chooses a point with the probability that it is the best, so that different
samples choose different points.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lso.black_box.algorithms.gp import Features, GpSettings, encode_inputs, fit_terms, pick_distinct_best, propose_gp
from lso.black_box.ask_tell import History, Proposal
from lso.black_box.bayesopt.candidates import draw_starts
from lso.black_box.bayesopt.guard import DEFAULT_GUARD_WEIGHT, make_guard
from lso.optimizers import DEFAULT_DESIGN_SIZE
from lso.space import LatentSpace
from lso.vae.utils.random import generator


def build_thompson(
    space: LatentSpace,
    *,
    guard: str | None = "typical",
    guard_weight: float = DEFAULT_GUARD_WEIGHT,
    initial: int = DEFAULT_DESIGN_SIZE,
    design: str = "prior",
    pool: int = 2000,
    features: Features | None = None,
) -> Proposal:
    """Thompson sampling.

    Args:
        space: the space to search.
        guard: see `lso.black_box.bayesopt.guard`. The soft guard's log density in nats is added to a sample of the gain
            in standard deviations.
        guard_weight: weight of the soft guard, divided by the square root of the evaluations so far.
        initial: see `lso.black_box.algorithms.gp.GpSettings`.
        design: see `lso.black_box.algorithms.gp.GpSettings`.
        pool: points to choose from, drawn anew for each ask: half from the prior (and known codes), half around the
            best points.
        features: see `lso.black_box.algorithms.gp.GpSettings`; they need no gradients.
    """
    settings = GpSettings(
        guard=make_guard(space, guard, guard_weight),
        initial=initial,
        design=design,
        raw_samples=pool,
        features=features,
        differentiable=False,
    )
    return lambda history, n, seed: propose_gp(history, n, seed, settings, _propose_by_sampling)


def _propose_by_sampling(history: History, n: int, seed: int, settings: GpSettings) -> Float[Tensor, "n latent"]:
    terms, box = fit_terms(history, settings), settings.guard.kind is None
    pool = terms.codes(draw_starts(history, max(settings.raw_samples, n), generator(seed, "pool"), box=box))
    x = encode_inputs(pool, terms)
    with torch.no_grad():
        samples = terms.surrogate.model.posterior(x).rsample(torch.Size([n])).squeeze(-1)
        return pool[pick_distinct_best(samples + terms.added(pool, x))]
