"""Inversion: codes that decode to given data, by gradient from many starts."""

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
    """What `invert` found.

    Args:
        z: ``(T, d)`` code of each target, on the CPU in double.
        error: ``(T,)`` loss of its decode against the target, prior term included.
        encoder_error: ``(T,)`` loss at the encoder's mean; NaN where there is no encoder.
        result: of the whole search, all starts.
    """

    z: Float[Tensor, "target latent"]
    error: Float[Tensor, " target"]
    encoder_error: Float[Tensor, " target"]
    result: Result

    @property
    def gain(self) -> Float[Tensor, " target"]:
        """``(T,)`` by how much the error is below the encoder mean's; never negative, NaN without an encoder."""
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
    """Codes that decode to given data: the encoder's mean and prior draws, each improved by gradient; the best stays.

    A search that learns from pairs (code, value) needs the code that really decodes to the known datum; an encoder's
    mean mostly decodes to something near it. Where the decode cannot equal x, ``error`` says what is left. Sequences
    are teacher-forced on x, as in training: the error is -log p(x|z), whose minimum need not decode to x greedily.

    Args:
        decoder: differentiable.
        x: ``(T, *event)`` data, or a corpus.
        starts: for each target, >= 1. The first is the encoder's mean where there is one, the others are prior draws.
        space: prior and size; None is the usual.
        loss: see `LatentObjective.reconstruct`; None is the squared error, of sequences the likelihood.
        prior_weight: see `LatentObjective.reconstruct`; 0 lets codes go as far out as error and bounds allow.
        optimizer: see `minimize`.
        lr: see `minimize`.
        tol: see `minimize`; 0 goes on until the loss does not change any more.
        max_steps: see `minimize`.
        bounds: ``(2, d)`` box that codes are kept in; ``"space"`` is the space's, so that a search can be told of the
            codes. None is none: coordinates in the thousands may come of it, where the decoder saturates.
        seed: of the prior draws.
    Returns:
        Codes and errors.
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
    encoded = decoder.has_encoder
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
    first = torch.full_like(error, torch.nan)
    if encoded:
        first = result.value0[:, 0]
        worse = ~(error <= first)  # an optimizer may end above its start
        z, error = torch.where(worse[:, None], z0[:, 0], z), torch.where(worse, first, error)
    return Inversion(z=z, error=error, encoder_error=first, result=result)
