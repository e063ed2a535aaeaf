"""Which latent dimensions count: what the decoder does with each, what the encoder puts there, how far it was moved.

**The rule.** The sensitivity s_i of the decoder to dimension i is the mean squared Jacobian column norm over the
starts and the end points of a search. A dimension is *dead* when s_i = 0 exactly, *weak* when s_i < 1 % of the
largest, and *active* otherwise. 1 % in squared effect is 10 % in norm. On digit VAEs the dimensions that the encoder
leaves idle (variance of posterior means under 0.01, Burda et al. 2016) keep 4 to 7 % of the largest norm
(docs/log.md), so that a cut at 1 % in norm would call all of them active; the cut at 10 % also calls weak those that
the encoder uses a little (variance up to about 0.1).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso.decoders.adapters import extract_logits
from lso.decoders.decoder import Decoder
from lso.decoders.probing import WEAK_SHARE, Probe, jacobian_norms
from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Result
from lso.vae.checkpoint import Codes
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.metrics import active_units as activity
from lso.vae.metrics.evaluation import kl_per_dimension
from lso.vae.utils.random import generator
from lso.vae.vocabulary import PAD

WEAK_BELOW = WEAK_SHARE**2  # share of the largest squared effect below which a dimension is weak
MAX_POINTS = 64  # points at which the Jacobian is taken; each costs d decodes
TOKEN_POINTS = 24  # points for sequences, whose logits are many


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dimensions:
    """How much each latent dimension matters, by several measures; `None` where a measure cannot be computed.

    Args:
        sensitivity: mean squared Jacobian column norm of the decoder, or squared redraw distance without gradients.
        how: what ``sensitivity`` is the mean of, in words.
        moved: mean absolute distance that the search moved the dimension, in units of z.
        variance: unbiased variance over the validation split of the posterior mean.
        kl: mean KL to the prior, nats.
        decoder_use: rise of the reconstruction NLL when the dimension is redrawn from the prior, nats.
        redraw: root mean square change of the decoded data when z_i is redrawn from the prior.
        correlation: between z_i and its re-encoding over prior draws.
        measure: what the root of ``sensitivity`` is, in a word or two.
    """

    sensitivity: Float[Tensor, " latent"]
    how: str
    moved: Float[Tensor, " latent"]
    variance: Float[Tensor, " latent"] | None = None
    kl: Float[Tensor, " latent"] | None = None
    decoder_use: Float[Tensor, " latent"] | None = None
    redraw: Float[Tensor, " latent"] | None = None
    correlation: Float[Tensor, " latent"] | None = None
    measure: str = "Jacobian norm"

    @property
    def jacobian_norm(self) -> Float[Tensor, " latent"]:
        """Root of `sensitivity`."""
        return self.sensitivity.sqrt()

    @property
    def relative(self) -> Float[Tensor, " latent"]:
        """Squared effect relative to the largest, in [0, 1]; all zero where the decoder ignores its code."""
        return self.sensitivity / self.sensitivity.max().clamp_min(torch.finfo(self.sensitivity.dtype).tiny)

    @property
    def active(self) -> Bool[Tensor, " latent"]:
        """Mask of active dimensions: relative squared effect of at least `WEAK_BELOW`."""
        return self.relative >= WEAK_BELOW

    @property
    def dead(self) -> list[int]:
        """Dimensions, counted from 0, that the decoder ignores exactly."""
        return [int(i) for i in (self.sensitivity == 0).nonzero()]

    @property
    def weak(self) -> list[int]:
        """Dimensions, counted from 0, with some effect, but under `WEAK_BELOW` of the largest."""
        return [int(i) for i in ((self.sensitivity > 0) & ~self.active).nonzero()]

    @property
    def active_units(self) -> int | None:
        """Active units on the encoder's side: variance of posterior means of at least 0.01."""
        return None if self.variance is None else int(activity.is_active(self.variance).sum())

    @property
    def order(self) -> list[int]:
        """Dimensions by falling sensitivity."""
        return [int(i) for i in self.sensitivity.argsort(descending=True, stable=True)]

    def status(self, dimension: int) -> str:
        """``"active"``, ``"weak"`` or ``"dead"``."""
        return "active" if self.active[dimension] else "weak" if self.sensitivity[dimension] > 0 else "dead"


def name_dimensions(dimensions: Sequence[int]) -> str:
    """Dimensions in words: ``z3, z7``, counted from 0; ``none`` where there are none."""
    return ", ".join(f"z{i}" for i in dimensions) or "none"


def finite_rows(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "row latent"]:
    """Flatten leading axes and keep the finite codes."""
    rows = z.detach().reshape(-1, z.shape[-1])
    return rows[torch.isfinite(rows).all(-1)]


def evenly_spaced(rows: Tensor, count: int) -> Tensor:
    """At most ``count`` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def decode_on_cpu(decoder: Decoder | LatentObjective, z: Float[Tensor, "*batch latent"]) -> Tensor:
    """Decode codes ``(..., d)`` without gradients, as numbers in double precision on the CPU.

    The result is ``(..., *event)``; ``(..., 1)`` for a decoder of numbers; for one of other objects ``(..., 1)``
    numbers that are equal where the objects are; for one of sequences ``(..., longest)`` token numbers. An objective
    decodes in its own context where its decoder is autoregressive.
    """
    own = decoder if isinstance(decoder, Decoder) else decoder.decoder
    if own.vocabulary is not None:
        return own.tokens(z).double().cpu()
    with torch.no_grad():
        x = decoder.decode(z.reshape(-1, z.shape[-1]) if isinstance(decoder, Decoder) else z)
    if isinstance(x, Tensor):
        x = x.detach().double().cpu().reshape(*z.shape[:-1], *x.shape[1:])
        return x if x.ndim >= z.ndim else x.unsqueeze(-1)
    # A number for each object that does not depend on what else is in the batch; 40 bits are exact in a double.
    marks = [int.from_bytes(hashlib.blake2b(repr(item).encode(), digest_size=5).digest(), "big") for item in x]
    return torch.tensor(marks, dtype=torch.float64).reshape(*z.shape[:-1], 1)


def redraw_effect(decoder: Decoder, z: Float[Tensor, "point latent"]) -> Float[Tensor, " latent"]:
    """Mean squared change of the decoded data when a coordinate is redrawn from the prior; share changed of objects."""
    redrawn = torch.randn(z.shape, generator=generator(0, "report/redraw"), dtype=torch.float64).to(z)
    latent = z.shape[-1]
    codes = z.repeat(latent, 1, 1)  # (d, points, d): copy i has z_i redrawn
    dimension = torch.arange(latent)
    codes[dimension, :, dimension] = redrawn.T
    change = decode_on_cpu(decoder, codes) - decode_on_cpu(decoder, z)
    squared = (change != 0).double() if decoder.makes_objects else change.square()
    return squared.flatten(2).sum(-1).mean(1)


@torch.no_grad()
def token_effect(decoder: Decoder, z: Float[Tensor, "point latent"]) -> Float[Tensor, " latent"]:
    """Mean KL divergence between token distributions before and after one coordinate is redrawn from the prior.

        s_i = mean over points of sum_t KL(p(x_t | x_<t, z) || p(x_t | x_<t, z with z_i redrawn)),  x = decode(z)

    Quadratic in small changes, as a squared Jacobian is, and exactly 0 where the decoder ignores the dimension.
    """
    redrawn = torch.randn(z.shape, generator=generator(0, "report/redraw"), dtype=torch.float64).to(z)
    total = torch.zeros(z.shape[-1], dtype=torch.float64)
    for rows in torch.split(torch.arange(len(z)), decoder.batch_size or len(z)):
        codes = z[rows].to(device=decoder.device, dtype=decoder.dtype)
        tokens = decoder.tokens(codes)
        inside = (tokens[:, 1:] != PAD).unsqueeze(-1)
        before = torch.log_softmax(decoder.decode(codes, extract_logits, tokens), -1)  # type: ignore[arg-type]
        for i in range(z.shape[-1]):
            moved = codes.clone()
            moved[:, i] = redrawn[rows, i].to(codes)
            after = torch.log_softmax(decoder.decode(moved, extract_logits, tokens), -1)  # type: ignore[arg-type]
            # A token of probability 0 before the redraw counts nothing, whatever it has after it: 0 log 0 = 0.
            change = torch.where(before > -torch.inf, before.exp() * (before - after), 0.0)
            total[i] += (change * inside).double().sum().cpu()
    return total.clamp_min(0) / max(1, len(z))


def decoder_sensitivity(
    decoder: Decoder, z: Float[Tensor, "point latent"], differentiable: bool = True
) -> tuple[Float[Tensor, " latent"], str]:
    """Mean squared effect ``(latent,)`` of each dimension on what is decoded, and in words what it is the mean of.

        s_i = mean over points of ||d decode(z) / d z_i||^2;  of sequences `token_effect`

    Without gradients (``differentiable`` false) it is `redraw_effect`.
    """
    if decoder.vocabulary is not None:
        few = evenly_spaced(z, TOKEN_POINTS)
        what = "change of the token distributions (KL, nats per sequence) after a redraw from the prior"
        return token_effect(decoder, few), f"{what} at {len(few)} starts and end points"
    where = f"at {len(z)} starts and end points"
    if differentiable and not decoder.makes_objects and len(z):
        return jacobian_norms(decoder, z).square().mean(0), f"squared Jacobian column norm {where}"
    return redraw_effect(decoder, z), f"squared change of the decoded data after a redraw from the prior {where}"


def measure_dimensions(result: Result, codes: Codes | None = None, probe: Probe | None = None) -> Dimensions:
    """Measure how much each latent dimension matters, by all measures that can be computed.

    Args:
        result: of a search.
        codes: posterior codes of the training run's validation split, where there are any.
        probe: how the decoder reacts to redrawn dimensions, for decoders without such codes.
    """
    objective = result.objective
    points = evenly_spaced(finite_rows(torch.cat([result.z0.flatten(0, 1), result.z.flatten(0, 1)])), MAX_POINTS)
    sensitivity, how = decoder_sensitivity(objective.decoder, points, objective.decoder.differentiable)
    moved = finite_rows((result.z - result.z0).abs()).double().mean(0).cpu()
    known: dict[str, Tensor | None] = {}
    if codes is not None:
        known["variance"] = activity.mean_variance(codes.mean).cpu()
        known["kl"] = kl_per_dimension(DiagonalGaussian(codes.mean, codes.log_var)).cpu()
        known["decoder_use"] = None if codes.decoder_use is None else codes.decoder_use.double().cpu()
    if probe is not None:
        known |= {"redraw": probe.redraw, "correlation": probe.correlation}
    measure = "Jacobian norm" if objective.decoder.vocabulary is None else "root of KL"
    return Dimensions(sensitivity=sensitivity, how=how, moved=moved, measure=measure, **known)
