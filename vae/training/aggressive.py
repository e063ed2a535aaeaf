"""The plan of aggressive encoder updates, as pure functions on host numbers (He et al. 2019, arXiv:1901.05534, alg. 1).

Before each step of the decoder the encoder is trained alone, in windows of inner steps, until the mean loss of a window
exceeds that of the one before. After each epoch the mutual information says whether this goes on.
"""

import math
from dataclasses import dataclass, replace

from lso.vae.config.components import Aggressive, Joint, Updates


@dataclass(frozen=True, slots=True)
class Plan:
    """Where aggressive training stands.

    Args:
        active: whether the encoder is still trained ahead.
        done: inner steps done before the coming outer one.
        loss: mean loss of the window before; infinite before the first.
        information: the MI to be reached, nats: the best one, or that of the epoch before.
        misses: epochs that fell short of it.
    """

    active: bool
    done: int = 0
    loss: float = math.inf
    information: float = -math.inf
    misses: int = 0


def initial_phase(updates: Updates) -> Plan:
    """The plan before training."""
    return Plan(active=isinstance(updates, Aggressive))


def window(updates: Updates, plan: Plan) -> int:
    """Inner steps until the next look at the loss.

    Args:
        updates: a value of the axis.
        plan: where training stands.
    Returns:
        The whole budget where one is fixed, else a window, cut at the cap; 0 where nothing is to be done.
    """
    if isinstance(updates, Joint) or not plan.active:
        return 0
    return updates.budget or min(updates.window, updates.cap - plan.done)


def after_window(updates: Updates, plan: Plan, mean_loss: float) -> tuple[Plan, bool]:
    """Take in a window.

    Args:
        updates: a value of the axis.
        plan: before the window.
        mean_loss: over the window, per image, or per predicted token of sequences.
    Returns:
        The plan, and whether there is another window before the outer step: not after a rise (strictly greater), the
        cap or the budget, nor after a loss that is not a number. Without a budget the windows of 10 make 20, 30, ...,
        90 or 99 inner steps. When it ends, the plan is ready for the next outer step.
    """
    assert isinstance(updates, Aggressive)
    done = plan.done + window(updates, plan)
    if updates.budget or done >= updates.cap or not mean_loss <= plan.loss:
        return replace(plan, done=0, loss=math.inf), False
    return replace(plan, done=done, loss=mean_loss), True


def after_epoch(updates: Updates, plan: Plan, mi: float, epoch: int) -> Plan:
    """Take in the validation MI of an epoch.

    Args:
        updates: a value of the axis.
        plan: before it.
        mi: mutual information within batches, nats.
        epoch: its number, from 1.
    Returns:
        The plan: an MI below the one to be reached, by more than the tolerance while that holds, is a miss, and
        ``patience`` misses, in a row or not, end the phase for good.
    """
    if isinstance(updates, Joint) or not plan.active:
        return plan
    # A model whose encoder has not begun to learn has an MI of trifles that falls as often as it rises, which is no
    # sign that the encoder has caught up; a fall from the best of a later epoch, however small, is what is counted.
    tolerant = updates.against == "previous" or updates.early == 0 or epoch <= updates.early
    short = mi < plan.information - updates.tolerance * tolerant
    misses = plan.misses + short
    reached = max(mi, plan.information) if updates.against == "best" else mi
    return replace(plan, information=reached, misses=misses, active=misses < updates.patience)
