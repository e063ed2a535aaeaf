"""Metropolis-Hastings against the closed form of a linear-Gaussian model, and against the grid on sequences."""

import dataclasses

import pytest
import torch
from torch import Generator, Tensor
from torch.testing import assert_close

from lso.vae.data.corpus import Corpus
from lso.vae.errors import UsageError
from lso.vae.metrics.inference_gap import PosteriorGrid, posterior_mean
from lso.vae.metrics.posterior_chain import Chain, Draws, posterior_draws
from lso.vae.models.vae import VAE
from tests.vae.linear_gaussian import World, linear_gaussian
from tests.vae.sequence_models import mixed

CHAIN = Chain(samples=3000)


@pytest.fixture(scope="module")
def drawn() -> tuple[World, Tensor, Draws]:
    world = linear_gaussian([0.3, 0.8])
    x = world.data(40, Generator().manual_seed(1))
    return world, x, posterior_draws(world.model, x, CHAIN)


def test_means_and_variances_are_those_of_the_closed_form(drawn: tuple[World, Tensor, Draws]) -> None:
    world, x, draws = drawn
    exact = world.model.encode(x)  # the exact encoder
    z = (draws.mean() - exact.mean.detach()) / draws.error()
    assert 0.7 < z.std() < 1.4 and z.abs().max() < 4.5  # 80 scores of Student's t with 19 degrees of freedom
    ratio = draws.z.var(1) / exact.log_var.detach().exp()
    assert_close(ratio.mean(0), torch.ones(2).double(), rtol=0, atol=0.03)
    assert ((draws.accepted > 0.2) & (draws.accepted < 0.8)).all()


def test_what_begins_in_the_posterior_stays_there() -> None:
    """The first places are exact draws, so that every later one is, without a burn-in."""
    world = linear_gaussian([1.0])
    x = world.data(4000, Generator().manual_seed(2))
    exact = world.model.encode(x)
    last = posterior_draws(world.model, x, Chain(samples=20, burn_in=0)).z[:, -1]
    scaled = (last - exact.mean.detach()) / exact.log_var.detach().div(2).exp()
    # Deviations of a mean and of a variance of 4,000: 0.016 and 0.022.
    assert abs(scaled.mean()) < 0.05 and abs(scaled.var() - 1) < 0.07


def test_a_wrong_start_is_forgotten_by_the_end_of_the_burn_in() -> None:
    world = linear_gaussian([1.0], shift=20.0)  # q is 20 deviations off
    x = world.data(20, Generator().manual_seed(3))
    right = linear_gaussian([1.0]).model.encode(x)
    assert (posterior_draws(world.model, x, Chain(samples=20, burn_in=0)).mean() - right.mean).abs().mean() > 0.5
    draws = posterior_draws(world.model, x, dataclasses.replace(CHAIN, samples=2000))
    assert ((draws.mean() - right.mean.detach()) / draws.error()).abs().max() < 4.5


@pytest.fixture(scope="module")
def sequences() -> tuple[VAE, Corpus]:
    """A model of scalar z with dropout and weights that matter, in train mode, and sequences of several lengths."""
    from lso.vae.config.architectures import architecture
    from lso.vae.models.vae import build

    model = build(architecture("he2019-toy", 1, width=8, embedding=8), False, (7, 7), seed=1).double()
    stream = Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream))
    return model.train(), Corpus.of(mixed(8))


def test_the_grid_finds_the_means_of_the_chains(sequences: tuple[VAE, Corpus]) -> None:
    """The check of He et al.'s appendix A: two ways to one number, which share nothing but the model."""
    model, data = sequences
    draws = posterior_draws(model, data, dataclasses.replace(CHAIN, samples=1500))
    grid = posterior_mean(model, data, PosteriorGrid(low=-8, high=8, stride=0.05))
    z = (draws.mean()[:, 0] - grid) / draws.error()[:, 0]
    assert grid.std() > 0.2 and z.abs().max() < 4.5 and model.training


def test_chains_do_not_feel_how_the_work_is_cut_and_say_how_far_they_are(
    sequences: tuple[VAE, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = sequences
    told: list[tuple[int, int]] = []
    chain = Chain(samples=20, burn_in=3, thin=2)
    whole = posterior_draws(model, data, chain, callback=lambda *counts: told.append(counts))
    assert told[-1] == (43, 43) and len(told) == 43 and whole.z.shape == (8, 20, 1)
    monkeypatch.setattr("lso.vae.metrics.posterior_chain.pass_size", lambda model: 3)
    assert_close(posterior_draws(model, data, chain).z, whole.z, rtol=1e-9, atol=1e-9)
    other = posterior_draws(model, data, chain, seed=1)
    assert not torch.equal(other.z, whole.z)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"samples": 19}, "at least 20 samples"),
        ({"burn_in": -1}, "burn_in >= 0"),
        ({"thin": 0}, "thin >= 1"),
        ({"deviation": 0.0}, "deviation > 0"),
    ],
)
def test_chains_that_make_no_sense_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Chain(**wrong)  # type: ignore[arg-type]
