"""Measures what retraining does to codes: how far those of known data move, and whether they still decode to them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from lso.decoders.decoder import Decoder
from lso.tasks.search.initial_data import encode_means
from lso.vae.metrics.active_units import is_active, mean_variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Mean squared distance between the codes of data before and after a retraining."""

    total: float  # over all dimensions
    active: float  # over the dimensions active before or after
    dead: float  # over the others
    per_active: float  # `active` for one dimension; two independent draws from the prior have 2


def measure_drift(before: Float[Tensor, "n latent"], after: Float[Tensor, "n latent"]) -> Drift:
    """Measure how far codes moved, over active and other dimensions."""
    alive: Bool[Tensor, " latent"] = is_active(mean_variance(before)) | is_active(mean_variance(after))
    moved = ((after.double() - before.double()) ** 2).mean(0)
    parts = moved.sum().item(), moved[alive].sum().item(), moved[~alive].sum().item()
    return Drift(total=parts[0], active=parts[1], dead=parts[2], per_active=parts[1] / max(1, int(alive.sum())))


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeStatistics:
    """How a model stands to data.

    Args:
        active_units: dimensions whose posterior means vary by at least 0.01 over the data.
        reencoding_error: mean squared difference, over data and dimensions, of their codes and those of what these
            decode to.
        reproduced: share of the data that the decode of their code equals; pixels are compared as 0 and 1.
    """

    active_units: int
    reencoding_error: float
    reproduced: float


@torch.no_grad()
def measure_codes(decoder: Decoder, x: Shaped[Tensor, "n ..."], z: Float[Tensor, "n latent"]) -> CodeStatistics:
    """How a model stands to data.

    Args:
        decoder: of the model, with its encoder.
        x: ``(n, *event)`` data as the encoder takes them; at least one.
        z: ``(n, d)`` their codes.
    Returns:
        The account.
    """
    decoded = decoder(z) if decoder.vocabulary is None else decoder.tokens(z)
    error = ((z - encode_means(decoder, decoded)) ** 2).mean().item()
    units = int(is_active(mean_variance(z)).sum())
    return CodeStatistics(
        active_units=units, reencoding_error=error, reproduced=is_reproduced(decoded, x).double().mean().item()
    )


def is_reproduced(decoded: Shaped[Tensor, "n ..."], x: Shaped[Tensor, "n ..."]) -> Bool[Tensor, " n"]:
    """Whether decoded data ``(n, *event)`` equal the data: token numbers exactly, pixels when rounded to 0 and 1.

    Sequences may be padded to different lengths.
    """
    if not x.is_floating_point():
        longest = max(decoded.shape[1], x.shape[1])
        decoded, x = (pad(part, (0, longest - part.shape[1])) for part in (decoded, x))  # PAD is 0
        return (decoded == x).all(1)
    return (decoded.round() == x.round()).flatten(1).all(1)
