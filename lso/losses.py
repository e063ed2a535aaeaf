"""Losses between decoded data and targets: one value for each datum."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lso.adapters import pluck_logits
from lso.vae.errors import UsageError, unknown_name
from lso.vae.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from lso.decoder import Decoder


def squared_error(x: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Sum over a datum of (x - target)^2.

    Args:
        x: ``(n, *event)`` decoded.
        target: ``(n, *event)``.
    Returns:
        ``(n,)``.
    """
    return ((x - target) ** 2).reshape(len(x), -1).sum(1)


def cross_entropy_of_logits(x: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Sum over a datum of the binary cross-entropy, in nats, from logits.

    Args:
        x: ``(n, *event)`` logits.
        target: ``(n, *event)`` in [0, 1].
    Returns:
        ``(n,)``.
    """
    return F.binary_cross_entropy_with_logits(x, target, reduction="none").reshape(len(x), -1).sum(1)


def cross_entropy(x: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Sum over a datum of the binary cross-entropy, in nats, from probabilities; torch keeps logarithms above -100.

    Args:
        x: ``(n, *event)`` probabilities.
        target: ``(n, *event)`` in [0, 1].
    Returns:
        ``(n,)``.
    """
    return F.binary_cross_entropy(x, target, reduction="none").reshape(len(x), -1).sum(1)


LOSSES = {"sse": "squared error, summed over a datum", "bce": "binary cross-entropy in nats, summed over a datum"}


def named_loss(name: str, decoder: "Decoder") -> "Callable[[Tensor, Tensor], Tensor]":
    """The loss of a name, in the form that fits what the decoder gives.

    Args:
        name: ``"sse"`` or ``"bce"``.
        decoder: tried on a few codes to see whether it gives logits.
    Returns:
        ``(decoded or logits, targets) -> (n,)``.
    Raises:
        UsageError: for an unknown name, or ``"bce"`` where the output leaves [0, 1].
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    if name == "sse":
        return squared_error
    with torch.no_grad():
        z = torch.randn(8, decoder.latent_dim, generator=generator(0, "losses"))
        logits, x = decoder.decode(z, pluck_logits), decoder.decode(z)
    if logits is not x and isinstance(logits, Tensor) and isinstance(x, Tensor) and not torch.equal(logits, x):
        return cross_entropy_of_logits
    if not isinstance(x, Tensor) or bool((x < 0).any()) or bool((x > 1).any()):
        raise UsageError("bce needs a decoder that gives probabilities or an object with .logits", 'Use loss="sse".')
    return cross_entropy
