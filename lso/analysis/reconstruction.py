"""Distances between decoded data, and how much of each target a search reproduces: arrays, sequences, other objects.

`metric_for` gives the measure that suits what a decoder makes. Sequences are also compared token by token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso.analysis import statistics
from lso.analysis.plausibility import decoded_scale
from lso.analysis.start_sensitivity import pairwise

if TYPE_CHECKING:
    from lso.decoders.decoder import Decoder


def relative_variety(targets: Tensor | None, decoded: Tensor, scale: float) -> float | None:
    """How much decoded prior draws vary, relative to how far the targets are from their mean.

        RMS difference of two decoded draws / (sqrt(2) x RMS difference of the targets from the mean of decoded draws)

    0 where the decoder ignores its code; None without comparable targets. ``scale`` is the numerator.
    """
    if targets is None or targets.shape[1:] != decoded.shape[1:]:
        return None
    asked = float((targets.double().cpu() - decoded.mean(0)).square().mean().sqrt())
    return scale / (2**0.5 * asked) if asked > 0 else None


def share_explained(targets: Tensor | None, decoded: Tensor, prior: Tensor) -> Float[Tensor, " target"] | None:
    """Share of each target that a result reproduces; 0 is what the mean of decoded prior draws reproduces.

        1 - |x - target|^2 / |m - target|^2,  x the decoded result, m the mean of decoded prior draws

    Of ``(T, *event)`` targets and results this is ``(T,)``, at most 1; None without comparable targets.
    """
    if targets is None or targets.shape != decoded.shape or targets.shape[1:] != prior.shape[1:]:
        return None
    wanted, got, mean = (x.detach().double().cpu() for x in (targets, decoded, prior.mean(0)))
    missed, asked = ((x - wanted).square().flatten(1).sum(1) for x in (got, mean))
    return 1 - missed / torch.where(asked > 0, asked, 1.0)


DRAWS_COMPARED = 64  # decoded prior draws that each target is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMetric:
    """A distance between decoded data of one kind, and the measures built on it. T targets, S starts, n prior draws.

    Args:
        unit: of a distance, in words.
        pairwise: ``(T, S, values) -> (T, S, S)`` distances between the results of each target's starts.
        scale: ``(n, values) -> float`` distance of two decoded prior draws.
        explained: (targets, results, decoded prior draws) -> ``(T,)`` share of each target that is reproduced;
            None where targets cannot be compared.
        reaction: (targets, decoded prior draws, scale) -> variation of decoded prior draws relative to the
            targets; None where it is not known.
        fitted: what ``explained`` is a share of, in words.
        rule: the formula of ``explained``, in words.
    """

    unit: str
    pairwise: Callable[[Tensor], Tensor]
    scale: Callable[[Tensor], float]
    explained: Callable[[Tensor | None, Tensor, Tensor], Tensor | None]
    reaction: Callable[[Tensor | None, Tensor, float], float | None]
    fitted: str = "what distinguishes the median target from the mean of decoded prior draws"
    rule: str = "1 - squared error / squared error of the mean of decoded prior draws"


def metric_for(decoder: "Decoder") -> DecodedMetric:
    """The distance and measures that suit what a decoder makes."""
    return SEQUENCES if decoder.vocabulary is not None else OBJECTS if decoder.makes_objects else ARRAYS


# --- objects ----------------------------------------------------------------------------------------------------------


def _pairwise_inequality(x: Float[Tensor, "target start value"]) -> Float[Tensor, "target start start"]:
    """1 where two objects differ, 0 where they are equal."""
    return pairwise(x).clamp_max(1.0)


# --- sequences --------------------------------------------------------------------------------------------------------


def pairwise_edit_distance(x: Tensor) -> Float[Tensor, "target start start"]:
    """Edit distances between the sequences of each target's starts, as shares of the longer sequence."""
    count, starts, length = x.shape
    first, second = torch.triu_indices(starts, starts, offset=1)
    between = statistics.normalized_edit_distance(x[:, first].reshape(-1, length), x[:, second].reshape(-1, length))
    found = torch.zeros(count, starts, starts, dtype=torch.float64)
    found[:, first, second] = between.cpu().reshape(count, len(first))
    return found + found.transpose(1, 2)


def _mean_draw_distance(x: Float[Tensor, "draw length"]) -> float:
    """Mean edit distance of two independent decoded draws."""
    return float(statistics.normalized_edit_distance(x[1:], x[:-1]).mean()) if len(x) > 1 else 0.0


def _mean_distance_from_draws(targets: Tensor, prior: Tensor) -> Float[Tensor, " target"]:
    """Mean edit distance of each target from decoded prior draws."""
    draws = prior[:DRAWS_COMPARED].cpu()
    each = statistics.normalized_edit_distance(
        targets.cpu().repeat_interleave(len(draws), 0), draws.repeat(len(targets), 1)
    )
    return each.reshape(len(targets), -1).mean(1)


def _share_of_tokens_reproduced(targets: Tensor | None, decoded: Tensor, prior: Tensor) -> Tensor | None:
    """1 - edit distance from the target / mean edit distance of decoded prior draws from it."""
    if targets is None:
        return None
    asked = _mean_distance_from_draws(targets, prior)
    missed = statistics.normalized_edit_distance(decoded.cpu(), targets.cpu())
    return 1 - missed / torch.where(asked > 0, asked, 1.0)


def _relative_token_variety(targets: Tensor | None, prior: Tensor, scale: float) -> float | None:
    """Edit distance of two decoded draws (``scale``) relative to the distance of targets from decoded draws."""
    if targets is None:
        return None
    asked = float(_mean_distance_from_draws(targets, prior).mean())
    return scale / asked if asked > 0 else None


ARRAYS = DecodedMetric(
    unit="RMS", pairwise=pairwise, scale=decoded_scale, explained=share_explained, reaction=relative_variety
)
OBJECTS = DecodedMetric(
    unit="0 if equal, else 1",
    pairwise=_pairwise_inequality,
    scale=lambda decoded: 1.0,
    explained=lambda targets, decoded, prior: None,
    reaction=lambda targets, prior, scale: None,
)
SEQUENCES = DecodedMetric(
    unit="share of tokens to edit",
    pairwise=pairwise_edit_distance,
    scale=_mean_draw_distance,
    explained=_share_of_tokens_reproduced,
    reaction=_relative_token_variety,
    fitted="the tokens of the median target that decoded prior draws miss",
    rule="1 - token edit distance / mean edit distance of decoded prior draws, each a share of the longer sequence",
)


TextPieces = list[tuple[str, bool]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextComparison:
    """Targets that are sequences, beside what the best code of each decodes to.

    Args:
        target: texts of the targets.
        best: texts decoded from the best codes.
        edits: ``(T,)`` tokens to insert, delete or replace between the two.
        tokens: ``(T,)`` tokens of the targets.
    """

    target: list[str]
    best: list[str]
    edits: Int[Tensor, " target"]
    tokens: Int[Tensor, " target"]

    @property
    def exact(self) -> Bool[Tensor, " target"]:
        """``(T,)`` whether the target was reproduced token for token."""
        return self.edits == 0


def compare_texts(decoder: "Decoder", targets: Tensor | None, decoded: Tensor) -> TextComparison | None:
    """Compare the targets with what the best codes decode to; None where the decoder makes no sequences."""
    if decoder.vocabulary is None or targets is None:
        return None
    return TextComparison(
        target=decoder.texts(targets),
        best=decoder.texts(decoded),
        edits=statistics.edit_distance(targets.cpu(), decoded.cpu()),
        tokens=statistics.token_counts(targets.cpu()),
    )


def diff_tokens(decoder: "Decoder", decoded: Tensor, target: Tensor | None) -> TextPieces:
    """Split a decoded sequence into pieces of text, each with whether it differs from the target.

    ``decoded`` is ``(longest,)`` token numbers, ``target`` ``(length,)``; without a target nothing differs.
    """
    assert decoder.vocabulary is not None
    joiner, tokens = decoder.vocabulary.joiner, decoder.vocabulary.decode(decoded.long().tolist())
    if target is None:
        return [(joiner.join(tokens), False)]
    wanted = decoder.vocabulary.decode(target.long().tolist())
    same = SequenceMatcher(None, wanted, tokens, autojunk=False).get_matching_blocks()
    shared = set(chain.from_iterable(range(block.b, block.b + block.size) for block in same))
    return _pieces(tokens, [i not in shared for i in range(len(tokens))], joiner)


def _pieces(tokens: Sequence[str], off: Sequence[bool], joiner: str) -> TextPieces:
    """Join neighbouring tokens that all differ from the target, or all agree with it."""
    found: TextPieces = []
    for token, different in zip(tokens, off, strict=True):
        if found and found[-1][1] == different:
            found[-1] = (found[-1][0] + joiner + token, different)
        else:
            found.append(((joiner if found else "") + token, different))
    return found
