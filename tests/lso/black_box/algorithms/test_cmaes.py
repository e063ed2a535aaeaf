"""CMA-ES as a fold over the record."""

import sys

import numpy
import pytest
import torch
from torch import Tensor

from lso.black_box.ask_tell import BlackBox, History, make_optimizer
from lso.space import LatentSpace
from lso.vae.errors import UsageError
from tests.lso.example_decoders import draws

pytest.importorskip("cma")
CENTRE = torch.linspace(-1, 1, 5, dtype=torch.float64)


def sphere(z: Tensor) -> Tensor:
    return -((z - CENTRE) ** 2).sum(1)


def searched(asks: int, n: int, space: LatentSpace | None = None, **options: object) -> BlackBox:
    opt = make_optimizer("cmaes", space or LatentSpace(5), **options)  # type: ignore[arg-type]
    for _ in range(asks):
        z = opt.ask(n)
        opt.tell(z, sphere(z))
    return opt


@pytest.mark.parametrize("n", [1, 20])  # less and more than a generation
def test_it_finds_the_optimum_at_any_size_of_ask(n: int) -> None:
    best = searched(600 // n, n).best()
    assert best is not None and best[1] > -1e-3  # prior draws reach -0.5 in 600


def test_a_fresh_optimizer_with_the_same_record_asks_the_same_and_global_states_rest() -> None:
    before, torch_before = numpy.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    opt, other = searched(30, 3), make_optimizer("cmaes", LatentSpace(5))
    record = opt.history()
    first = opt._propose(record, 4, 11)
    assert torch.equal(first, other._propose(record, 4, 11))
    assert not torch.equal(first, other._propose(record, 4, 12))
    # The memo of another record does not leak into this one.
    other._propose(searched(7, 5).history(), 4, 11)
    assert torch.equal(first, other._propose(record, 4, 11))
    assert (before == numpy.random.get_state()[1]).all()  # type: ignore[index]
    assert torch.equal(torch_before, torch.get_rng_state())


def of(z: Tensor, gain: Tensor, ask: Tensor, space: LatentSpace | None = None) -> Tensor:
    """2,000 proposals after a record."""
    space = space or LatentSpace(5)
    none = torch.zeros(0, space.dim, dtype=torch.float64)
    history = History(space=space, z=z, gain=gain, ask=ask, pending=none, number=9)
    return make_optimizer("cmaes", space)._propose(history, 2000, 1)


def test_it_starts_at_the_prior_or_at_the_best_known_point() -> None:
    z, zero = draws(8, 5), torch.zeros(8, dtype=torch.long)
    assert float(of(z[:0], z[:0, 0], zero[:0]).mean(0).abs().max()) < 5 * 0.7 / 2000**0.5
    gain = torch.tensor([0.0, 1, 2, torch.nan, 9, 4, 5, 6], dtype=torch.float64)
    known = of(z, gain, zero - 1)
    inside = z[4].clamp(-3, 3)
    assert float((known.mean(0) - inside).abs().max()) < 0.1
    # A known point told after the first asked one does not move the start, and counts only where it beats all.
    late = torch.cat([zero[:7], zero[:1] - 1])
    assert torch.equal(of(z, gain, late), of(z[:7], gain[:7], zero[:7]))


def test_infeasible_points_rank_last_and_never_pull_the_mean() -> None:
    good, bad = 0.3 * draws(4, 5) + CENTRE, 0.3 * draws(8, 5, seed=2) - CENTRE
    z, ask = torch.cat([good, bad]), torch.zeros(12, dtype=torch.long)
    gain = torch.cat([sphere(good), torch.full((8,), torch.nan, dtype=torch.float64)])
    moved = of(z, gain, ask).mean(0)
    assert float((moved - CENTRE).norm()) < float(CENTRE.norm())
    # All infeasible: no generation closes, so nothing moves.
    assert torch.equal(of(z, gain * torch.nan, ask), of(z[:0], gain[:0], ask[:0]))


def test_equal_values_and_repeated_tells_do_no_harm() -> None:
    opt = make_optimizer("cmaes", LatentSpace(5))
    for _ in range(20):
        z = opt.ask(3)
        opt.tell(z, [1.0] * 3)
        before = opt._propose(opt.history(), 2, 3)
        opt.tell(z, [1.0] * 3)
        assert torch.equal(before, opt._propose(opt.history(), 2, 3)) and bool(torch.isfinite(before).all())


def test_proposals_stay_in_the_box_and_in_the_typical_ball_unless_told() -> None:
    space = LatentSpace(5, bounds=2.5)
    far = torch.full((1, 5), 2.5, dtype=torch.float64)
    for guard in ("ball", None):
        opt = make_optimizer("cmaes", space, guard=guard, sigma=2.0)
        opt.tell(far, [1.0])
        z = opt.ask(200)
        assert bool((z.abs() <= 2.5).all()) and bool(space.typical(z).all()) == (guard == "ball")


def test_the_active_chart_leaves_dead_dimensions_at_the_prior_mean() -> None:
    space = LatentSpace(5, active=torch.tensor([True, False, True, True, False]), chart="active")
    opt = searched(100, 4, space)
    assert bool((opt.history().z[:, ~space.active] == 0).all())
    best = opt.best()
    assert best is not None and best[1] == pytest.approx(-0.25 - 1, abs=1e-3)  # what the dead ones cost


def test_a_search_that_shrank_to_nothing_starts_anew_and_elsewhere_for_other_seeds() -> None:
    after = []
    for seed in (0, 1):
        opt, spread = make_optimizer("cmaes", LatentSpace(5), seed=seed), [1.0]
        while spread[-1] < 100 * min(spread):
            z = opt.ask(8)
            opt.tell(z, sphere(z))
            spread.append(float(z.std(0).max()))
            assert len(spread) < 300
        after.append(opt._propose(opt.history(), 500, 1).mean(0))
    assert min(spread) < 5e-3 and float((after[0] - after[1]).norm()) > 0.5


def test_what_cannot_be_served_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for option, text in (
        ({"guard": "bal"}, "unknown guard of cmaes"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"population": 2}, ">="),
    ):
        with pytest.raises(UsageError, match=text):
            make_optimizer("cmaes", LatentSpace(5), **option)
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(UsageError, match=r"cmaes needs the package cma.*\nInstall it: pip install 'lso\[cma\]'"):
        make_optimizer("cmaes", LatentSpace(5))
