"""Targets of a reconstruction, checked against what the decoder makes, and the context that it is teacher-forced on."""

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
    """Check a context of `CONTEXTS` against the decoder; ``"none"`` for a decoder that is not autoregressive."""
    if context not in CONTEXTS:
        raise unknown_name("context", context, CONTEXTS)
    if decoder.vocabulary is not None and context == "own":
        # A generated sequence of another length has no token at each of the target's positions.
        raise UsageError(
            "context own is for images: a sequence that the model generates may be longer or shorter than the target",
            "Use context target, which gives the exact likelihood, or blank, which makes every token unknown.",
        )
    return context if decoder.autoregressive else "none"


def blank_context(targets: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "_ ..."]:
    """An empty context: for images one image of zeros, for sequences the targets with every token unknown."""
    if targets.is_floating_point():
        return torch.zeros_like(targets[:1])
    return torch.where(targets > UNKNOWN, UNKNOWN, targets)


def as_target_batch(decoder: "Decoder", targets: Shaped[Tensor, "..."] | Corpus) -> Shaped[Tensor, "target ..."]:
    """Targets as a batch ``(T, *event)`` that decodes can be compared with, detached and on the decoder's device.

    They come as such a batch or as one datum; bytes are divided by 255. Sequences come as token numbers (start, tokens,
    end, padding), or as a corpus.
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
            "Resize the targets to the size and channels of what the decoder makes.",
        )
    return to_unit(batch).detach().to(device=decoder.device)


def _check_sequences(targets: Tensor, words: int) -> Int[Tensor, "target length"]:
    batch = targets.unsqueeze(0) if targets.ndim == 1 else targets
    if batch.ndim != 2 or batch.shape[0] < 1 or batch.shape[1] < 2 or batch.is_floating_point():
        raise ShapeError(
            f"expected token numbers (T >= 1, length >= 2), got {tuple(targets.shape)} of {targets.dtype}",
            "Encode them by the model's vocabulary: corpus.padded(), or Vocabulary.encode(tokens).",
        )
    x = batch.detach().long()
    low, high = x.aminmax()
    begun, ended = bool((x[:, 0] == START).all()), bool(((x == END).sum(1) == 1).all())
    following = torch.cat([x[:, 1:], x.new_full((len(x), 1), PAD)], 1)  # the token after each token
    padded = bool((following[(x == END) | (x == PAD)] == PAD).all())
    if low < 0 or high >= words or not begun or not ended or not padded:
        raise UsageError(
            f"expected token numbers below {words} from {START} (start) to {END} (end), then {PAD} (padding) alone",
            "Encode them by the model's vocabulary: corpus.padded(), or Vocabulary.encode(tokens).",
        )
    return x


def align_targets(targets: Shaped[Tensor, "target ..."], lead: torch.Size, dim: int) -> Shaped[Tensor, "n ..."]:
    """The target of each code of a flattened batch: ``(T, *event)`` to ``(n, *event)``.

    ``lead`` are the leading axes of the codes, n their product; the first runs over the T targets, or T is 1.
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
