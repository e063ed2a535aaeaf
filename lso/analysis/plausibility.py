"""Plausibility of the codes that a search found: do they lie where the decoder was trained, and does the encoder agree?

A good value at an atypical code is often an artefact of the decoder. There are three measures, each over all dimensions
and over the active ones (dead dimensions drift under Adam and stay at 0 from a zero start; neither says anything about
what is decoded): the norm against that of prior draws, the distance from the codes of the data, and the difference
between a code and the encoder's mean for what it decodes to (re-encoding error).
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso import space
from lso.analysis.latent_dimensions import Dimensions
from lso.decoders.decoder import Decoder
from lso.space import MAX_TYPICAL_PERCENTILE, LatentSpace
from lso.vae.checkpoint import Codes
from lso.vae.utils.random import generator

CODES_PER_DIMENSION = 10  # with fewer, the covariance of the codes is too rough to judge by


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plausibility:
    """Plausibility of codes; ``(T, S)`` for the ends of a search, ``(n,)`` for prior draws.

    Args:
        norm: of the codes.
        norm_active: over active dimensions.
        percentile: of the norm under chi(d), in [0, 1].
        percentile_active: over active dimensions, under chi(number of active dimensions).
        mahalanobis: distance from the codes of the data (see `distance_from_codes`); None without codes.
        mahalanobis_active: the same over active dimensions.
        reencoding: mean over dimensions of the squared difference between a code and the mean of its re-encoding; None
            without an encoder.
        reencoding_active: the same over active dimensions.
        at_bound: share of coordinates at or beyond a bound of the box.
        atypical: over active dimensions, percentile > 99.9 %, or farther from the codes of the data than each of those
            (one posterior sample a datum), where there are at least ten codes per active dimension.
    """

    norm: Tensor
    norm_active: Tensor
    percentile: Tensor
    percentile_active: Tensor
    mahalanobis: Tensor | None
    mahalanobis_active: Tensor | None
    reencoding: Tensor | None
    reencoding_active: Tensor | None
    at_bound: Tensor
    atypical: Bool[Tensor, "*batch"]

    def __getitem__(self, index: Any) -> "Plausibility":
        every = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        taken: dict[str, Any] = {name: None if x is None else x[index] for name, x in every}
        return Plausibility(**taken)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Prior draws under the same decoder, with which the tables compare a search's codes.

    Args:
        z: ``(n, d)`` draws.
        scale: distance of two decoded draws (see `lso.analysis.reconstruction`).
        plausibility: of the draws.
    """

    z: Float[Tensor, "draw latent"]
    scale: float
    plausibility: Plausibility


def measure_plausibility(
    decoder: Decoder,
    z: Float[Tensor, "*batch latent"],
    decoded: Tensor,
    *,
    dimensions: Dimensions,
    space: LatentSpace,
    codes: Codes | None = None,
) -> Plausibility:
    """Measure the plausibility of codes and of what they decode to."""
    z, active, leading = z.detach().double().cpu(), dimensions.active, len(z.shape) - 1
    again = (
        None
        if decoder.makes_objects and decoder.vocabulary is None
        else reencode(decoder, decoded.flatten(0, leading - 1))
    )
    squared = None if again is None else (again.reshape(z.shape) - z) ** 2
    far, far_active, farthest = _distances(z, codes, active)
    percentile_active = norm_percentile_or_zero(z[..., active])
    atypical = percentile_active > MAX_TYPICAL_PERCENTILE
    return Plausibility(
        norm=z.norm(dim=-1),
        norm_active=z[..., active].norm(dim=-1),
        percentile=norm_percentile_or_zero(z),
        percentile_active=percentile_active,
        mahalanobis=far,
        mahalanobis_active=far_active,
        reencoding=None if squared is None else squared.mean(-1),
        reencoding_active=None if squared is None else squared[..., active].sum(-1) / max(1, int(active.sum())),
        at_bound=space.at_bound(z).double().mean(-1),
        atypical=atypical if far_active is None else atypical | (far_active > farthest),
    )


def norm_percentile_or_zero(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """`lso.space.norm_percentile` of ``(..., d)`` codes, and 0 where d is 0."""
    return space.norm_percentile(z) if z.shape[-1] else torch.zeros(z.shape[:-1], dtype=z.dtype)


def _distances(
    z: Float[Tensor, "*batch latent"], codes: Codes | None, active: Tensor
) -> tuple[Tensor | None, Tensor | None, float]:
    """Distances from the codes of the data over all and active dimensions; the largest active one of the codes."""
    if codes is None or len(codes.mean) < 2:
        return None, None, 0.0
    mean, deviation = codes.mean.double().cpu(), torch.exp(0.5 * codes.log_var.double().cpu())
    every = distance_from_codes(z, mean, deviation)
    if not bool(active.any()):
        return every, torch.zeros_like(every), 0.0
    known = mean[:, active], deviation[:, active]
    noise = torch.randn(known[0].shape, generator=generator(0, "report/codes"), dtype=torch.float64)
    farthest = float(distance_from_codes(known[0] + known[1] * noise, *known).max())
    if len(codes.mean) < CODES_PER_DIMENSION * int(active.sum()):
        farthest = math.inf  # too few codes to say how far they reach; the distance is still reported
    return every, distance_from_codes(z[..., active], *known), farthest


def distance_from_codes(
    z: Float[Tensor, "*batch latent"], mean: Float[Tensor, "code latent"], deviation: Float[Tensor, "code latent"]
) -> Float[Tensor, "*batch"]:
    """Mahalanobis distance from the aggregated posterior of the data (see `lso.space.whitening_matrix`)."""
    return space.mahalanobis(z, mean.mean(0), space.whitening_matrix(mean, deviation.square()))


def reencode(decoder: Decoder, decoded: Tensor, batch: int = 512) -> Float[Tensor, "n latent"] | None:
    """Posterior means ``(n, latent)`` of decoded data, double precision on the CPU; None without an encoder."""
    if not decoder.has_encoder:
        return None
    rows = []
    with torch.no_grad():
        for part in torch.split(decoded, batch):
            means = decoder.code_means(part)
            assert means is not None
            rows.append(means.double().cpu())
    return torch.cat(rows)


def decoded_scale(decoded: Float[Tensor, "draw value"]) -> float:
    """Root mean square difference between two independent rows, per value: sqrt(2 x mean variance).

    0 where all rows are equal or there is one.
    """
    good = decoded[torch.isfinite(decoded).all(-1)].double()
    return (
        float((2 * (good - good[0]).var(0).mean()).sqrt()) if len(good) > 1 else 0.0
    )  # less the first row, so that equal rows give exactly 0


def share_true(mask: Tensor) -> float:
    """Share of true entries of a mask; 0 where it is empty."""
    return float(mask.double().mean()) if mask.numel() else 0.0
