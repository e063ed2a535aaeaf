"""What a score may return, and the errors that say what it should have."""

import math
from typing import Any

import torch
from torch import Tensor

from lso.vae.errors import ShapeError, UsageError


def not_differentiable(name: str, why: str, optimizer: str = "a gradient optimizer") -> UsageError:
    """The error for a gradient optimizer on an objective without gradients.

    Args:
        name: of the objective.
        why: what is missing.
        optimizer: name of the optimizer.
    Returns:
        The error, to be raised by the caller.
    """
    return UsageError(
        f"{optimizer} cannot serve objective {name!r}: {why}",
        "Use a black-box optimizer, or a score and a decoder made of differentiable torch operations.",
    )


def as_objects(decoded: Tensor | list[Any]) -> list[Any]:
    """A decoded batch as a list.

    Args:
        decoded: ``(n, ...)`` tensor, or n objects.
    Returns:
        n numpy arrays, or the objects.
    """
    return list(decoded.detach().cpu().numpy()) if isinstance(decoded, Tensor) else decoded


def from_objects(values: Any, n: int) -> Tensor:
    """The values of a score on objects.

    Args:
        values: what it returned: n floats, None for an invalid object.
        n: objects scored.
    Returns:
        ``(n,)`` double, NaN for an invalid object.
    Raises:
        ShapeError: if there is not one value for each object.
        UsageError: if a value is no number.
    """
    if values is None or isinstance(values, str) or not hasattr(values, "__len__") or len(values) != n:
        got = f"{len(values)} values" if hasattr(values, "__len__") else type(values).__name__
        raise ShapeError(
            f"the score returned {got} for {n} objects, expected {n} values",
            "Return a list with one float (or None) for each object.",
        )
    try:
        return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the score returned what is no number: {error}", "Return a float or None for each object."
        ) from error


def checked(value: Any, n: int) -> Tensor:
    """The values of a score on tensors.

    Args:
        value: what it returned.
        n: data scored.
    Returns:
        ``(n,)``, as it came.
    Raises:
        UsageError: if it is no tensor.
        ShapeError: if it has another shape.
    """
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
