"""Which targets a search reproduced, by stated rules; and which it would reproduce if they were inverted (1 - x)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lso.analysis.latent_dimensions import decode_on_cpu
from lso.analysis.reconstruction import metric_for
from lso.decoders.decoder import Decoder, is_image
from lso.objectives.latent_objective import LatentObjective
from lso.vae.distributions.pixels import Bernoulli, DiscretizedLogistic, Gaussian
from lso.vae.utils.random import generator

# A target is reproduced if a result has this share of what distinguishes it from the mean of decoded prior draws, of a
# picture also of what distinguishes it from its own mean colour, and if its -log p(x|z) is at most the mean over data
# that the decoder draws itself plus so many standard deviations. Both are from `benchmarks/fit_rule.py` (docs/log.md).
MIN_SHARE = 0.15
BOUND_DEVIATIONS = 3.0
CONTRAST = 0.05  # root mean square from the mean colour that is hardly seen; added, so that flat pictures are no 0 / 0
DECODE_BATCH = 64  # codes decoded at once, to bound memory
AUTOREGRESSIVE_DRAWS = 64  # a draw pixel by pixel costs much more than one in a single pass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reproduction:
    """How well each of T targets is reproduced by its best result.

    Args:
        share: share of the target that is reproduced (see `lso.analysis.reconstruction`).
        shape: of pictures, the share of what distinguishes the target from its own mean colour: where targets are much
            brighter or darker than what is decoded, the brightness alone makes a large ``share``; None of other data.
        nats: -log p(target | code); None where the decoder gives no such likelihood, and of sequences.
        bound: the nats that a reproduced target costs at most; None as above.
        inverted: targets that are not reproduced, while 1 - target is by the mere code that the encoder gives it; None
            where that does not apply: no encoder, or no pixels in [0, 1].
    """

    share: Float[Tensor, " target"]
    shape: Float[Tensor, " target"] | None = None
    nats: Float[Tensor, " target"] | None = None
    bound: float | None = None
    inverted: Bool[Tensor, " target"] | None = None

    @property
    def missed(self) -> Bool[Tensor, " target"]:
        """``(T,)`` targets that are not reproduced; those whose numbers are not finite are among them."""
        enough = self.share >= MIN_SHARE
        enough = enough if self.shape is None else enough & (self.shape >= MIN_SHARE)
        return ~(enough if self.nats is None or self.bound is None else enough & (self.nats <= self.bound))

    def named(self, names: Sequence[str]) -> list[str]:
        """Names of the targets that are not reproduced."""
        return [name for name, missed in zip(names, self.missed.tolist(), strict=True) if missed]


def measure_reproduction(
    objective: LatentObjective,
    z: Float[Tensor, "target latent"],
    decoded: Tensor,
    prior: Float[Tensor, "draw latent"],
    prior_decoded: Tensor,
) -> Reproduction | None:
    """Measure how well results reproduce an objective's targets.

    Args:
        objective: a reconstruction, or any other.
        z: ``(T, d)`` the best code of each target.
        decoded: ``(T, *event)`` what they decode to.
        prior: ``(n, d)`` draws from the prior.
        prior_decoded: ``(n, *event)`` what they decode to.
    Returns:
        None where there are no targets, or they cannot be compared with what is decoded.
    """
    decoder, targets = objective.decoder, objective.targets
    explained = metric_for(decoder).explained
    share = explained(targets, decoded, prior_decoded)
    if share is None or targets is None:
        return None
    bound = nats_bound(decoder, prior) if objective.context in ("none", "target") else None
    cost = None if bound is None else _nats(decoder, z, targets, objective.context)
    pixels = is_image(tuple(targets.shape[1:])) and _in_unit_range(targets)
    shape = _shape_share(targets, decoded) if pixels else None
    found = Reproduction(share=share.cpu(), shape=shape, nats=cost, bound=bound)
    rows = found.missed.nonzero().flatten()
    if not decoder.has_encoder or not pixels:
        return found
    inverted = torch.zeros_like(found.missed)
    if len(rows):
        other = LatentObjective.reconstruct(
            decoder, 1 - targets[rows.to(targets.device)], context=_context_of(objective)
        )
        assert other.targets is not None
        with torch.no_grad():
            codes = decoder.code_means(other.targets)
        assert codes is not None
        x = decode_on_cpu(other, codes[:, None])[:, 0]
        again, shape = explained(other.targets, x, prior_decoded), _shape_share(other.targets, x)
        assert again is not None
        cost = None if bound is None else _nats(decoder, codes, other.targets, objective.context)
        inverted[rows] = ~Reproduction(share=again.cpu(), shape=shape, nats=cost, bound=bound).missed
    return dataclasses.replace(found, inverted=inverted)


def nats_bound(
    decoder: Decoder, prior: Float[Tensor, "draw latent"], deviations: float = BOUND_DEVIATIONS
) -> float | None:
    """Largest -log p(x|z), in nats, at which a datum could have been drawn by the decoder from its code.

        mean + 3 standard deviations of -log p(x|z),  z ~ p(z), x ~ p(x|z)

    ``prior`` is ``(n, d)`` draws from the prior. None where the decoder gives no likelihood of images.
    """
    if decoder.vocabulary is not None or decoder.makes_objects:
        return None
    with torch.no_grad():
        if not isinstance(decoder.output(prior[:1]), Bernoulli | Gaussian | DiscretizedLogistic):
            return None
        z = prior[:AUTOREGRESSIVE_DRAWS] if decoder.autoregressive else prior
        noise = torch.rand(len(z), *decoder.event_shape, generator=generator(0, "report/own"))
        if decoder.autoregressive:
            x = decoder.model.generate(z.to(decoder.device, decoder.dtype), "sample", noise)
        else:
            parts = zip(torch.split(z, DECODE_BATCH), torch.split(noise, DECODE_BATCH), strict=True)
            x = torch.cat([_sample_data(decoder, *part) for part in parts])
    cost = _nats(decoder, z, x, "target")
    return float(cost.mean() + deviations * cost.std())


def _sample_data(decoder: Decoder, z: Tensor, noise: Tensor) -> Tensor:
    found: Tensor = decoder.output(z).sample(noise.to(decoder.device, decoder.dtype))
    return found


def _nats(decoder: Decoder, z: Tensor, x: Tensor, context: str) -> Float[Tensor, " target"]:
    """-log p(x|z) of each datum under its own code."""
    asked = "target" if context == "none" else context
    with torch.no_grad():
        found: Tensor = LatentObjective.reconstruct(decoder, x, "nll", context=asked)(z[:, None])[:, 0]
    return found.double().cpu()


def _context_of(objective: LatentObjective) -> str:
    return "target" if objective.context == "none" else objective.context


def _shape_share(targets: Tensor, decoded: Tensor) -> Float[Tensor, " target"]:
    """Share of what distinguishes each target from its own mean colour that is reproduced.

    1 - |x - target|^2 / (|m - target|^2 + n c^2),  m the mean colour of the target, n its values, c `CONTRAST`
    """
    wanted, got = targets.detach().double().cpu(), decoded.detach().double().cpu()
    flat = wanted.mean((-2, -1), keepdim=True)
    missed, asked = ((x - wanted).square().flatten(1).mean(1) for x in (got, flat))
    return 1 - missed / (asked + CONTRAST**2)


def _in_unit_range(x: Tensor) -> bool:
    return x.is_floating_point() and bool(((x >= 0) & (x <= 1)).all())
