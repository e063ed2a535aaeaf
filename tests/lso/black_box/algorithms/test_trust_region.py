"""TuRBO's proposals."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lso._botorch import importing_botorch
from lso.black_box.algorithms.turbo import (
    ACQUISITIONS,
    LocalModel,
    RegionRules,
    TurboSettings,
    build_turbo,
    replay_region,
)
from lso.black_box.ask_tell import BlackBox, make_optimizer
from lso.black_box.bayesopt.candidates import draw_design
from lso.black_box.bayesopt.surrogates import isolated_botorch
from lso.space import LatentSpace
from lso.vae.errors import UsageError
from lso.vae.utils.random import generator, mix_seed
from tests.lso.example_decoders import draws

QUICK = {"candidates": 64, "local": 24}


def bowl(z: Tensor) -> Tensor:
    return -((z - 0.5) ** 2).sum(1)


def turbo(space: LatentSpace | None = None, **options: object) -> BlackBox:
    return make_optimizer("turbo", space or LatentSpace(4), **{**QUICK, **options})  # type: ignore[arg-type]


def told(n: int = 16, score: Callable[[Tensor], Tensor] = bowl, **options: object) -> BlackBox:
    """An optimizer beyond its design."""
    opt = turbo(**options)  # type: ignore[arg-type]
    z = draws(n, 4)
    opt.tell(z, score(z))
    return opt


def box_of(opt: BlackBox) -> LocalModel:
    settings: TurboSettings = next(
        cell.cell_contents for cell in opt._propose.__closure__ or () if isinstance(cell.cell_contents, TurboSettings)
    )
    history = opt.history()
    with isolated_botorch(0):
        return LocalModel(history, replay_region(history, settings.rules), settings)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_the_same_record_asks_the_same_and_no_random_state_moves(acquisition: str) -> None:
    state = torch.get_rng_state()
    opt = told(acquisition=acquisition)
    opt.register_ask(draws(1, 4, seed=3))  # pending
    record = opt.history()
    first = opt._propose(record, 2, 7)
    assert torch.equal(first, turbo(acquisition=acquisition)._propose(record, 2, 7))
    assert not torch.equal(first[:1], opt._propose(record, 1, 8)) and len(torch.unique(first, dim=0)) == 2
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("chart", ["box", "cdf", "active"])
@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_proposals_lie_in_the_box_around_the_best_point_and_in_the_bounds(chart: str, acquisition: str) -> None:
    space = LatentSpace(4, chart=chart, active=torch.tensor([True, True, False, True]))
    z = draws(16, 4) * (space.active if chart == "active" else 1)
    opt = make_optimizer("turbo", space, acquisition=acquisition, guard=None, **QUICK)  # type: ignore[arg-type]
    opt.tell(z, bowl(z))
    box, asked = box_of(opt), opt.ask(2)
    u = space.to_unit(asked)
    assert bool(((u >= box.bounds[0] - 1e-9) & (u <= box.bounds[1] + 1e-9)).all())
    assert torch.equal(asked, space.clip(asked)) and (chart != "active" or bool((asked[:, 2] == 0).all()))
    torch.testing.assert_close(box.middle, space.to_unit(z[bowl(z).argmax()]))


def test_sides_follow_the_length_scales_and_keep_the_volume() -> None:
    opt = told(60, lambda z: torch.sin(3 * z[:, 0]), guard=None, local=60)  # only the first dimension matters
    z = torch.zeros(1, 4, dtype=torch.float64)
    z[0, 0] = torch.pi / 6  # the best of all, far from the bounds
    opt.tell(z, [1.0])
    box = box_of(opt)
    scales = box.terms.surrogate.lengthscales
    assert int(scales.argmin()) == 0
    free = 0.8 * scales / scales.log().mean().exp()
    assert float(free.log().mean().exp()) == pytest.approx(0.8)
    side = box.bounds[1] - box.bounds[0]
    assert bool((side <= free + 1e-9).all()) and float(side[0]) == pytest.approx(float(free[0]))


def test_every_candidate_moves_some_coordinates_and_any_can_be_the_only_one() -> None:
    space = LatentSpace(100)
    opt = make_optimizer("turbo", space, **QUICK)  # type: ignore[arg-type]
    z = draws(8, 100)
    opt.tell(torch.cat([z] * 8) + 1e-3 * draws(64, 100, seed=2), [float(i) for i in range(64)])
    box = box_of(opt)
    moved = box.candidates(2000, torch.Generator().manual_seed(0)) != box.middle
    count = moved.sum(1).double()
    # Binomial(100, 0.2): standard deviation 4.
    assert abs(float(count.mean()) - 20) < 5 * 4 / 2000**0.5 and int(count.min()) >= 1
    share = moved.double().mean(0)
    assert float((share - 0.2).abs().max()) < 5 * (0.16 / 2000) ** 0.5  # the last coordinate too


def test_infeasible_points_push_proposals_away() -> None:
    z = draws(40, 4)
    walled = torch.where(z[:, 0] > 0, torch.nan, bowl(z))
    shares = {}
    for name, value in (("free", bowl(z)), ("walled", walled)):
        opt = turbo(guard=None, local=40)
        opt.tell(z, value)
        shares[name] = float((opt.ask(32)[:, 0] > 0).double().mean())
    assert shares["walled"] < 0.3 < shares["free"]


def test_where_a_design_and_more_found_no_value_the_model_of_feasibility_is_asked_as_by_gp() -> None:
    space, failed = LatentSpace(2), draws(16, 2) * 0.3 - 1
    for count, learns in ((7, False), (16, True)):
        opt, gp = (make_optimizer(name, space, initial=4, seed=3) for name in ("turbo", "gp"))
        for box in (opt, gp):
            box.tell(failed[:count], None, "failed")
        drawn = draw_design(opt.history(), 8, "prior", generator(mix_seed(opt.seed, "ask", 0), "design"))
        assert torch.equal(opt.ask(8), gp.ask(8) if learns else drawn)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_one_value_or_equal_values_are_enough(acquisition: str) -> None:
    for n in (1, 10):
        opt = turbo(acquisition=acquisition, initial=1)
        opt.tell(draws(n, 4), [2.0] * n)
        z = opt.ask(2)
        assert bool(torch.isfinite(z).all()) and len(torch.unique(z, dim=0)) == 2


def test_pending_points_keep_the_expected_improvement_elsewhere() -> None:
    opt = told(acquisition="qlognei")
    first = opt._propose(opt.history(), 1, 3)
    opt.register_ask(first)
    assert float((opt._propose(opt.history(), 1, 3) - first).norm()) > 1e-2


def test_guards_hold() -> None:
    space = LatentSpace(4)
    edge = torch.tensor([[2.1, 2.1, 2.1, 2.1]], dtype=torch.float64)  # just typical, the score rises outwards
    norms = {}
    for guard in ("ball", "typical", None):
        opt = make_optimizer("turbo", space, guard=guard, initial=1, **QUICK)  # type: ignore[arg-type]
        z = torch.cat([edge + 0.05 * draws(10, 4), edge])
        opt.tell(z, z.sum(1))
        z = opt.ask(8)
        norms[guard] = float(z.norm(dim=1).mean())
        assert guard != "ball" or bool(space.typical(z).all())
    assert norms["typical"] < norms[None]


def test_a_collapsed_region_is_followed_by_a_new_design() -> None:
    opt = turbo(initial=2, patience=1, guard=None)
    z = opt.ask(2)
    opt.tell(z, [1.0, 1.0])
    for _ in range(7):
        z = opt.ask(1)
        opt.tell(z, [0.0])
    before = opt.history()
    begun = draw_design(before, 2, "prior", generator(mix_seed(0, "ask", 8), "design"))
    assert torch.equal(opt.ask(2), begun) and replay_region(before, RegionRules(design=2, patience=1)).restarts == 1


def test_options_are_checked() -> None:
    for option, text in (
        ({"acquisition": "ei"}, "unknown acquisition"),
        ({"guard": "soft"}, "unknown guard"),
        ({"design": "grid"}, "unknown design"),
        ({"local": 1}, "local and candidates >= 2"),
        ({"initial": 0}, "expected initial >= 1 points, got 0"),
    ):
        with pytest.raises(UsageError, match=text):
            build_turbo(LatentSpace(3), **option)


@pytest.mark.slow
def test_hartmann6_is_solved_in_a_hundred_calls() -> None:
    with importing_botorch():
        from botorch.test_functions.synthetic import Hartmann

    problem = Hartmann(6, negate=True).double()  # its maximum 3.32237 is published

    def regret(seed: int) -> float:
        opt = make_optimizer("turbo", LatentSpace(6), seed=seed, guard=None)
        for _ in range(25):
            z = opt.ask(4)
            opt.tell(z, problem(((z + 3) / 6).clamp(0, 1)))
        best = opt.best()
        assert best is not None
        return 3.32237 - best[1]

    assert sorted(regret(seed) for seed in range(3))[1] <= 0.2
