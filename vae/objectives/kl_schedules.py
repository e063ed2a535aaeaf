"""Schedules of the KL weight, as pure functions of the step, so that a resumed run sees the same weights."""

from functools import singledispatch

from lso.vae.config.components import Constant, Cyclical, Linear, Schedule


@singledispatch
def kl_weight(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The KL weight at an outer step; in a ramp of n steps, at step t = 0, 1, ...: start + (t + 1)/n (end - start).

    So the first step already has a slightly raised weight and the ramp's last the full one, as in He et al. (2019).
    """
    raise TypeError(f"no KL schedule for {type(schedule).__name__}")


@kl_weight.register
def _(schedule: Constant, step: int, steps_per_epoch: int) -> float:
    return schedule.end


@kl_weight.register
def _(schedule: Linear, step: int, steps_per_epoch: int) -> float:
    return _ramp(schedule, step, _ramp_steps(schedule, steps_per_epoch))


@kl_weight.register
def _(schedule: Cyclical, step: int, steps_per_epoch: int) -> float:
    ramp = _ramp_steps(schedule, steps_per_epoch)
    cycle, position = divmod(step, 2 * ramp)
    return schedule.end if cycle >= schedule.cycles else _ramp(schedule, position, ramp)


def warmup_steps(schedule: Schedule, steps_per_epoch: int) -> int:
    """The number of outer steps after which the KL weight stays at its end value."""
    if isinstance(schedule, Constant):
        return 0
    ramp = _ramp_steps(schedule, steps_per_epoch)
    return ramp if isinstance(schedule, Linear) else (2 * schedule.cycles - 1) * ramp


def _ramp_steps(schedule: Linear | Cyclical, steps_per_epoch: int) -> int:
    per_unit = steps_per_epoch if schedule.unit == "epochs" else 1
    return max(1, round(schedule.length * per_unit))


def _ramp(schedule: Linear | Cyclical, step: int, ramp: int) -> float:
    return schedule.start + (schedule.end - schedule.start) * min(1.0, (step + 1) / ramp)
