"""A search read off at thresholds: on scripted losses, and against single runs that stop there."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lso.analysis.statistics import paired_bootstrap
from lso.decoders.decoder import Decoder
from lso.gradient.thresholds import ThresholdEnds, _ThresholdRecord, search_to_thresholds
from lso.objectives.latent_objective import LatentObjective
from lso.vae.errors import ShapeError, UsageError
from tests.lso.example_decoders import Planted, draws


def problem(targets: int = 4) -> tuple[LatentObjective, Tensor]:
    decoder = Decoder(Planted([1.0, 1.0, 0.5, 0.0]))
    return LatentObjective.reconstruct(decoder, decoder(draws(targets, 4))), draws(targets, 2, 4, seed=3)


def test_thresholds_are_met_at_the_ends_of_windows_that_decrease_by_no_more() -> None:
    """Two targets, one start: decreases 5, 0.4, 0.05, 0 and 1, 0.2, -0.1."""
    record = _ThresholdRecord((0.5, 0.1, 0.0), torch.zeros(2, 1, 1))
    losses = [(10.0, 3.0), (5.0, 2.0), (4.6, 1.8), (4.55, 1.9), (4.55, 0.0)]
    for i, pair in enumerate(losses):
        done = record.observe(100 * i, torch.tensor(pair)[:, None], torch.full((2, 1, 1), float(i)))
    ends = record.ends(100)
    assert done and ends.reached.all()
    assert ends.steps[:, :, 0].tolist() == [[200, 200], [300, 300], [400, 300]]
    assert ends.value[:, 0, 0].tolist() == pytest.approx([4.6, 4.55, 4.55]) and ends.value[2, 1, 0] == pytest.approx(
        1.9
    )
    assert ends.z[:, 0, 0, 0].tolist() == [2.0, 3.0, 4.0]
    # Sums: 13, 7, 6.4, 6.45: decreases 6, 0.6, -0.05.
    assert ends.together_steps[:, 0].tolist() == [300, 300, 300]


def test_a_threshold_beyond_the_cap_is_not_reached() -> None:
    objective, z0 = problem()
    ends = search_to_thresholds(objective, z0, [0.01, 0.0], lr=0.01, window=10, max_steps=25)
    assert not ends.reached[1].any() and (ends.steps[1] == 20).all() and len(ends.losses) == 3


def test_the_ends_are_those_of_a_run_that_stops_there() -> None:
    objective, z0 = problem()
    ends = search_to_thresholds(objective, z0, [1e-2, 1e-4], lr=0.05, window=20, max_steps=5000)
    assert ends.reached.all() and (ends.steps[1] >= ends.steps[0]).all()
    single = z0.clone().requires_grad_()
    adam = torch.optim.Adam([single], lr=0.05)
    for _ in range(int(ends.steps[0, 2, 1])):
        adam.zero_grad()
        objective(single).sum().backward()
        adam.step()
    torch.testing.assert_close(single[2, 1].detach(), ends.z[0, 2, 1], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(objective(ends.z[0]).detach(), ends.value[0], rtol=1e-6, atol=1e-9)


def test_a_caller_can_stop_between_windows() -> None:
    objective, z0 = problem()
    ends = search_to_thresholds(objective, z0, [0.0], lr=0.01, window=10, stop=lambda step: step >= 30)
    assert not ends.finished and (ends.steps == 30).all()


def test_what_has_stopped_leaves_the_batch_and_changes_no_other_search() -> None:
    objective, z0 = problem()
    options: Any = {"lr": 0.05, "window": 20, "max_steps": 5000}
    whole = search_to_thresholds(objective, z0, [1e-2, 1e-4], **options)
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        value = LatentObjective.forward

        def forward(self: LatentObjective, z: Tensor) -> Tensor:
            sizes.append(z[..., 0].numel())
            return value(self, z)

        patch.setattr(LatentObjective, "forward", forward)
        left = search_to_thresholds(objective, z0, [1e-2, 1e-4], as_one=False, **options)
    assert sizes[0] == 8 and sizes[-1] == 1
    assert sum(sizes) <= int(whole.steps[-1].sum()) + 8 * len(left.losses)  # and once more at the end of a window
    assert torch.equal(left.steps, whole.steps) and torch.equal(left.reached, whole.reached)
    torch.testing.assert_close(left.z, whole.z, rtol=1e-6, atol=1e-8)
    assert not left.together_reached.any() and not left.together_steps.any() and whole.together_reached.all()


@pytest.mark.parametrize("cut", [0, 30, 40, 110])
@pytest.mark.parametrize("as_one", [True, False])
def test_a_run_that_was_ended_goes_on_to_the_same_ends(cut: int, as_one: bool) -> None:
    objective, z0 = problem()

    def search(**more: Any) -> ThresholdEnds:
        options: Any = {"lr": 0.05, "window": 20, "max_steps": 5000, "as_one": as_one}
        return search_to_thresholds(objective, z0, [1e-2, 1e-4], **options, **more)

    whole, part = search(), search(stop=lambda step: step >= cut)
    resumed = search(begun=part)
    assert not part.finished and resumed.finished and not resumed.state
    for name in ("steps", "reached", "value", "z", "together_steps", "losses"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name)), name
    assert search(begun=whole, stop=lambda step: True) is whole


class Broken(nn.Module):
    """Decodes to NaN away from the origin."""

    latent_dim = 2

    def forward(self, z: Tensor) -> Tensor:
        return torch.where(z.norm(dim=1, keepdim=True) > 1, torch.nan, z)


def test_losses_that_are_not_finite_end() -> None:
    objective = LatentObjective.reconstruct(Decoder(Broken()), torch.full((1, 2), 9.0))
    ends = search_to_thresholds(objective, torch.zeros(1, 1, 2), [0.0], lr=0.5, window=5, max_steps=1000)
    assert ends.reached.all() and int(ends.steps.max()) < 30


def test_settings_out_of_range_are_refused() -> None:
    objective, z0 = problem()
    for levels, lr, max_steps in (([-1.0], 0.1, 100), ([], 0.1, 100), ([0.0], 0.0, 100), ([0.0], 0.1, 5)):
        with pytest.raises(UsageError):
            search_to_thresholds(objective, z0, levels, lr=lr, max_steps=max_steps)


def test_paired_interval_covers_the_mean_as_often_as_it_says() -> None:
    random = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(200):
        found = paired_bootstrap(0.3 + torch.randn(50, generator=random), draws=1000)
        inside += found.low <= 0.3 <= found.high
    assert 0.88 <= inside / 200 <= 0.98
    sure = paired_bootstrap(torch.tensor([1.0, 1.2, 0.9]))
    assert sure.sign == 1 and sure == paired_bootstrap(torch.tensor([1.0, 1.2, 0.9]))
    assert paired_bootstrap(-torch.tensor([1.0, 1.2, 0.9])).sign == -1
    assert paired_bootstrap(torch.tensor([1.0, -1.0, 0.1])).sign == 0
    with pytest.raises(ShapeError, match="at least one target"):
        paired_bootstrap(torch.zeros(0))
