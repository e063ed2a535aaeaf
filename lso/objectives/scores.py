"""Checks of what a score returns, and the memory of a score on strings."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lso.objectives.score_calls import call_score, copy_datum
from lso.vae.errors import ShapeError, UsageError
from lso.vae.utils.validation import pluralize


def not_differentiable_error(name: str, why: str, optimizer: str = "a gradient optimizer") -> UsageError:
    """The error to raise for a gradient optimizer on an objective without gradients."""
    return UsageError(
        f"{optimizer} cannot optimize objective {name!r}: {why}",
        "Use a black-box optimizer, or a score and a decoder made of differentiable torch operations.",
    )


def as_objects(decoded: Tensor | list[Any]) -> list[Any]:
    """A decoded batch as a list of objects: of arrays where it is a tensor."""
    return list(decoded.detach().cpu().numpy()) if isinstance(decoded, Tensor) else decoded


def parse_object_values(values: Any, n: int) -> Tensor:
    """What a score returned for n objects as an ``(n,)`` double tensor, NaN where it gave None: an invalid object."""
    if values is None or isinstance(values, str) or not hasattr(values, "__len__") or len(values) != n:
        got = pluralize(len(values), "value") if hasattr(values, "__len__") else type(values).__name__
        raise ShapeError(
            f"the score returned {got} for {pluralize(n, 'object')}, expected {pluralize(n, 'value')}",
            "Return a list with one float (or None) for each object.",
        )
    try:
        return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the score returned something that is not a number: {error}", "Return a float or None for each object."
        ) from error


def score_objects(score: Callable[..., Any], objects: Sequence[Any]) -> Tensor:
    """Score copies of n objects: ``(n,)`` double, NaN for an invalid object.

    The score maps a list of objects to a list of floats, with None or NaN for an invalid one.
    """
    return parse_object_values(call_score(score, [copy_datum(item) for item in objects]), len(objects))


def check_values(value: Any, n: int) -> Tensor:
    """Check that a score on tensors returned one value for each of n data."""
    if not isinstance(value, Tensor):
        raise UsageError(
            f"the score returned {type(value).__name__}, expected a tensor ({n},)",
            'Return a tensor, or make the objective with on="objects".',
        )
    if tuple(value.shape) != (n,):
        raise ShapeError(
            f"the score returned shape {tuple(value.shape)} for {n} decoded data, expected ({n},)",
            "Reduce over the datum, not over the batch: one value for each row.",
        )
    return value


class MemoizedScore:
    """A score on objects that is called once for each distinct string; other objects are scored every time."""

    def __init__(self, score: Callable[..., Any]) -> None:
        self._score = score
        self._values: dict[str, float] = {}
        self._calls = 0

    def __call__(self, objects: Sequence[Any]) -> Tensor:
        """Score objects as `score_objects` does, with its errors."""
        if not all(isinstance(item, str) for item in objects):
            return score_objects(self._score, objects)
        fresh = list(dict.fromkeys(item for item in objects if item not in self._values))
        if fresh:
            self._values |= dict(zip(fresh, score_objects(self._score, fresh).tolist(), strict=True))
        self._calls += len(objects)
        return torch.tensor([self._values[item] for item in objects], dtype=torch.float64)

    @property
    def counters(self) -> dict[str, int]:
        """Strings scored (``calls``), distinct ones (``unique``: the score's own calls), those answered from memory
        (``duplicate``), and distinct ones that are ``invalid``.
        """
        invalid = sum(math.isnan(value) for value in self._values.values())
        unique = len(self._values)
        return {"calls": self._calls, "unique": unique, "duplicate": self._calls - unique, "invalid": invalid}
