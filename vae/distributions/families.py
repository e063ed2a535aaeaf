"""Posteriors and priors made from their components, and rows of posteriors of any family."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import singledispatch
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from lso.vae.config.components import Component, DiagonalPosterior, PosteriorFamily, StandardPrior
from lso.vae.distributions.gaussian import DiagonalGaussian, StandardNormal
from lso.vae.precision import to_float32
from lso.vae.protocols import Posterior, Prior

SomePosterior = TypeVar("SomePosterior", bound=Posterior)


@singledispatch
def make_posterior(family: PosteriorFamily, raw: Float[Tensor, "batch parameter"]) -> Posterior:
    """The posterior q(z|x) from an encoder's outputs, as many as the family declares, in at least single precision."""
    raise TypeError(f"no posterior for {type(family).__name__}")


@make_posterior.register
def _(family: DiagonalPosterior, raw: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(*raw.chunk(2, -1))


@singledispatch
def make_prior(family: Component, latent_dim: int) -> Prior:
    """The prior p(z) of a component: a dataclass, or a module where it has weights or buffers."""
    raise TypeError(f"no prior for {type(family).__name__}")


@make_prior.register
def _(family: StandardPrior, latent_dim: int) -> StandardNormal:
    return StandardNormal()


def from_output(family: PosteriorFamily, raw: Float[Tensor, "batch parameter"]) -> Posterior:
    """The posterior q(z|x) from an encoder's outputs in any precision, itself in at least single precision."""
    return make_posterior(family, to_float32(raw))


def map_tensors(q: SomePosterior, function: Callable[[Tensor], Tensor]) -> SomePosterior:
    """A posterior of the same family with a function applied to each of its tensors, whose first axis is the batch."""
    return type(q)(*(function(value) for value in _tensors(q)))


def take_rows(q: SomePosterior, rows: Tensor | slice) -> SomePosterior:
    """The posteriors of some data of a batch, given by row numbers, truth values or a slice."""
    return map_tensors(q, lambda value: value[rows])


def concatenate_posteriors(parts: Sequence[SomePosterior]) -> SomePosterior:
    """Concatenate posteriors of one family, at least one, along the batch."""
    return type(parts[0])(*map(torch.cat, zip(*map(_tensors, parts), strict=True)))


def _tensors(q: Posterior) -> list[Tensor]:
    return [cast(Tensor, getattr(q, field.name)) for field in fields(cast(Any, q))]
