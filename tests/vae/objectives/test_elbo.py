"""Objectives against hand values, the bounds of `importance`, and their order in expectation."""

import math

import pytest
import torch
from torch import Tensor

from lso.vae.config.architectures import architecture
from lso.vae.config.components import Elbo, FreeBits, ImportanceWeighted, Objective
from lso.vae.distributions.gaussian import DiagonalGaussian, prior_log_prob
from lso.vae.metrics.importance import log_importance_weights
from lso.vae.models.vae import VAE, build
from lso.vae.objectives.elbo import ObjectiveTerms, objective_terms
from lso.vae.protocols import Posterior
from lso.vae.utils.random import generator
from tests.vae.importance import importance_bound
from tests.vae.small import digits

LATENT = 3


@pytest.fixture
def model() -> VAE:
    return build(architecture("mlp", latent_dim=LATENT, width=16), False, (1, 8, 8)).double()


def data(n: int = 20) -> Tensor:
    return digits().pixels("train")[:n].round().double()


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(0, "test"), dtype=torch.float64)


def terms(objective: Objective, model: VAE, w: float = 1.0, n: int = 20) -> tuple[ObjectiveTerms, Posterior, Tensor]:
    x, noise = data(n), normal(objective.samples, n, LATENT)
    q = model.encode(x)
    return objective_terms(objective, model, x, q, noise, torch.tensor(w, dtype=torch.float64)), q, noise


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
def test_elbo_is_reconstruction_plus_weighted_analytic_kl(model: VAE, w: float) -> None:
    found, q, noise = terms(Elbo(), model, w)
    nll = -model.decode(q.sample(noise[0])).log_prob(data())
    torch.testing.assert_close(found.reconstruction, nll)
    kl = q.kl(model.prior, found.z).sum(-1)
    torch.testing.assert_close(found.kl, kl)
    torch.testing.assert_close(found.loss, nll + w * kl)
    torch.testing.assert_close(found.likelihood.mean, model.decode(found.z).mean)


def test_one_importance_sample_is_the_elbo_with_sampled_kl(model: VAE) -> None:
    found, q, noise = terms(ImportanceWeighted(samples=1), model)
    z = q.sample(noise[0])
    expected = -model.decode(z).log_prob(data()) + q.log_prob(z) - prior_log_prob(z)
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.z, z)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_importance_objective_is_the_bound_that_metrics_report(model: VAE, count: int) -> None:
    found, q, noise = terms(ImportanceWeighted(samples=count), model)
    torch.testing.assert_close(
        found.loss, -importance_bound(log_importance_weights(model.decode, model.prior, data(), q, noise))
    )


def test_kl_weight_is_the_exponent_inside_the_log_weights(model: VAE) -> None:
    found, q, noise = terms(ImportanceWeighted(samples=4), model, w=0.3)
    z = q.sample(noise)
    log_p = torch.stack([model.decode(row).log_prob(data()) for row in z])
    log_weight = log_p + 0.3 * (prior_log_prob(z) - q.log_prob(z))
    torch.testing.assert_close(found.loss, math.log(4) - torch.logsumexp(log_weight, 0))
    torch.testing.assert_close(found.reconstruction, -log_p.mean(0))


def test_bound_tightens_with_samples_in_expectation(model: VAE) -> None:
    """Paired over 100 data and 50 seeds; L_8 - L_1 > 0 at 5 standard errors."""
    x = data(100).repeat(50, 1, 1, 1)
    q, w = model.encode(x), torch.tensor(1.0, dtype=torch.float64)
    noise = normal(8, len(x), LATENT)
    with torch.no_grad():
        one, eight = (objective_terms(ImportanceWeighted(samples=k), model, x, q, noise[:k], w).loss for k in (1, 8))
    gain = one - eight
    assert gain.mean() > 5 * gain.std() / math.sqrt(len(gain))


@pytest.mark.parametrize("over", ["datum", "batch"])
def test_free_bits_without_a_floor_is_the_elbo(model: VAE, over: str) -> None:
    plain = terms(Elbo(), model, 0.7)[0].loss
    found = terms(FreeBits(floor=0.0, over=over), model, 0.7)[0].loss  # type: ignore[arg-type]
    torch.testing.assert_close(found.mean(), plain.mean())
    if over == "datum":
        torch.testing.assert_close(found, plain)


def test_free_bits_of_hand_values(model: VAE) -> None:
    """KLs (0.5 m^2) of [[0.125, 2], [0.045, 0.5]] with a floor of 0.1; batch means [0.085, 1.25]."""
    q = DiagonalGaussian(torch.tensor([[0.5, 2.0, 0.0], [0.3, 1.0, 0.0]]).double(), torch.zeros(2, 3).double())
    w = torch.tensor(2.0, dtype=torch.float64)
    for over, counted in (("datum", [0.125 + 2 + 0.1, 0.1 + 0.5 + 0.1]), ("batch", [0.1 + 1.25 + 0.1] * 2)):
        found = objective_terms(FreeBits(floor=0.1, over=over), model, data(2), q, normal(1, 2, LATENT), w)  # type: ignore[arg-type]
        torch.testing.assert_close(found.loss - found.reconstruction, 2 * torch.tensor(counted).double())
        torch.testing.assert_close(found.kl, torch.tensor([2.125, 0.545]).double())


def test_free_bits_pull_only_above_the_floor(model: VAE) -> None:
    mean = torch.tensor([[0.5, 2.0, 0.3]], dtype=torch.float64, requires_grad=True)
    q = DiagonalGaussian(mean, torch.zeros_like(mean))
    found = objective_terms(FreeBits(floor=0.2), model, data(1), q, normal(1, 1, LATENT), torch.tensor(1.0).double())
    (gradient,) = torch.autograd.grad((found.loss - found.reconstruction).sum(), mean)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 2.0, 0.0]]).double())
