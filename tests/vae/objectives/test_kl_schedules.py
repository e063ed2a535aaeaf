"""KL weights at the first, the last and the other steps of a ramp."""

import pytest

from lso.vae.config.components import Constant, Cyclical, Linear, Schedule
from lso.vae.config.methods import METHODS
from lso.vae.errors import UsageError
from lso.vae.objectives.kl_schedules import kl_weight, warmup_steps
from tests.vae.small import example


def weights(schedule: Schedule, steps: int, per_epoch: int = 10) -> list[float]:
    return [kl_weight(schedule, step, per_epoch) for step in range(steps)]


def test_constant_never_moves() -> None:
    assert weights(Constant(end=0.2), 5) == [0.2] * 5 and warmup_steps(Constant(), 10) == 0


@pytest.mark.parametrize(("length", "unit", "steps"), [(10.0, "epochs", 4470), (1000.0, "iterations", 1000)])
def test_linear_starts_raised_and_ends_full(length: float, unit: str, steps: int) -> None:
    """He et al. (2019): w <- min(1, w + (1 - start)/n) before every step, so step 1 is raised and step n is full."""
    ramp = Linear(length=length, unit=unit, start=0.1)  # type: ignore[arg-type]
    assert kl_weight(ramp, 0, 447) == pytest.approx(0.1 + 0.9 / steps, abs=1e-12)
    assert kl_weight(ramp, steps - 2, 447) == pytest.approx(1 - 0.9 / steps, abs=1e-12)
    assert kl_weight(ramp, steps - 1, 447) == kl_weight(ramp, 10 * steps, 447) == pytest.approx(1, abs=1e-12)
    assert warmup_steps(ramp, 447) == steps


def test_linear_equals_the_accumulated_form() -> None:
    ramp, w = Linear(length=2.0, start=0.1, end=0.5), 0.1
    for step in range(40):
        w = min(0.5, w + (0.5 - 0.1) / 20)
        assert kl_weight(ramp, step, 10) == pytest.approx(w, abs=1e-12)


def test_cyclical_repeats_ramp_and_plateau_then_stays() -> None:
    cycle = Cyclical(length=4.0, cycles=2, unit="iterations", start=0.0, end=1.0)
    ramp = [0.25, 0.5, 0.75, 1.0]
    assert weights(cycle, 20) == pytest.approx([*ramp, 1, 1, 1, 1, *ramp, *[1] * 8])
    assert warmup_steps(cycle, 10) == 12  # the last ramp ends there


@pytest.mark.parametrize("length", [0.01, 0.5, 1.5])
def test_fractions_of_an_epoch_make_at_least_one_step(length: float) -> None:
    steps = warmup_steps(Linear(length=length), 10)
    assert steps == max(1, round(10 * length)) and kl_weight(Linear(length=length), steps - 1, 10) == pytest.approx(1)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_anneals_as_its_row_says(name: str) -> None:
    method = example(name)
    assert warmup_steps(method.schedule, 7) == 7 * METHODS[name].anneal
    if method.latents:
        assert warmup_steps(example(name, anneal=3).schedule, 7) == 21


@pytest.mark.parametrize(
    "values", [{"length": 0.0}, {"length": float("inf")}, {"start": 2.0}, {"start": -0.1}, {"end": float("nan")}]
)
def test_impossible_ramps_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Linear(**{"length": 1.0, **values})  # type: ignore[arg-type]
