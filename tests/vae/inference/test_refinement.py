"""Refinement: against brute-force unrolling, a scripted reverse pass, and the reference's batch-mean descent."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import Refinement, SemiAmortized, Svi
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.inference.posterior import count_draws, infer, posterior
from lso.vae.inference.refinement import Energy, frozen_statistics, refine, run_descent
from lso.vae.models.vae import VAE, build
from lso.vae.protocols import Posterior
from lso.vae.utils.random import generator
from tests.vae.small import example, small_model

K, B, D = 4, 6, 3
W = torch.tensor(0.7, dtype=torch.float64)


def model() -> VAE:
    """Small, double, with tanh-like curvature everywhere."""
    made = build(Architecture(name="mlp", latent_dim=D, width=8), False, (1, 8, 8)).double()
    for p in made.parameters():
        p.data.mul_(3.0)  # enough curvature for a wrong product to show
    return made


def data() -> tuple[Tensor, Tensor]:
    x = (torch.rand(B, 1, 8, 8, generator=generator(0, "x")) < 0.4).double()
    return x, torch.randn(K, B, D, generator=generator(0, "noise"), dtype=torch.float64)


def nelbo(made: VAE, x: Tensor, mean: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """The inner objective written out."""
    z = mean + torch.exp(0.5 * log_var) * eps
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    nll = nn.functional.binary_cross_entropy_with_logits(made.decoder(z, x).logits, x, reduction="sum")
    return nll + W * kl.sum()


def unrolled(spec: Refinement, made: VAE, x: Tensor, q: Posterior, noise: Tensor) -> DiagonalGaussian:
    """The same descent in a loop that autograd sees, its clip factors taken as constants."""
    point, velocity = torch.stack([q.mean, q.log_var]), torch.zeros(2, B, D, dtype=torch.float64)
    for eps in noise:
        parts = torch.autograd.grad(nelbo(made, x, point[0], point[1], eps), point, create_graph=True)[0] / spec.batch
        norm = parts.detach().norm(dim=2, keepdim=True)
        limit = spec.clip / math.sqrt(spec.batch)
        if spec.clip_over == "batch":
            norm, limit = parts.detach().flatten(1).norm(dim=1)[:, None, None], spec.clip
        factor = torch.minimum(torch.ones_like(norm), limit / norm)
        velocity = spec.momentum * velocity - factor * parts
        point = point + spec.step_size * velocity
    return DiagonalGaussian(point[0], point[1])


def outer(made: VAE, x: Tensor, q: DiagonalGaussian) -> list[Tensor]:
    """Gradients of a training loss on the refined posterior, in every weight."""
    z = q.mean + torch.exp(0.5 * q.log_var) * torch.randn(B, D, generator=generator(1, "z"), dtype=torch.float64)
    loss = (W * q.kl().sum(-1) - made.decode(z, x).log_prob(x)).mean()
    return list(torch.autograd.grad(loss, list(made.parameters())))


CLIPS = [("datum", 0.0), ("datum", 1e3), ("datum", 1.0), ("batch", 0.5)]


@pytest.mark.parametrize(("exact", "rtol"), [(True, 1e-6), (False, 1e-2)])
@pytest.mark.parametrize(("over", "clip"), CLIPS)
def test_outer_gradient_is_that_of_brute_force_unrolling(exact: bool, rtol: float, over: Any, clip: float) -> None:
    made, (x, noise) = model(), data()
    spec = Refinement(steps=K, step_size=0.8, momentum=0.5, clip=clip, clip_over=over, batch=8)
    free = Refinement(steps=K, step_size=0.8, momentum=0.5, clip=clip or 1e9, clip_over=over, batch=8)
    q, twin = (
        refine(spec, Energy(made, x, W), made.encode(x), noise, exact),
        unrolled(free, made, x, made.encode(x), noise),
    )
    torch.testing.assert_close(q.mean, twin.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(q.log_var, twin.log_var, rtol=1e-10, atol=1e-12)
    for a, b in zip(outer(made, x, q), outer(made, x, twin), strict=True):
        assert (a - b).norm() <= rtol * b.norm()


def test_error_of_differences_is_in_proportion_to_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    made, (x, noise) = model(), data()
    spec, weights = Refinement(steps=K, step_size=0.8, clip=0.0, batch=8), list(made.decoder.parameters())

    def found(exact: bool) -> Tensor:
        q = refine(spec, Energy(made, x, W), made.encode(x), noise, exact)
        return torch.cat([g.flatten() for g in torch.autograd.grad(q.mean.sum(), weights)])

    wanted, errors = found(True), []
    for length in (1e-3, 1e-4, 1e-5):
        monkeypatch.setattr("lso.vae.inference.refinement.DISPLACEMENT", length)
        errors.append(float((found(False) - wanted).norm() / wanted.norm()))
    assert errors[0] == pytest.approx(10 * errors[1], rel=0.05) == pytest.approx(100 * errors[2], rel=0.05)
    assert errors[2] < 1e-4


@pytest.mark.parametrize("skip", [False, True])
def test_outer_gradient_goes_through_batch_norm_and_teacher_forcing(skip: bool) -> None:
    made, (x, noise) = build(Architecture(name="he2019-small", latent_dim=D, width=4), skip, (1, 8, 8)).double(), data()
    before = {key: value.clone() for key, value in made.decoder.state_dict().items()}
    spec, free = (Refinement(steps=K, clip=clip, batch=8) for clip in (0.0, 1e9))
    q = refine(spec, Energy(made, x, W), made.encode(x), noise)
    assert all(torch.equal(value, before[key]) for key, value in made.decoder.state_dict().items())
    twin = unrolled(free, made, x, made.encode(x), noise)
    for a, b in zip(outer(made, x, q), outer(made, x, twin), strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm() + 1e-12


def test_second_derivatives_are_refused() -> None:
    made, (x, noise) = model(), data()
    q = refine(Refinement(steps=K, batch=8), Energy(made, x, W), made.encode(x), noise)
    weights, loss = list(made.parameters()), q.mean.square().sum()
    with pytest.raises(UsageError, match="no second derivatives\nLeave create_graph out"):
        torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    torch.autograd.grad(loss, weights)


def test_clips_of_these_tests_are_active_where_they_should_be() -> None:
    made, (x, noise) = model(), data()
    for over, clip in CLIPS:
        spec = Refinement(steps=K, clip=clip, clip_over=over, batch=8)  # type: ignore[arg-type]
        start = torch.stack([made.encode(x).mean, made.encode(x).log_var])
        _, _, factors = run_descent(spec, Energy(made, x, W), start, noise)
        assert bool((torch.stack(factors) * 8 < 0.999).any()) == (clip in (1.0, 0.5))


def test_reverse_pass_is_the_published_recursion() -> None:
    """The recursion of section 4 with dense second derivatives, clips active."""
    made, (x, noise) = model(), data()
    spec = Refinement(steps=K, step_size=0.8, momentum=0.5, clip=1.0, batch=8)
    start = torch.stack([made.encode(x).mean, made.encode(x).log_var]).detach().requires_grad_()
    q = refine(spec, Energy(made, x, W), DiagonalGaussian(start[0], start[1]), noise)
    bar = torch.randn(2, B, D, generator=generator(2, "bar"), dtype=torch.float64)
    found = torch.autograd.grad(torch.stack([q.mean, q.log_var]), start, bar)[0]
    _, points, factors = run_descent(spec, Energy(made, x, W), start, noise)
    velocity = torch.zeros_like(bar)
    for k in reversed(range(K)):

        def f(flat: Tensor, eps: Tensor = noise[k]) -> Tensor:
            mean, log_var = flat.reshape(2, B, D)
            return nelbo(made, x, mean, log_var, eps)

        hessian = torch.autograd.functional.hessian(f, points[k].flatten())  # type: ignore[no-untyped-call]
        velocity = velocity + spec.step_size * bar
        bar = bar - (hessian @ (factors[k] * velocity).flatten()).reshape(2, B, D)
        velocity = spec.momentum * velocity
    torch.testing.assert_close(found, bar, rtol=1e-9, atol=1e-12)


def test_descent_is_that_of_the_batch_mean_as_published() -> None:
    """v <- 0.5 v - g, l <- l + v with g the gradient of the mean loss of a batch of 6, clipped as one matrix."""
    made, (x, noise) = model(), data()
    spec = Refinement(steps=K, clip=0.5, clip_over="batch", batch=B)
    mean, log_var = (t.detach() for t in (made.encode(x).mean, made.encode(x).log_var))
    end, _, _ = run_descent(spec, Energy(made, x, W), torch.stack([mean, log_var]), noise)
    v_mean, v_log_var = torch.zeros_like(mean), torch.zeros_like(mean)
    for eps in noise:
        mean, log_var = mean.detach().requires_grad_(), log_var.detach().requires_grad_()
        gradients = torch.autograd.grad(nelbo(made, x, mean, log_var, eps) / B, (mean, log_var))
        a, b = (g * min(1.0, 0.5 / g.norm().item()) for g in gradients)
        v_mean, v_log_var = 0.5 * v_mean - a, 0.5 * v_log_var - b
        mean, log_var = mean + v_mean, log_var + v_log_var
    torch.testing.assert_close(end, torch.stack([mean, log_var]).detach(), rtol=1e-12, atol=1e-13)


def test_a_datum_is_refined_alike_in_any_batch() -> None:
    made, (x, noise) = model(), data()
    spec = Refinement(steps=K, clip=1.0, batch=8)
    start = torch.randn(2, B, D, generator=generator(3, "start"), dtype=torch.float64)
    together, _, _ = run_descent(spec, Energy(made, x, W), start, noise)
    alone, _, _ = run_descent(spec, Energy(made, x[2:3], W), start[:, 2:3], noise[:, 2:3])
    torch.testing.assert_close(together[:, 2:3], alone, rtol=1e-10, atol=1e-12)


def test_running_statistics_do_not_move_and_batch_ones_are_used() -> None:
    made = nn.Sequential(nn.BatchNorm1d(3)).double()
    x = torch.randn(5, 3, generator=generator(0, "x"), dtype=torch.float64)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    with frozen_statistics(made):
        inside = made(x)
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())
    assert torch.equal(inside, made(x)) and not torch.equal(
        made.state_dict()["0.running_mean"], before["0.running_mean"]
    )
    made.eval()
    with frozen_statistics(made):
        assert torch.equal(made(x), made(x)) and not torch.equal(made(x), inside)


def test_svi_has_no_encoder_and_its_codes_are_constants() -> None:
    chosen = example("svi", steps=3)
    made = small_model(chosen)
    assert not list(made.encoder.parameters()) and isinstance(made.inference, Svi)
    x, noise = torch.rand(5, 1, 8, 8, generator=generator(0, "x")), torch.randn(count_draws(made.inference), 5, 4)
    assert not infer(made.inference, made, x, noise, 1.0).mean.requires_grad
    assert torch.equal(posterior(made, x).mean, posterior(made, x).mean)
    zero = small_model(example("svi", steps=3, initial="zero")).inference
    assert count_draws(zero) == 3
    one = infer(zero, made, x, noise[:3], 1.0)
    assert one.mean.shape == (5, 4) and not torch.equal(one.mean, torch.zeros(5, 4))


def test_random_start_of_svi_has_deviation_a_tenth() -> None:
    """8,000 draws each of mean and log-variance: a standard error of 0.8 %."""
    made = small_model(example("svi", steps=2, step_size=1e-9))
    noise = torch.randn(count_draws(made.inference), 2000, 4, generator=generator(0, "noise"))
    q = infer(made.inference, made, torch.zeros(2000, 1, 8, 8), noise, 1.0)
    assert q.mean.std().item() == pytest.approx(0.1, rel=0.025) == q.log_var.std().item()
    assert abs(q.mean.mean()) < 0.0035 > abs(q.log_var.mean()) and not torch.isclose(q.mean, q.log_var).all()


def test_refinement_lowers_the_loss_it_descends() -> None:
    made, (x, _) = model(), data()
    noise = torch.randn(30, B, D, generator=generator(0, "n"), dtype=torch.float64)
    inference = SemiAmortized(refinement=Refinement(steps=30, step_size=0.5, batch=8))
    q, start = infer(inference, made, x, noise, W), made.encode(x)
    probe = torch.randn(200, B, D, generator=generator(1, "n"), dtype=torch.float64)
    losses = [torch.stack([nelbo(made, x, p.mean, p.log_var, eps) for eps in probe]).mean() for p in (start, q)]
    assert losses[1] < losses[0]
