"""The trust region on planted histories."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lso.black_box.algorithms.turbo import (
    INITIAL_LENGTH,
    MAX_LENGTH,
    MIN_LENGTH,
    RegionRules,
    RegionState,
    replay_region,
)
from lso.black_box.ask_tell import BlackBox, make_optimizer
from lso.space import LatentSpace
from lso.vae.errors import UsageError
from tests.lso.example_decoders import draws

RULES = RegionRules(design=2, patience=4)


def recorder(d: int = 4, **space: object) -> BlackBox:
    """An optimizer that only keeps the record; points are given by `ask`."""
    return make_optimizer("random", LatentSpace(d, **space))  # type: ignore[arg-type]


def ask(opt: BlackBox, z: Tensor, gain: Sequence[float | None] | None = None) -> RegionState:
    opt.register_ask(z)
    if gain is not None:
        opt.tell(z, gain)
    return replay_region(opt.history(), RULES)


def batches(count: int, n: int = 2, seed: int = 1) -> list[Tensor]:
    return list(0.5 * draws(count, n, 4, seed=seed))


def test_three_successes_double_the_sides_up_to_a_limit() -> None:
    opt = recorder()
    z = batches(10)
    assert ask(opt, z[0], [0.0, 0.0]).length == INITIAL_LENGTH  # the design counts for nothing
    lengths = [ask(opt, z[i], [float(i), -1.0]).length for i in range(1, 10)]
    assert lengths == [0.8, 0.8, 1.6, 1.6, 1.6, MAX_LENGTH, 1.6, 1.6, 1.6]
    assert replay_region(opt.history(), RULES).center == 18  # row of the best


def test_points_without_success_halve_them_and_a_success_in_between_starts_the_count_anew() -> None:
    opt = recorder()
    gains = [0.0, -1, -1, -1, 5, -1, 6, 7, 8]
    lengths = [ask(opt, z, [gain, -2.0]).length for z, gain in zip(batches(9), gains, strict=True)]
    assert lengths == [0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.8]


@pytest.mark.parametrize("q", [1, 2, 4])
def test_a_region_shrinks_after_equally_many_points_whatever_the_size_of_an_ask(q: int) -> None:
    opt = recorder()
    ask(opt, batches(1)[0], [1.0, 0.0])
    for z in draws(8 // q, q, 4):
        region = ask(opt, z, [0.0] * q)
    assert region.length == INITIAL_LENGTH / 4


def test_all_equal_values_are_failures_and_the_region_ends_and_begins_anew() -> None:
    opt, seen = recorder(), []
    for z in batches(18):
        seen.append(ask(opt, z, [1.0, 1.0]))
    ends = [i for i, region in enumerate(seen) if region.restarts]
    # One design ask, then two asks for each of the 7 halvings from 0.8 to below 0.5**7.
    assert ends[0] == 14 and min(region.length for region in seen) > MIN_LENGTH
    assert seen[14].rows == [] and seen[14].center is None and seen[14].in_design and seen[14].first == 15
    assert not seen[15].in_design and seen[15].rows == [30, 31] and seen[17].length == 0.4


def test_an_ask_counts_once_all_of_its_points_are_told_in_the_order_of_completion() -> None:
    opt = recorder()
    z = batches(4)
    ask(opt, z[0], [0.0, 0.0])
    for late in z[1:]:
        opt.register_ask(late)
    opt.tell(z[3], [3.0, 0.0])
    opt.tell(z[1][:1], [9.0])  # the first half of ask 1: may be the center, counts for nothing yet
    region = replay_region(opt.history(), RULES)
    assert (region.successes_in_row, region.failures_in_row, region.counted_asks, region.center) == (1, 0, 1, 4)
    opt.tell(z[2], [4.0, 0.0])
    assert replay_region(opt.history(), RULES).successes_in_row == 2  # better than 3: that of ask 1 is not complete
    opt.tell(z[1][1:], [0.0])
    assert replay_region(opt.history(), RULES).length == MAX_LENGTH


def test_lost_points_complete_an_ask_and_tells_again_change_nothing() -> None:
    opt = recorder()
    z = batches(2)
    ask(opt, z[0], [0.0, 0.0])
    opt.register_ask(z[1])
    opt.tell(z[1][:1], [1.0])
    opt.tell(z[1][1:], None, "lost")
    region = replay_region(opt.history(), RULES)
    assert region.successes_in_row == 1
    opt.tell(z[1][:1], [7.0])
    assert replay_region(opt.history(), RULES) == region


def test_a_value_told_after_a_failure_takes_its_place() -> None:
    opt = recorder()
    z = batches(1)[0]
    ask(opt, z, [0.0, None])
    opt.tell(z[1:], [5.0])
    region = replay_region(opt.history(), RULES)
    assert region.center == 2 and region.rows == [0, 2]


def test_the_center_is_the_best_typical_point_where_there_is_one() -> None:
    opt = recorder()
    far, near = torch.full((1, 4), 3.0, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    assert ask(opt, far, [9.0]).center == 0
    region = ask(opt, near, [1.0])
    assert region.center == 1
    assert replay_region(opt.history(), RegionRules(design=2, patience=4, typical=False)).center == 0


def test_known_data_stand_for_the_design_and_infeasible_points_for_no_center() -> None:
    opt = recorder()
    assert replay_region(opt.history(), RULES).in_design
    opt.tell(draws(3, 4), [None, None, None])
    assert replay_region(opt.history(), RULES).in_design
    opt.tell(draws(1, 4, seed=5), [1.0])
    region = replay_region(opt.history(), RULES)
    assert not region.in_design and region.center == 3 and region.rows == [0, 1, 2, 3]
    assert ask(opt, batches(1)[0], [None, None]).failures_in_row == 2


def test_an_ask_still_out_when_its_region_ends_stays_out_of_the_next() -> None:
    opt = recorder()
    z = batches(15)
    for one in z[:14]:
        ask(opt, one, [1.0, 1.0])
    late = z[0] + 1e-3  # around the center, as the last proposals are
    opt.register_ask(z[14])
    opt.register_ask(late)
    opt.tell(z[14], [1.0, 1.0])
    opt.tell(late, [2.0, 2.0])
    region = replay_region(opt.history(), RULES)
    assert region.restarts == 1 and region.rows == [] and region.in_design


def test_a_constant_added_to_the_score_changes_nothing() -> None:
    gains = draws(30, 2, seed=8).cumsum(0)
    regions = []
    for shift in (0.0, 1e6):
        opt = recorder()
        for z, gain in zip(batches(30), gains, strict=True):
            region = ask(opt, z, (gain + shift).tolist())
        regions.append(region)
    assert regions[0] == regions[1]


def test_rules_have_limits() -> None:
    for given in ({"design": 0}, {"patience": 0}, {"successes": 0}):
        counts = {"design": 2, "patience": 4, "successes": 3} | given
        name = next(iter(given)).replace("design", "initial")
        with pytest.raises(UsageError, match=rf"expected {name} >= 1 \w+, got 0"):
            RegionRules(design=counts["design"], patience=counts["patience"], successes=counts["successes"])
