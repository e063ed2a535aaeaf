"""When an element of a batched search stops: one rule for all optimizers, on the device, without reading the host."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Why an element stopped, as a small integer on the device; `REASONS[code]` is the word in records and reports.
REASONS = ("running", "tolerance", "max_steps", "not_finite", "line_search", "stopped")
RUNNING, TOLERANCE, MAX_STEPS, NOT_FINITE, LINE_SEARCH, STOPPED = range(len(REASONS))


@dataclass(slots=True)
class Window:
    """The last loss changes of each element; changed in place.

    Args:
        changes: ``(window, n)`` absolute changes, a ring over steps.
        last: ``(n,)`` losses at the last step seen.
        seen: steps seen.
    """

    changes: Tensor
    last: Tensor
    seen: int = 0


def init(loss: Float[Tensor, " n"], window: int) -> Window:
    """Start the rule at the losses of the starting points."""
    return Window(torch.full((window, len(loss)), torch.inf, dtype=loss.dtype, device=loss.device), loss)


def observe(state: Window, loss: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Take the losses of the next step.

        (1/w) sum over the last w steps of |loss_k - loss_(k-1)|

    The sum is formed anew each time, so it is exactly zero where the loss is exactly unchanged.

    Args:
        state: changed in place.
        loss: ``(n,)``.
    Returns:
        ``(n,)`` mean absolute change over the window; infinite until w changes have been seen.
    """
    state.changes[state.seen % len(state.changes)] = (loss - state.last).abs()
    state.last = loss
    state.seen += 1
    return state.changes.mean(0)


def keep(state: Window, rows: Tensor) -> None:
    """Drop the other elements."""
    state.changes = state.changes[:, rows]
    state.last = state.last[rows]
