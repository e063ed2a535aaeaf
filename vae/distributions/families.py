"""Posteriors and priors of the rows that declare them, and what is done with the rows of any posterior."""

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
    """The posterior that an encoder's last layer stands for.

    Args:
        family: a row of the axis.
        raw: ``(batch, parameters)`` outputs, as many as the row says, in single precision at least.
    Returns:
        q(z|x).
    """
    raise TypeError(f"no posterior for {type(family).__name__}")


@make_posterior.register
def _(family: DiagonalPosterior, raw: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(*raw.chunk(2, -1))


@singledispatch
def make_prior(family: Component, latent_dim: int) -> Prior:
    """The prior of a row.

    Args:
        family: a row of the axis.
        latent_dim: size of z.
    Returns:
        p(z): a value, or a module where it has weights or buffers.
    """
    raise TypeError(f"no prior for {type(family).__name__}")


@make_prior.register
def _(family: StandardPrior, latent_dim: int) -> StandardNormal:
    return StandardNormal()


def from_output(family: PosteriorFamily, raw: Float[Tensor, "batch parameter"]) -> Posterior:
    """`make_posterior` of outputs in any precision.

    Args:
        family: a row of the axis.
        raw: ``(batch, parameters)``.
    Returns:
        q(z|x), in single precision at least.
    """
    return make_posterior(family, to_float32(raw))


def map_tensors(q: SomePosterior, function: Callable[[Tensor], Tensor]) -> SomePosterior:
    """A posterior whose tensors are those of another one, each changed: rows taken, moved, in double.

    Args:
        q: a posterior.
        function: of ``(batch, ...)``.
    Returns:
        One of the same family.
    """
    return type(q)(*(function(value) for value in _tensors(q)))


def take_rows(q: SomePosterior, rows: Tensor | slice) -> SomePosterior:
    """Some of a batch of posteriors.

    Args:
        q: a posterior.
        rows: numbers, truth values or a slice.
    Returns:
        One of the same family.
    """
    return map_tensors(q, lambda value: value[rows])


def concatenate_posteriors(parts: Sequence[SomePosterior]) -> SomePosterior:
    """Concatenate posteriors along the batch.

    Args:
        parts: at least one posterior, of one family and one latent size.
    Returns:
        One posterior over all rows, in order.
    """
    return type(parts[0])(*map(torch.cat, zip(*map(_tensors, parts), strict=True)))


def _tensors(q: Posterior) -> list[Tensor]:
    return [cast(Tensor, getattr(q, field.name)) for field in fields(cast(Any, q))]
