"""The stopping rule of gradient searches: mean loss change over a window, the same for all optimizers.

Everything stays on the device; nothing is copied to the host.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Why an element stopped: an index into REASONS, whose words stand in records and reports.
REASONS = ("running", "tolerance", "max_steps", "not_finite", "line_search", "stopped")
RUNNING, TOLERANCE, MAX_STEPS, NOT_FINITE, LINE_SEARCH, STOPPED = range(len(REASONS))


@dataclass(slots=True)
class Window:
    """The last loss changes of each element; changed in place.

    Args:
        changes: ``(window, n)`` absolute changes, a ring buffer over steps; infinite where none was seen yet.
        last: ``(n,)`` losses at the last step.
        seen: changes observed so far.
    """

    changes: Tensor
    last: Tensor
    seen: int = 0


def start_window(loss: Float[Tensor, " n"], window: int) -> Window:
    """An empty window of this many steps, which begins at the losses of the initial points."""
    return Window(torch.full((window, len(loss)), torch.inf, dtype=loss.dtype, device=loss.device), loss)


def observe(state: Window, loss: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Add the losses of the next step, in place, and return the mean absolute change over the last w steps, ``(n,)``.

    (1/w) sum over the last w steps of |loss_k - loss_(k-1)|;  infinite until w changes have been seen.
    """
    # Summed anew at each step: a running sum would not come back to exactly 0 where the loss stays unchanged.
    state.changes[state.seen % len(state.changes)] = (loss - state.last).abs()
    state.last = loss
    state.seen += 1
    return state.changes.mean(0)


def keep_elements(state: Window, rows: Tensor) -> None:
    """Keep only these elements, in place."""
    state.changes = state.changes[:, rows]
    state.last = state.last[rows]
