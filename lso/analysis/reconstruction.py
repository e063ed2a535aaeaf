"""How far apart decoded data are, and whether each target was reproduced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lso.analysis import statistics
from lso.analysis.plausibility import decoded_scale
from lso.analysis.start_sensitivity import pairwise

if TYPE_CHECKING:
    from lso.decoders.decoder import Decoder
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import chain
from typing import TYPE_CHECKING

from jaxtyping import Bool, Int

if TYPE_CHECKING:
    from lso.decoders.decoder import Decoder


def reaction(targets: Tensor | None, decoded: Tensor, scale: float) -> float | None:
    """How much the decoder varies over the prior, as a share of what the targets ask for.

        RMS difference of two decoded draws / (sqrt(2) x RMS difference of the targets from the mean decode)

    Args:
        targets: ``(T, *event)`` or None.
        decoded: ``(n, *event)`` decoded prior draws.
        scale: RMS difference of two decoded draws.
    Returns:
        0 where the decoder ignores its code; None without targets.
    """
    if targets is None or targets.shape[1:] != decoded.shape[1:]:
        return None
    asked = float((targets.double().cpu() - decoded.mean(0)).square().mean().sqrt())
    return scale / (2**0.5 * asked) if asked > 0 else None


def explained(targets: Tensor | None, decoded: Tensor, prior: Tensor) -> Float[Tensor, " target"] | None:
    """Share of each target that a result reproduces, against the answer that knows nothing, the mean decode.

        1 - |x - target|^2 / |m - target|^2,  x the decoded result, m the mean of decoded prior draws

    Args:
        targets: ``(T, *event)`` or None.
        decoded: ``(T, *event)`` decoded results.
        prior: ``(n, *event)`` decoded prior draws.
    Returns:
        ``(T,)``, at most 1; 0 or less where the mean does as well. None without targets.
    """
    if targets is None or targets.shape != decoded.shape or targets.shape[1:] != prior.shape[1:]:
        return None
    wanted, got, mean = (x.detach().double().cpu() for x in (targets, decoded, prior.mean(0)))
    missed, asked = ((x - wanted).square().flatten(1).sum(1) for x in (got, mean))
    return 1 - missed / torch.where(asked > 0, asked, 1.0)


PRIOR = 64  # decoded prior draws that each target is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMetric:
    """A measure of the distance between decoded data, and what follows from it.

    Args:
        unit: of a distance, in words.
        pairwise: ``(T, S, values) -> (T, S, S)`` distances between the results of each target's starts.
        scale: ``(n, values) -> float``, that of two decoded prior draws.
        explained: (targets, decoded, decoded prior draws) -> ``(T,)`` share of each target that is reproduced against
            an answer that knows nothing; None where there is none.
        reaction: (targets, decoded prior draws, scale) -> how much the decoder varies as a share of what the targets
            ask for; None where there is no answer.
        fitted: what ``explained`` is a share of, in words.
        rule: how it is computed, in words.
    """

    unit: str
    pairwise: Callable[[Tensor], Tensor]
    scale: Callable[[Tensor], float]
    explained: Callable[[Tensor | None, Tensor, Tensor], Tensor | None]
    reaction: Callable[[Tensor | None, Tensor, float], float | None]
    fitted: str = "what sets the median target apart from the mean decode"
    rule: str = "1 - squared error / squared error of the mean decode of prior draws"


def metric_for(decoder: "Decoder") -> DecodedMetric:
    """The measure for what a decoder makes."""
    return SEQUENCES if decoder.vocabulary is not None else OBJECTS if decoder.makes_objects else ARRAYS


# --- objects ----------------------------------------------------------------------------------------------------------


def _different(x: Float[Tensor, "target start value"]) -> Float[Tensor, "target start start"]:
    return pairwise(x).clamp_max(1.0)


# --- sequences --------------------------------------------------------------------------------------------------------


def edited(x: Tensor) -> Float[Tensor, "target start start"]:
    """Edit distances between the sequences of each target's starts, as shares of the longer one."""
    count, starts, length = x.shape
    first, second = torch.triu_indices(starts, starts, offset=1)
    between = statistics.share(x[:, first].reshape(-1, length), x[:, second].reshape(-1, length))
    found = torch.zeros(count, starts, starts, dtype=torch.float64)
    found[:, first, second] = between.cpu().reshape(count, len(first))
    return found + found.transpose(1, 2)


def _between_draws(x: Float[Tensor, "draw length"]) -> float:
    """Mean distance of two independent rows."""
    return float(statistics.share(x[1:], x[:-1]).mean()) if len(x) > 1 else 0.0


def _from_draws(targets: Tensor, prior: Tensor) -> Float[Tensor, " target"]:
    """Mean distance of each target from decoded prior draws."""
    draws = prior[:PRIOR].cpu()
    each = statistics.share(targets.cpu().repeat_interleave(len(draws), 0), draws.repeat(len(targets), 1))
    return each.reshape(len(targets), -1).mean(1)


def _reproduced(targets: Tensor | None, decoded: Tensor, prior: Tensor) -> Tensor | None:
    """1 - distance / mean distance of decoded prior draws."""
    if targets is None:
        return None
    asked = _from_draws(targets, prior)
    missed = statistics.share(decoded.cpu(), targets.cpu())
    return 1 - missed / torch.where(asked > 0, asked, 1.0)


def _variety(targets: Tensor | None, prior: Tensor, scale: float) -> float | None:
    if targets is None:
        return None
    asked = float(_from_draws(targets, prior).mean())
    return scale / asked if asked > 0 else None


ARRAYS = DecodedMetric(unit="RMS", pairwise=pairwise, scale=decoded_scale, explained=explained, reaction=reaction)
OBJECTS = DecodedMetric(
    unit="0 if equal, else 1",
    pairwise=_different,
    scale=lambda decoded: 1.0,
    explained=lambda targets, decoded, prior: None,
    reaction=lambda targets, prior, scale: None,
)
SEQUENCES = DecodedMetric(
    unit="share of tokens to edit",
    pairwise=edited,
    scale=_between_draws,
    explained=_reproduced,
    reaction=_variety,
    fitted="the tokens of the median target that decoded prior draws miss",
    rule="1 - token edit distance / mean edit distance of decoded prior draws, each a share of the longer sequence",
)


Marked = list[tuple[str, bool]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """Targets beside what the best ends decode to.

    Args:
        target: texts.
        best: texts.
        edits: ``(T,)`` tokens to insert, delete or replace.
        tokens: ``(T,)`` of the targets.
    """

    target: list[str]
    best: list[str]
    edits: Int[Tensor, " target"]
    tokens: Int[Tensor, " target"]

    @property
    def exact(self) -> Bool[Tensor, " target"]:
        """``(T,)`` whether the target was reproduced token for token."""
        return self.edits == 0


def said(decoder: "Decoder", targets: Tensor | None, decoded: Tensor) -> Said | None:
    """Targets beside the best ends, where they are sequences."""
    if decoder.vocabulary is None or targets is None:
        return None
    return Said(
        target=decoder.texts(targets),
        best=decoder.texts(decoded),
        edits=statistics.edits(targets.cpu(), decoded.cpu()),
        tokens=statistics.sizes(targets.cpu()),
    )


def marked(decoder: "Decoder", decoded: Tensor, target: Tensor | None) -> Marked:
    """A decode as pieces of text, each with whether the target has it too.

    Args:
        decoder: of the search.
        decoded: ``(longest,)`` token numbers.
        target: ``(length,)``; None marks nothing.
    Returns:
        Pieces that make the text, and whether each is not the target's.
    """
    assert decoder.vocabulary is not None
    joiner, tokens = decoder.vocabulary.joiner, decoder.vocabulary.decode(decoded.long().tolist())
    if target is None:
        return [(joiner.join(tokens), False)]
    wanted = decoder.vocabulary.decode(target.long().tolist())
    same = SequenceMatcher(None, wanted, tokens, autojunk=False).get_matching_blocks()
    shared = set(chain.from_iterable(range(block.b, block.b + block.size) for block in same))
    return _pieces(tokens, [i not in shared for i in range(len(tokens))], joiner)


def _pieces(tokens: Sequence[str], off: Sequence[bool], joiner: str) -> Marked:
    """Runs of tokens that are alike."""
    found: Marked = []
    for token, different in zip(tokens, off, strict=True):
        if found and found[-1][1] == different:
            found[-1] = (found[-1][0] + joiner + token, different)
        else:
            found.append(((joiner if found else "") + token, different))
    return found
