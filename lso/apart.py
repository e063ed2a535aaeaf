"""How far apart decoded data are, by kind: arrays, sequences, and objects that are equal or not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lso import edits, fit
from lso.plausibility import decoded_scale
from lso.sensitivity import pairwise

if TYPE_CHECKING:
    from lso.decoder import Decoder

PRIOR = 64  # decoded prior draws that each target is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
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


def yardstick(decoder: "Decoder") -> Yardstick:
    """The measure for what a decoder makes.

    Args:
        decoder: any.
    Returns:
        One of three.
    """
    return SEQUENCES if decoder.vocabulary is not None else OBJECTS if decoder.makes_objects else ARRAYS


# --- objects ----------------------------------------------------------------------------------------------------------


def _different(x: Float[Tensor, "target start value"]) -> Float[Tensor, "target start start"]:
    return pairwise(x).clamp_max(1.0)


# --- sequences --------------------------------------------------------------------------------------------------------


def edited(x: Tensor) -> Float[Tensor, "target start start"]:
    """Edit distances between the sequences of each target's starts, as shares of the longer one.

    Args:
        x: ``(T, S, length)`` token numbers.
    Returns:
        ``(T, S, S)`` double.
    """
    count, starts, length = x.shape
    first, second = torch.triu_indices(starts, starts, offset=1)
    between = edits.share(x[:, first].reshape(-1, length), x[:, second].reshape(-1, length))
    found = torch.zeros(count, starts, starts, dtype=torch.float64)
    found[:, first, second] = between.cpu().reshape(count, len(first))
    return found + found.transpose(1, 2)


def _between_draws(x: Float[Tensor, "draw length"]) -> float:
    """Mean distance of two independent rows."""
    return float(edits.share(x[1:], x[:-1]).mean()) if len(x) > 1 else 0.0


def _from_draws(targets: Tensor, prior: Tensor) -> Float[Tensor, " target"]:
    """Mean distance of each target from decoded prior draws."""
    draws = prior[:PRIOR].cpu()
    each = edits.share(targets.cpu().repeat_interleave(len(draws), 0), draws.repeat(len(targets), 1))
    return each.reshape(len(targets), -1).mean(1)


def _reproduced(targets: Tensor | None, decoded: Tensor, prior: Tensor) -> Tensor | None:
    """1 - distance / mean distance of decoded prior draws."""
    if targets is None:
        return None
    asked = _from_draws(targets, prior)
    missed = edits.share(decoded.cpu(), targets.cpu())
    return 1 - missed / torch.where(asked > 0, asked, 1.0)


def _variety(targets: Tensor | None, prior: Tensor, scale: float) -> float | None:
    if targets is None:
        return None
    asked = float(_from_draws(targets, prior).mean())
    return scale / asked if asked > 0 else None


ARRAYS = Yardstick(unit="RMS", pairwise=pairwise, scale=decoded_scale, explained=fit.explained, reaction=fit.reaction)
OBJECTS = Yardstick(
    unit="0 if equal, else 1",
    pairwise=_different,
    scale=lambda decoded: 1.0,
    explained=lambda targets, decoded, prior: None,
    reaction=lambda targets, prior, scale: None,
)
SEQUENCES = Yardstick(
    unit="share of tokens to edit",
    pairwise=edited,
    scale=_between_draws,
    explained=_reproduced,
    reaction=_variety,
    fitted="the tokens of the median target that decoded prior draws miss",
    rule="1 - token edit distance / mean edit distance of decoded prior draws, each a share of the longer sequence",
)
