"""Inversion of a decoder: finding codes that decode to given data, by gradient from many starts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.gradient import initial_points as starting
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.scores import not_differentiable_error
from lso.results.result import Result
from lso.space import LatentSpace
from lso.vae.data.corpus import Corpus
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require


@dataclass(frozen=True, eq=False, kw_only=True)
class Inversion:
    """The best code of each target.

    Args:
        z: ``(T, d)`` codes, on the CPU in double.
        error: ``(T,)`` losses of their decodes against the targets, the prior's term included.
        encoder_error: ``(T,)`` losses at the encoder's means; NaN without an encoder.
        result: the whole search, all starts.
    """

    z: Float[Tensor, "target latent"]
    error: Float[Tensor, " target"]
    encoder_error: Float[Tensor, " target"]
    result: Result

    @property
    def gain(self) -> Float[Tensor, " target"]:
        """``(T,)`` the encoder mean's error minus the error: never negative; NaN without an encoder."""
        return self.encoder_error - self.error


def invert(
    decoder: Decoder,
    x: Shaped[Tensor, "target ..."] | Corpus,
    *,
    starts: int = 8,
    space: LatentSpace | None = None,
    loss: str | None = None,
    prior_weight: float = 0.0,
    optimizer: str = "lbfgs",
    lr: float | int | None = None,
    tol: float | int = 0,
    max_steps: int = 300,
    bounds: Tensor | str | None = "space",
    seed: int = 0,
) -> Inversion:
    """Find codes that decode to given data, by gradient from the encoder's mean and prior draws; the best is kept.

    A search that learns from pairs (code, value) needs the code that really decodes to the known datum, and an
    encoder's mean often decodes to something near it only. Where no code decodes to x exactly, ``error`` is what
    remains. Sequences are teacher-forced on x, as in training: the error is -log p(x|z), whose minimum need not decode
    to x greedily.

    Args:
        decoder: a differentiable one.
        x: ``(T, *event)`` data, or a corpus.
        starts: starts for each target, >= 1. The first is the encoder's mean where there is an encoder, the others are
            prior draws.
        space: prior and bounds; None is ``LatentSpace(decoder.latent_dim)``.
        loss: see `LatentObjective.reconstruct`; None is the squared error, for sequences -log p(x|z).
        prior_weight: see `LatentObjective.reconstruct`; 0 lets codes go as far out as error and bounds allow.
        optimizer: see `minimize`.
        lr: see `minimize`.
        tol: see `minimize`; 0 continues until the loss does not change any more.
        max_steps: see `minimize`.
        bounds: ``(2, d)`` box that codes are kept in; ``"space"`` is the space's, so that a search in that space can
            use the codes. None is no box: coordinates may reach the thousands where the decoder saturates.
        seed: of the prior draws.
    Returns:
        The codes and their errors.
    Raises:
        UsageError: if the decoder is declared not differentiable, or a number is out of range.
        ShapeError: if the data do not have the shape of what the decoder makes.
    Source: the inversion step of Chu, Park, Lee and Kim (2024), Inversion-based Latent Bayesian Optimization,
        arXiv:2411.05330. Deviations: many starts and L-BFGS, and no oracle for equality of decodes: the loss decides.
    """
    require(starts >= 1, "starts >= 1", starts, "8 is the default.")
    if not decoder.differentiable:
        raise not_differentiable_error("invert", "its decoder is declared not differentiable", optimizer)
    space = space or LatentSpace(decoder.latent_dim)
    objective = LatentObjective.reconstruct(decoder, x, loss, space=space, prior_weight=prior_weight)
    encoded = decoder.has_encoder  # a bool, counted as 0 or 1 below
    kinds = ["mean"] * encoded + ["prior"] * (starts - encoded)
    z0 = starting.make_starts(kinds, space, decoder, objective.targets, starts, generator(seed, "invert"))
    names = starting.name_starts(kinds, starts)
    result = minimize(
        objective,
        z0,
        optimizer,
        lr=lr,
        tol=tol,
        max_steps=max_steps,
        bounds=space.bounds if isinstance(bounds, str) else bounds,
        start_names=names,
        trace_every=max_steps,
    )
    return _best(result, z0, objective, encoded)


def _best(result: Result, z0: Tensor, objective: LatentObjective, encoded: bool) -> Inversion:
    z, error = result.best_z, result.best_value
    encoder_error = torch.full_like(error, torch.nan)
    if encoded:
        encoder_error = result.value0[:, 0]
        worse = ~(error <= encoder_error)  # an optimizer may end above its start
        z, error = torch.where(worse[:, None], z0[:, 0], z), torch.where(worse, encoder_error, error)
    return Inversion(z=z, error=error, encoder_error=encoder_error, result=result)
