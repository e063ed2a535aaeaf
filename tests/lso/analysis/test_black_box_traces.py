"""The trace of a search: best so far, design, steps, and bands over seeds."""

import pytest
import torch
from torch import Tensor

import lso
from lso.analysis.black_box_traces import band, last_step, progress_axis, trace_search
from tests.lso.black_box_cases import objective, search, seeds, uniform
from tests.lso.example_decoders import draws


def test_a_course_repeats_what_the_result_says() -> None:
    result = seeds()[0]
    found = trace_search(result)
    assert found.best == result.best_value == float(found.best_so_far[-1]) == float(found.value.max())
    assert result.best is not None and found.best_call == result.best.call
    assert found.design_best == float(result.value[:10].max()) and found.counters["unique"] == 24
    assert found.typical_share == 1 and not found.atypical_best and not found.behind


def test_what_was_told_beforehand_stands_for_the_design() -> None:
    aim = objective()
    z = draws(2 * aim.dim, aim.dim, seed=5)  # as many as the design of a trust region would have
    value = aim(z).detach()
    found = trace_search(lso.optimize(aim, "turbo", 6, 2, known=(z, value)))
    assert found.design == 0 and not found.unsearched
    assert found.design_best == found.known_best == float(value.max())
    assert found.in_design == (found.best == found.known_best) and found.behind == (found.best <= found.known_best)
    part = trace_search(lso.optimize(aim, "random", 6, 2, known=(z[:3], value[:3])))
    assert part.design == 10 - 3 and part.design_best == max(part.best, float(value[:3].max()))


def test_codes_outside_the_prior_are_counted_as_atypical() -> None:
    found = trace_search(search(uniform, bounds=6.0))
    assert found.typical_share < 0.5


def test_the_last_step_is_one_for_prior_draws_and_nothing_for_a_search_that_stands_still() -> None:
    z = draws(400, 20)
    assert last_step(z, draws(400, seed=2)) == pytest.approx(1, abs=0.1)
    z[1:] = z[:1] + 1e-4 * draws(399, 20)
    assert 0 < last_step(z, torch.arange(400.0)) < 1e-3
    assert last_step(z[:0], torch.zeros(0)) != last_step(z[:0], torch.zeros(0))  # NaN


def test_a_band_is_the_median_and_the_range_of_what_the_seeds_had() -> None:
    traces = [trace_search(result) for result in seeds()]
    found = band(traces, "calls")
    assert found.x.tolist() == list(range(1, 25))
    every = torch.stack([one.best_so_far for one in traces])
    for row, wanted in (
        (found.median, every.median(0).values),
        (found.low, every.amin(0)),
        (found.high, every.amax(0)),
    ):
        assert torch.equal(row, wanted)


def test_a_band_over_seconds_never_runs_ahead_of_the_clock() -> None:
    one = trace_search(seeds()[0])
    found = band([one], "seconds")

    def at(second: float) -> Tensor:
        done = one.best_so_far[progress_axis(one, "seconds") <= second]
        return done[-1] if len(done) else torch.tensor(torch.nan, dtype=torch.float64)

    wanted = torch.stack([at(float(second)) for second in found.x])
    assert torch.equal(found.median.nan_to_num(), wanted.nan_to_num())


def test_a_search_that_ended_early_keeps_its_best() -> None:
    short, long = trace_search(search(budget=5)), trace_search(seeds()[1])
    found = band([short, long], "unique")
    assert float(found.x[-1]) == 24
    assert {float(found.low[-1]), float(found.high[-1])} == {short.best, long.best}
