import torch
from torch import Tensor

from lso.gradient import stopping
from tests.lso.example_decoders import draws


def changes(losses: Tensor, window: int) -> list[Tensor]:
    state = stopping.start_window(losses[0], window)
    return [stopping.observe(state, loss) for loss in losses[1:]]


def test_the_mean_change_is_over_the_last_window() -> None:
    losses = draws(12, 3)
    found = changes(losses, 4)
    steps = (losses[1:] - losses[:-1]).abs()
    for k in range(len(found)):
        if k < 3:
            assert bool(found[k].isinf().all())
        else:
            torch.testing.assert_close(found[k], steps[k - 3 : k + 1].mean(0))


def test_the_change_is_exactly_zero_only_where_the_loss_is_exactly_unchanged() -> None:
    losses = torch.tensor([1e16, 1.0, 1.0, 1.0, 1.0 + 2e-16 * 2], dtype=torch.float64)[:, None]
    assert [float(change) == 0 for change in changes(losses, 2)] == [False, False, True, False]


def test_a_loss_that_is_not_finite_never_counts_as_still() -> None:
    losses = torch.tensor([[torch.nan, torch.inf]]).expand(5, 2)
    assert not bool((changes(losses, 2)[-1] <= 1e9).any())


def test_dropping_rows_leaves_the_rule_of_the_others_as_it_was() -> None:
    losses, rows = draws(10, 5), torch.tensor([1, 4])
    state = stopping.start_window(losses[0], 3)
    for loss in losses[1:6]:
        stopping.observe(state, loss)
    stopping.keep_elements(state, rows)
    for step in range(6, 10):
        found = stopping.observe(state, losses[step, rows])
        assert torch.equal(found, changes(losses, 3)[step - 1][rows])
