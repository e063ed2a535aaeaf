"""Reconstruction losses between decoded data and targets, one value for each datum."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lso.decoders.adapters import extract_logits
from lso.objectives.function_names import display_name
from lso.vae.distributions.pixels import Bernoulli, DiscretizedLogistic, Gaussian
from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.random import generator
from lso.vae.vocabulary import PAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from lso.decoders.decoder import Decoder


def squared_error(x: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Squared error (x - target)^2, summed over each datum."""
    return ((x - target) ** 2).reshape(len(x), -1).sum(1)


def cross_entropy_of_logits(x: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Binary cross-entropy in nats from logits, summed over each datum."""
    return F.binary_cross_entropy_with_logits(x, target, reduction="none").reshape(len(x), -1).sum(1)


def cross_entropy(x: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Binary cross-entropy in nats from probabilities, summed over each datum; torch clamps logarithms at -100."""
    return F.binary_cross_entropy(x, target, reduction="none").reshape(len(x), -1).sum(1)


def negative_log_likelihood(likelihood: object) -> "Callable[[Tensor, Tensor], Tensor]":
    """The loss -log p(x|z) in nats under a decoder's likelihood: decoded batch and targets ``(n, *event)`` to ``(n,)``.

    The decoded batch holds logits for binary pixels, else means. Family and scale, which is the same for all codes, are
    those of ``likelihood``, an output of the decoder.
    """
    if isinstance(likelihood, Bernoulli):
        return cross_entropy_of_logits
    if not isinstance(likelihood, Gaussian | DiscretizedLogistic):
        raise UsageError(
            f"nll needs a decoder that gives a likelihood, got {type(likelihood).__name__}", 'Use loss="sse" or "bce".'
        )
    family, log_scale = type(likelihood), likelihood.log_scale.detach()

    def nll(x: Tensor, target: Tensor) -> Tensor:
        return -family(x, log_scale.to(x)).log_prob(target)

    return nll


def sequence_nll(logits: Float[Tensor, "n position word"], target: Int[Tensor, "n length"]) -> Float[Tensor, " n"]:
    """-log p of token sequences in nats, summed in double precision, from the logits of the tokens after the first.

    A row of ``target`` is start, tokens, end, padding; the end symbol counts, start and padding do not.
    """
    flat = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD, reduction="none")
    return flat.reshape(len(target), -1).double().sum(1)


LOSSES = {
    "nll": "negative log-likelihood under the decoder's own likelihood, in nats",
    "sse": "squared error, summed over a datum",
    "bce": "binary cross-entropy in nats, summed over a datum",
}


def default_loss(decoder: "Decoder") -> str:
    """The default loss of a reconstruction: squared error, which serves any decoder of numbers; for sequences nll."""
    return "sse" if decoder.vocabulary is None else "nll"


def resolve_loss(
    loss: "str | Callable[[Tensor, Tensor], Tensor]", decoder: "Decoder"
) -> "Callable[[Tensor, Tensor], Tensor]":
    """The loss function ``(decoded or logits, targets) -> (n,)`` for a name of `LOSSES`, or the user's own function."""
    if isinstance(loss, str):
        return find_loss(loss, decoder)
    if decoder.vocabulary is not None:
        raise _not_for_sequences(display_name(loss))
    return loss


def _not_for_sequences(name: str) -> UsageError:
    return UsageError(
        f"the loss {name} compares numbers, and this decoder makes sequences",
        "Use the loss nll, -log p of the target given the code. "
        'To score decoded strings, make a LatentObjective with on="objects" in Python.',
    )


def find_loss(name: str, decoder: "Decoder") -> "Callable[[Tensor, Tensor], Tensor]":
    """The loss function of a name of `LOSSES` in the form that fits the decoder's output.

    A few codes are decoded to see whether the decoder gives logits, probabilities or a likelihood.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    if decoder.vocabulary is not None:
        if name != "nll":
            raise _not_for_sequences(name)
        return sequence_nll
    if name == "sse":
        return squared_error
    with torch.no_grad():
        z = torch.randn(8, decoder.latent_dim, generator=generator(0, "losses"))
        if name == "nll":
            return negative_log_likelihood(decoder.output(z))
        logits, x = decoder.decode(z, extract_logits), decoder.decode(z)
    if logits is not x and isinstance(logits, Tensor) and isinstance(x, Tensor) and not torch.equal(logits, x):
        return cross_entropy_of_logits
    if not isinstance(x, Tensor) or bool((x < 0).any()) or bool((x > 1).any()):
        raise UsageError("bce needs a decoder that gives values in [0, 1] or an object with .logits", 'Use loss="sse".')
    return cross_entropy
