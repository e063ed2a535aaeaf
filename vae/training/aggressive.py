"""Schedule of aggressive encoder updates as pure functions on host numbers (He et al. 2019, arXiv:1901.05534, alg. 1).

Before each decoder step the encoder is trained alone, in windows of inner steps, until the mean loss of a window
exceeds that of the previous one. After each epoch the mutual information (MI) decides whether this phase continues.
"""

import math
from dataclasses import dataclass, replace

from lso.vae.config.components import Aggressive, Joint, Updates


@dataclass(frozen=True, slots=True)
class Plan:
    """Progress of aggressive training.

    Args:
        active: whether the encoder still takes inner steps before each outer step.
        done: inner steps taken so far before the next outer step.
        loss: mean loss of the previous window; infinite before the first.
        information: the MI that the next epoch is compared with, nats: the best so far, or that of the previous epoch.
        misses: number of epochs whose MI fell short of it.
    """

    active: bool
    done: int = 0
    loss: float = math.inf
    information: float = -math.inf
    misses: int = 0


def initial_phase(updates: Updates) -> Plan:
    """Return the plan before the first step: active where the method updates the encoder aggressively."""
    return Plan(active=isinstance(updates, Aggressive))


def window(updates: Updates, plan: Plan) -> int:
    """Return the number of inner steps until the mean loss is next compared; 0 when the encoder is not trained ahead.

    That is the whole budget where the method fixes one, else one window, cut at the cap on inner steps.
    """
    if isinstance(updates, Joint) or not plan.active:
        return 0
    return updates.budget or min(updates.window, updates.cap - plan.done)


def after_window(updates: Updates, plan: Plan, mean_loss: float) -> tuple[Plan, bool]:
    """Return the plan after a window, and whether another window precedes the outer step.

    None does after the loss rose (strictly), the cap or the budget was reached, or the loss is not a number; the plan
    is then ready for the next outer step. Without a budget, windows of 10 make 20, 30, ..., 90 or 99 inner steps.

    Args:
        updates: the method's update rule.
        plan: before the window.
        mean_loss: over the window, per image, or per predicted token of sequences.
    """
    assert isinstance(updates, Aggressive)
    done = plan.done + window(updates, plan)
    # Written as "not <=", so that a loss that is NaN ends the windows too.
    if updates.budget or done >= updates.cap or not mean_loss <= plan.loss:
        return replace(plan, done=0, loss=math.inf), False
    return replace(plan, done=done, loss=mean_loss), True


def after_epoch(updates: Updates, plan: Plan, mi: float, epoch: int) -> Plan:
    """Return the plan after an epoch, given its validation MI.

    An MI below the reference is a miss (below it by more than the tolerance, in the epochs where one applies);
    ``patience`` misses, in a row or not, end the aggressive phase for good.

    Args:
        updates: the method's update rule.
        plan: before the epoch ended.
        mi: mutual information within batches, nats.
        epoch: its number, from 1.
    """
    if isinstance(updates, Joint) or not plan.active:
        return plan
    # Before the encoder begins to learn, the MI is close to 0 and falls as often as it rises, which is no sign that the
    # encoder has caught up. Only in later epochs does any fall from the best, however small, count as a miss.
    tolerant = updates.against == "previous" or updates.early == 0 or epoch <= updates.early
    short = mi < plan.information - updates.tolerance * tolerant
    misses = plan.misses + short
    reached = max(mi, plan.information) if updates.against == "best" else mi
    return replace(plan, information=reached, misses=misses, active=misses < updates.patience)
