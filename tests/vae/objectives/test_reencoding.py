"""NE-VAE's re-encoding penalties against hand computation, and where their gradients go."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from lso.vae.config.components import LogProbReencoding, SquaredReencoding
from lso.vae.config.methods import method
from lso.vae.config.protocol import Protocol
from lso.vae.distributions.categorical import Categorical
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.distributions.pixels import Bernoulli
from lso.vae.errors import UsageError
from lso.vae.objectives.reencoding import penalize, select_reconstruction
from lso.vae.training import step
from lso.vae.utils.random import generator
from lso.vae.vocabulary import PAD
from tests.vae.sequence_models import WORDS, mixed, padded
from tests.vae.small import batch_for, small_model

Z = torch.tensor([[1.0, 0.0, -2.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
AGAIN = DiagonalGaussian(
    torch.tensor([[-0.5, 0.0, -2.0], [0.5, 1.0, 3.0]], dtype=torch.float64),
    torch.tensor([[0.0, -4.0, 0.0], [-2.0, 0.0, 1.0]], dtype=torch.float64),
)
NOISE = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]], dtype=torch.float64)


def nats() -> Tensor:
    density: Tensor = Normal(AGAIN.mean, torch.exp(0.5 * AGAIN.log_var)).log_prob(Z)  # type: ignore[no-untyped-call]
    return -density


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1 / 3), ("sum", 1.0)])
def test_squared_error_is_between_two_samples(reduction: Literal["mean", "sum"], factor: float) -> None:
    other = AGAIN.mean + torch.exp(0.5 * AGAIN.log_var) * NOISE
    found = penalize(SquaredReencoding(weight=3.0, reduction=reduction), Z, AGAIN, NOISE)
    torch.testing.assert_close(found, 3 * factor * ((Z - other) ** 2).sum(1))


@pytest.mark.parametrize("c", [-math.inf, -5.0, 0.0, 1.0, 5.0])
def test_log_prob_is_floored_per_dimension_before_the_sum(c: float) -> None:
    found = penalize(LogProbReencoding(c=c), Z, AGAIN, NOISE)
    torch.testing.assert_close(found, torch.tensor([sum(max(c, v) for v in row) for row in nats().tolist()]).double())
    assert c < 1 or (found > nats().clamp(min=c).sum(1) - 1e-12).all()
    torch.testing.assert_close(
        penalize(LogProbReencoding(c=c, weight=2.0, reduction="mean"), Z, AGAIN, NOISE), found * 2 / 3
    )


def test_gradient_vanishes_below_the_floor_in_that_dimension_alone() -> None:
    z, mean, log_var = (value.clone().requires_grad_() for value in (Z, AGAIN.mean, AGAIN.log_var))
    floor = 1.0
    penalize(LogProbReencoding(c=floor), z, DiagonalGaussian(mean, log_var), NOISE).sum().backward()  # type: ignore[no-untyped-call]
    below = nats() < floor
    assert below.any() and not below.all()
    assert log_var.grad is not None and z.grad is not None and mean.grad is not None
    assert torch.equal(log_var.grad == 0, below)
    assert (z.grad[below] == 0).all() and (mean.grad[below] == 0).all() and z.grad[~below].any()


def test_collapse_costs_two_per_dimension() -> None:
    """z and z~ both N(0, 1): E (z - z~)^2 = 2, variance 8; 60,000 draws, four standard errors."""
    z, noise = torch.randn(2, 20_000, 3, generator=generator(0, "test"))
    prior = DiagonalGaussian(torch.zeros(20_000, 3), torch.zeros(20_000, 3))
    found = penalize(SquaredReencoding(), z, prior, noise)
    assert abs(found.mean().item() - 2) < 4 * math.sqrt(8 / 60_000)


def test_senseless_parameters_are_refused() -> None:
    for c, weight in ((math.inf, 1.0), (math.nan, 1.0), (0.0, -1.0), (0.0, math.inf)):
        with pytest.raises(UsageError, match="expected"):
            LogProbReencoding(c=c, weight=weight)
    with pytest.raises(UsageError, match="weight >= 0 and finite"):
        SquaredReencoding(weight=-1.0)


@pytest.mark.parametrize("shown", ["soft", "detached", "hard"])
def test_what_is_reencoded_and_where_its_gradients_go(shown: Any) -> None:
    likelihood = Bernoulli(torch.randn(3, 1, 8, 8, generator=generator(0, "mean")).requires_grad_())
    noise = torch.rand(3, 1, 8, 8, generator=generator(0, "noise"))
    seen, mean = select_reconstruction(SquaredReencoding(reconstruction=shown), likelihood, noise), likelihood.mean
    expected = (noise < mean).float() if shown == "hard" else mean
    torch.testing.assert_close(seen, expected)
    assert seen.requires_grad == (shown != "detached")
    if shown != "detached":
        found, expected = (torch.autograd.grad(x.sum(), likelihood.logits)[0] for x in (seen, mean))
        assert torch.equal(found, expected) and found.abs().min() > 0


@pytest.mark.parametrize("shown", ["detached", "hard"])
def test_other_readings_of_the_penalty_train(shown: str) -> None:
    chosen = method("ne-vae-se", reconstruction=shown)
    made = step.fresh_state(small_model(chosen), chosen, Protocol())
    x = torch.rand(8, 1, 8, 8, generator=generator(0, "x"))
    noise = step.draw_noise(chosen, made.model, tuple(x.shape), binarize=True, seed=0, step=0, device=x.device)
    info = step.step(made, x, noise, step.StepInputs(torch.tensor(1.0), torch.tensor(1e-3)))
    assert info.penalty > 0 and info.gradient_norm.isfinite()


@pytest.mark.parametrize("arch", ["mlp", "lstm"])
def test_a_hard_draw_goes_with_a_bound_of_several_samples(arch: str) -> None:
    chosen = method("iwae+ne-vae-se", samples=3, reconstruction="hard", anneal=0)
    made, x = small_model(chosen, arch), batch_for(arch)
    state = step.fresh_state(made, chosen, Protocol(batch_size=len(x)))
    noise = step.draw_noise(chosen, made, tuple(x.shape), binarize=False, seed=0, step=0, device=torch.device("cpu"))
    info = step.step(state, x, noise, step.StepInputs(torch.tensor(1.0), torch.tensor(1e-3)))
    assert math.isfinite(info.loss.item()) and info.penalty > 0


def test_a_hard_draw_of_sequences_keeps_their_padding() -> None:
    x = padded(mixed(), extra=2)
    logits = torch.zeros(*x[:, 1:].shape, WORDS, dtype=torch.float64).requires_grad_()
    noise = torch.rand(x.shape, generator=generator(0, "hard"), dtype=torch.float64)
    shown = select_reconstruction(SquaredReencoding(reconstruction="hard"), Categorical(logits, x), noise)
    torch.testing.assert_close(shown.sum(-1), (x != PAD).double())
    assert bool(((shown.detach() > 1 - 1e-9).sum(-1) == (x != PAD)).all())
    (gradient,) = torch.autograd.grad(shown[..., 4].sum(), logits)
    assert torch.equal(gradient.abs().sum(-1) > 0, x[:, 1:] != PAD)
