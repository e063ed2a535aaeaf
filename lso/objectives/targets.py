"""Targets of a reconstruction, checked against what the decoder makes, and what its decoder is forced on."""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import to_unit
from lso.vae.errors import ShapeError, UsageError, unknown_name
from lso.vae.vocabulary import END, PAD, START, UNKNOWN

if TYPE_CHECKING:
    from lso.decoders.decoder import Decoder

CONTEXTS = ("target", "own", "blank")


def resolve_context(context: str, decoder: "Decoder") -> str:
    """What a decoder is forced on.

    Args:
        context: row of `CONTEXTS`.
        decoder: any.
    Returns:
        The same; ``"none"`` for a decoder that is not autoregressive.
    Raises:
        UsageError: for an unknown context, or ``"own"`` on sequences: an own decode of another length has no token at
            each place of the target's.
    """
    if context not in CONTEXTS:
        raise unknown_name("context", context, CONTEXTS)
    if decoder.vocabulary is not None and context == "own":
        raise UsageError(
            "context own is of images: an own decode is of another length than the target",
            "Take target, whose value is the likelihood itself, or blank, unknown tokens alone.",
        )
    return context if decoder.autoregressive else "none"


def blank_context(targets: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "_ ..."]:
    """An empty context.

    Args:
        targets: ``(n, *event)``.
    Returns:
        Of images one of zeros, ``(1, *event)``; sequences with every token unknown, of the targets' lengths.
    """
    if targets.is_floating_point():
        return torch.zeros_like(targets[:1])
    return torch.where(targets > UNKNOWN, UNKNOWN, targets)


def as_target_batch(decoder: "Decoder", targets: Shaped[Tensor, "..."] | Corpus) -> Shaped[Tensor, "target ..."]:
    """Targets as a batch that the decoder can be compared with.

    Args:
        decoder: any.
        targets: ``(T, *event)``, or one datum of the event's shape; bytes are divided by 255. Of sequences
            ``(T, length)`` token numbers, or one: start, tokens, end, padding; or a corpus of them.
    Returns:
        ``(T, *event)``, detached, on the decoder's device.
    Raises:
        ShapeError: if they do not have the shape of what the decoder makes.
        UsageError: if sequences are no token numbers of the model, or lack their start or end.
    """
    if isinstance(targets, Corpus):
        targets = targets.padded()
    if decoder.vocabulary is not None:
        return _check_sequences(targets, len(decoder.vocabulary)).to(device=decoder.device)
    event = decoder.event_shape
    batch = targets.unsqueeze(0) if tuple(targets.shape) == event else targets
    if tuple(batch.shape[1:]) != event or len(batch) == 0:
        raise ShapeError(
            f"expected targets (T >= 1, {', '.join(map(str, event))}), got {tuple(targets.shape)}",
            "Give them the size and the channels of what the decoder makes.",
        )
    return to_unit(batch).detach().to(device=decoder.device)


def _check_sequences(targets: Tensor, words: int) -> Int[Tensor, "target length"]:
    batch = targets.unsqueeze(0) if targets.ndim == 1 else targets
    if batch.ndim != 2 or batch.shape[0] < 1 or batch.shape[1] < 2 or batch.is_floating_point():
        raise ShapeError(
            f"expected token numbers (T >= 1, length >= 2), got {tuple(targets.shape)} of {targets.dtype}",
            "Number them by the model's vocabulary: corpus.padded(), or Vocabulary.encode(tokens).",
        )
    x = batch.detach().long()
    low, high = x.aminmax()
    begun, ended = bool((x[:, 0] == START).all()), bool(((x == END).sum(1) == 1).all())
    closed = torch.cat([x[:, 1:], x.new_full((len(x), 1), PAD)], 1)  # what follows each token
    if low < 0 or high >= words or not begun or not ended or not bool((closed[(x == END) | (x == PAD)] == PAD).all()):
        raise UsageError(
            f"expected token numbers below {words} from {START} (start) to {END} (end), then {PAD} (padding) alone",
            "Number them by the model's vocabulary: corpus.padded(), or Vocabulary.encode(tokens).",
        )
    return x


def align_targets(targets: Shaped[Tensor, "target ..."], lead: torch.Size, dim: int) -> Shaped[Tensor, "n ..."]:
    """The target of each code, row by row.

    Args:
        targets: ``(T, *event)``.
        lead: leading axes of the codes, the first over targets; any where T is 1.
        dim: of a code.
    Returns:
        ``(n, *event)``, n the product of the leading axes.
    Raises:
        ShapeError: if the first axis does not run over the targets.
    """
    count, event, n = len(targets), targets.shape[1:], math.prod(lead)
    if count == 1:
        return targets.expand(n, *event)
    if len(lead) == 0 or lead[0] != count:
        raise ShapeError(
            f"expected codes ({count}, ..., {dim}) for {count} targets, got {(*lead, dim)}",
            "The first axis runs over targets; objective.take(indices) is the objective of some of them.",
        )
    return targets.unsqueeze(1).expand(count, n // count, *event).reshape(n, *event)
