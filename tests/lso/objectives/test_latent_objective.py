from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from lso.vae.distributions.gaussian import LOG_2PI, prior_log_prob
from lso.vae.errors import ShapeError, UsageError
from tests.lso.botorch_api import (
    BaseTestProblemTestCaseMixIn,
    BotorchTestCase,
    ConstrainedTestProblemTestCaseMixin,
    fmin_l_bfgs_b_batched,
    gen_candidates_scipy,
    numpy_wrapper,
    optimize_acqf,
)
from tests.lso.example_decoders import EVENT, SHIPPED, draws, planted, reconstruction, shipped

SHAPES = [(4,), (5, 4), (4, 3, 4)]


def brightness(x: Tensor) -> Tensor:
    return torch.tanh(x).flatten(1).sum(1)


def peak(x: Tensor) -> Tensor:
    """Largest (0) where the decoded datum is that of z = 0.5."""
    found: Tensor = -((x - planted()(torch.full((1, 4), 0.5, dtype=torch.float64)).to(x)) ** 2).flatten(1).sum(1)
    return found


def bright(**options: Any) -> LatentObjective:
    return LatentObjective(planted(), brightness, **options)


# --- shapes, types, gradients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [bright, lambda: reconstruction(1)])
def test_any_leading_axes_and_the_callers_dtype(
    shape: tuple[int, ...], dtype: torch.dtype, make: Callable[[], LatentObjective]
) -> None:
    objective, z = make(), draws(*shape, dtype=dtype)
    value = objective(z)
    assert value.shape == shape[:-1] and value.dtype == dtype
    flat = objective(z.reshape(-1, 4)).reshape(shape[:-1])
    torch.testing.assert_close(value, flat, rtol=1e-6 if dtype == torch.float32 else 1e-10, atol=0)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (3, 2, 2, 4)])
def test_targets_run_along_the_first_axis(shape: tuple[int, ...]) -> None:
    objective, z = reconstruction(3), draws(*shape)
    assert objective.targets is not None
    residual = planted()(z) - objective.targets.reshape(3, *(1,) * (len(shape) - 2), *EVENT)
    torch.testing.assert_close(objective(z), (residual**2).sum((-3, -2, -1)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("maximize", [False, True])
def test_gradients_match_finite_differences_on_a_toy(maximize: bool) -> None:
    z = draws(3, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(bright(maximize=maximize), z)
    assert torch.autograd.gradcheck(reconstruction(3), z)


@pytest.mark.parametrize("loss", ["nll", "sse", "bce"])
@pytest.mark.parametrize(("name", "skip", "likelihood"), SHIPPED)
def test_gradients_match_finite_differences_for_every_shipped_decoder(
    name: str, skip: bool, likelihood: str, loss: str
) -> None:
    model = shipped(name, skip, likelihood).double()
    targets = (draws(2, 1, 8, 8) > 0).double()
    objective = LatentObjective.reconstruct(Decoder(model), targets, loss)
    assert torch.autograd.gradcheck(objective, draws(2, 1, 3, seed=4).requires_grad_(), eps=1e-7, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("name", "skip", "likelihood"), SHIPPED)
def test_values_of_a_batch_equal_those_alone_for_every_shipped_decoder(name: str, skip: bool, likelihood: str) -> None:
    model = shipped(name, skip, likelihood).double()
    objective = LatentObjective.reconstruct(Decoder(model), (draws(4, 1, 8, 8) > 0).double(), "bce")
    z = draws(4, 3, 3)
    alone = [[objective.take([(t, s)])(z[t, s]) for s in range(3)] for t in range(4)]
    torch.testing.assert_close(objective(z), torch.tensor(alone, dtype=torch.float64), rtol=1e-10, atol=0)


def test_a_float32_decoder_serves_a_float64_search() -> None:
    objective = LatentObjective.reconstruct(Decoder(shipped("mlp", False, "bernoulli")), torch.ones(1, 1, 8, 8), "bce")
    loss, grad = objective.loss_and_grad(draws(3, 3))
    assert loss.dtype == grad.dtype == torch.float64 and bool(grad.any())


def test_chunks_give_the_losses_and_gradients_of_the_whole() -> None:
    small = LatentObjective.reconstruct(planted(batch_size=2), planted()(draws(5, 4, seed=7)))
    whole = LatentObjective.reconstruct(planted(), planted()(draws(5, 4, seed=7)))
    for part, all_at_once in zip(small.loss_and_grad(draws(5, 4)), whole.loss_and_grad(draws(5, 4)), strict=True):
        torch.testing.assert_close(part, all_at_once, rtol=1e-12, atol=1e-14)


# --- sense, take, losses ----------------------------------------------------------------------------------------------


def test_the_sense_follows_botorch_and_values_stay_the_users() -> None:
    z = draws(5, 4)
    for maximize in (False, True):
        objective = bright(maximize=maximize)
        assert objective.negate == maximize and objective.is_minimization_problem == (not maximize)
        assert torch.equal(objective(z), brightness(planted()(z)))
        assert torch.equal(objective(z), -objective.evaluate_true(z) if maximize else objective.evaluate_true(z))
        assert torch.equal(objective.loss_and_grad(z)[0], -objective(z) if maximize else objective(z))


def test_a_score_may_state_its_sense() -> None:
    class Reward:
        maximize = True

        def __call__(self, x: Tensor) -> Tensor:
            return brightness(x)

    assert LatentObjective(planted(), Reward()).maximize
    assert not LatentObjective(planted(), Reward(), maximize=False).maximize


def test_take_is_the_objective_of_those_pairs() -> None:
    objective, z = reconstruction(3), draws(3, 5, 4)
    pairs = torch.tensor([[2, 4], [0, 1], [2, 0]])
    taken = objective.take(pairs)(z[pairs[:, 0], pairs[:, 1]])
    torch.testing.assert_close(taken, objective(z)[pairs[:, 0], pairs[:, 1]], rtol=1e-12, atol=0)
    assert torch.equal(objective.take(pairs[:, 0]).targets, objective.take(pairs).targets)  # type: ignore[arg-type]
    plain = bright()
    assert plain.take(pairs) is plain


def test_bce_comes_from_logits_where_there_are_some() -> None:
    model = shipped("mlp", False, "bernoulli").double()
    x = (draws(2, 1, 8, 8) > 0).double()
    far = 1e3 * draws(2, 3)  # probabilities round to 0 and 1 here
    objective = LatentObjective.reconstruct(Decoder(model), x, "bce")
    torch.testing.assert_close(objective(far), -model.decode(far).log_prob(x), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "skip", "likelihood"), SHIPPED)
def test_nll_with_the_prior_is_the_joint_under_the_model(name: str, skip: bool, likelihood: str) -> None:
    model, z = shipped(name, skip, likelihood).double(), draws(2, 5, 3)
    x = torch.rand(2, *model.shape, dtype=torch.float64)
    objective = LatentObjective.reconstruct(Decoder(model), x, "nll", prior_weight=1.0)
    with torch.no_grad():
        log_p = model.decode(z.flatten(0, 1)).log_prob(x.repeat_interleave(5, 0)) + prior_log_prob(z.flatten(0, 1))
        constant = 0.5 * 3 * LOG_2PI
    torch.testing.assert_close(objective(z).flatten(), -log_p - constant, rtol=1e-10, atol=1e-10)


def test_the_prior_makes_a_code_worse_in_either_sense() -> None:
    z = draws(5, 4)
    plain, loss, gain = bright(), bright(prior_weight=2.0), bright(prior_weight=2.0, maximize=True)
    torch.testing.assert_close(loss(z) - plain(z), (z**2).sum(-1))
    torch.testing.assert_close(plain(z) - gain(z), (z**2).sum(-1))
    torch.testing.assert_close(loss.take([0])(z), loss(z))


def test_nll_needs_a_likelihood() -> None:
    with pytest.raises(UsageError, match="nll needs a decoder that gives a likelihood"):
        LatentObjective.reconstruct(Decoder(planted()), torch.zeros(1, *EVENT), "nll")
    with pytest.raises(UsageError, match="prior weight"):
        bright(prior_weight=-1.0)


def test_bytes_are_scaled_and_a_single_datum_is_one_target() -> None:
    decoder = planted()
    one = LatentObjective.reconstruct(decoder, torch.full(EVENT, 255, dtype=torch.uint8))
    assert one.targets is not None and torch.equal(one.targets, torch.ones(1, *EVENT))


def test_a_loss_may_be_a_function() -> None:
    decoder = planted()
    objective = LatentObjective.reconstruct(
        decoder, decoder(draws(2, 4)), lambda x, y: (x - y).abs().flatten(1).amax(1)
    )
    assert objective(draws(2, 4)).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_objects_are_scored_one_by_one_and_none_is_invalid() -> None:
    arrays = LatentObjective(planted(), lambda objects: [float(a.max()) for a in objects], on="objects", maximize=True)
    assert arrays(draws(4, 3, 4)).shape == (4, 3) and not arrays.differentiable
    words = Decoder(lambda z: ["x" * int(row[0] > 0) for row in z], latent_dim=4)
    scored = LatentObjective(words, lambda texts: [len(t) or None for t in texts], on="objects")(draws(6, 4))
    assert torch.equal(scored.isnan(), draws(6, 4)[:, 0] <= 0)


# --- constraints and strictness ---------------------------------------------------------------------------------------


def test_slack_is_nonnegative_where_the_code_is_typical() -> None:
    objective, z = bright(), torch.tensor([[0.0] * 4, [1.0] * 4, [9.0] * 4], dtype=torch.float64)
    assert objective.evaluate_slack(z).shape == (3, 1)
    assert objective.is_feasible(z).tolist() == objective.space.typical(z).tolist() == [True, True, False]


def test_it_evaluates_outside_its_bounds_unless_strict() -> None:
    z = torch.full((4,), 3.5, dtype=torch.float64)
    assert bool(bright()(z).isfinite())
    with pytest.raises(ValueError, match="within the bounds"):
        bright(strict=True)(z)


# --- BoTorch ----------------------------------------------------------------------------------------------------------


class TestAsBoTorchProblem(BotorchTestCase, BaseTestProblemTestCaseMixIn, ConstrainedTestProblemTestCaseMixin):
    """BoTorch's own suites for test problems, on strict objectives of both senses."""

    functions: Any = tuple(bright(strict=True, maximize=maximize) for maximize in (False, True))

    def test_worst_feasible_value(self) -> None:
        raise SkipTest("an objective does not know its worst feasible value")


def test_members_of_a_test_problem() -> None:
    objective = bright(space=LatentSpace(4, bounds=2.0))
    assert objective.dim == 4 and objective.num_objectives == 1 and objective.continuous_inds == [0, 1, 2, 3]
    assert objective.bounds.dtype == torch.float64 and objective.bounds.tolist() == [[-2.0] * 4, [2.0] * 4]
    assert "bounds" in dict(objective.named_buffers()) and list(objective.parameters()) == []


def test_moving_an_objective_leaves_the_frozen_weights_alone() -> None:
    objective = bright().to(torch.float32)
    objective.decoder.verify()
    assert objective.bounds.dtype == torch.float32 and objective.decoder.dtype == torch.float64


@pytest.mark.parametrize("parallel", [True, False])
def test_gen_candidates_scipy_takes_the_objective_unchanged(parallel: bool) -> None:
    objective = LatentObjective(planted(), peak, maximize=True)
    found, value = gen_candidates_scipy(
        draws(6, 1, 4), objective, lower_bounds=-3.0, upper_bounds=3.0, use_parallel_mode=parallel
    )
    assert found.shape == (6, 1, 4) and float(value.max()) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(found[value.argmax(), 0], torch.full((4,), 0.5, dtype=torch.float64), rtol=0, atol=1e-3)
    objective.decoder.verify()


def test_gen_candidates_scipy_searches_several_targets_as_one_problem() -> None:
    objective = reconstruction(3)
    ascent = partial(lambda o, z: -o(z), objective)  # BoTorch's acquisition functions are maximized
    found, value = gen_candidates_scipy(0.3 * draws(3, 2, 4), ascent, use_parallel_mode=False)
    assert found.shape == (3, 2, 4) and value.shape == (3, 2) and float(value.amax(1).min()) > -1e-4


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_batched_lbfgs_takes_the_objective_unchanged(wrapped: bool) -> None:
    objective, z0 = reconstruction(1), draws(6, 4)
    function = partial(numpy_wrapper(z0.shape, z0.device, z0.dtype, True), f=objective, fixed_features=None)
    z, loss, results = fmin_l_bfgs_b_batched(
        function if wrapped else objective.value_and_grad, z0.numpy(), pass_batch_indices=True
    )
    assert z.shape == (6, 4) and loss.shape == (6,) and all(result["success"] for result in results)
    np.testing.assert_allclose(z[loss.argmin()], draws(1, 4, seed=7)[0], atol=1e-3)


def test_the_batched_lbfgs_keeps_targets_apart_while_the_batch_shrinks() -> None:
    objective, z0 = reconstruction(3), 0.3 * draws(3, 4)
    z, loss, _ = fmin_l_bfgs_b_batched(objective.value_and_grad, z0.numpy(), pass_batch_indices=True)
    assert loss.max() < 1e-6
    np.testing.assert_allclose(z, draws(3, 4, seed=7), atol=1e-3)


@pytest.mark.parametrize("maximize", [False, True])
def test_optimize_acqf_improves_in_the_objectives_sense(maximize: bool) -> None:
    score = peak if maximize else lambda x: -peak(x)
    acquisition = LatentObjective(planted(), score, maximize=maximize).acquisition()
    bounds = torch.tensor([[-3.0] * 4, [3.0] * 4], dtype=torch.float64)
    found, value = optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=64)
    assert found.shape == (1, 4) and float(value) == pytest.approx(0, abs=1e-5)


def test_the_acquisition_view_has_one_point_and_keeps_pending_ones() -> None:
    acquisition = reconstruction(3).take([1]).acquisition()
    z = draws(5, 1, 4)
    acquisition.set_X_pending(z[:, 0])
    assert acquisition.X_pending is not None and torch.equal(acquisition.X_pending, z[:, 0])
    assert torch.equal(acquisition(z), -reconstruction(3).take([1])(z[:, 0]))
    assert acquisition(z[0]).shape == (1,)
    bounds = torch.tensor([[-3.0] * 4, [3.0] * 4], dtype=torch.float64)
    pair, _ = optimize_acqf(acquisition, bounds, q=2, num_restarts=2, raw_samples=8, sequential=True)
    assert pair.shape == (2, 4)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "on", "text"),
    [
        (lambda x: None, "tensors", r"returned NoneType, expected a tensor \(3,\)"),
        (lambda x: [0.0] * 3, "tensors", r"returned list, expected a tensor \(3,\)"),
        (lambda x: x.sum(), "tensors", r"shape \(\) for 3 decoded data, expected \(3,\)"),
        (lambda x: x.flatten(1).sum(1, keepdim=True), "tensors", r"shape \(3, 1\)"),
        (lambda objects: 1.0, "objects", "returned float for 3 objects"),
        (lambda objects: [1.0], "objects", "returned 1 value for 3 objects"),
        (lambda objects: ["a"] * 3, "objects", "not a number"),
    ],
)
def test_scores_of_the_wrong_kind_are_told(score: Callable[[Any], Any], on: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        LatentObjective(planted(), score, on=on)(draws(3, 4))


def test_nan_scores_pass_through_as_nan() -> None:
    value = LatentObjective(planted(), lambda x: torch.full((len(x),), torch.nan))(draws(3, 4))
    assert bool(value.isnan().all())


def test_wrong_use_is_told_in_two_lines() -> None:
    with pytest.raises(ShapeError, match=r"expected codes \(..., 4\), got \(2, 3\)\n"):
        bright()(draws(2, 3))
    with pytest.raises(ShapeError, match=r"expected codes \(3, ..., 4\) for 3 targets, got \(2, 4\)\n"):
        reconstruction(3)(draws(2, 4))
    with pytest.raises(ShapeError, match=r"expected targets \(T >= 1, 1, 4, 4\), got \(2, 3, 4, 4\)"):
        LatentObjective.reconstruct(planted(), torch.zeros(2, 3, 4, 4))
    with pytest.raises(UsageError, match="needs one target, and this objective has 3"):
        reconstruction(3).acquisition()
    with pytest.raises(ShapeError, match="q=1"):
        bright().acquisition()(draws(5, 2, 4))
    with pytest.raises(UsageError, match="bce needs a decoder that gives values"):
        LatentObjective.reconstruct(planted(), 5 * planted()(draws(1, 4)), "bce")
    with pytest.raises(UsageError, match="unknown loss 'mse'"):
        LatentObjective.reconstruct(planted(), torch.zeros(1, *EVENT), "mse")
    with pytest.raises(UsageError, match="the space has 3 dimensions, the decoder 4"):
        bright(space=LatentSpace(3))
    with pytest.raises(UsageError, match="carry no gradient"):
        LatentObjective(planted(), lambda x: x.detach().flatten(1).sum(1)).loss_and_grad(draws(2, 4))
