"""Posterior means by grid against the closed form of a scalar linear-Gaussian model, and on sequences."""

import pytest
import torch
from torch import Generator
from torch.testing import assert_close

from lso.vae.config.architectures import architecture
from lso.vae.data.corpus import Corpus
from lso.vae.errors import UsageError
from lso.vae.metrics.inference_gap import PosteriorGrid, posterior_mean
from lso.vae.models.vae import VAE, build
from tests.vae.linear_gaussian import linear_gaussian

# 2 nats: posterior deviation s = exp(-2) = 0.135. By Poisson's sum a grid of stride h misses a Gaussian's mean by at
# most 4 pi s^2 / h exp(-2 (pi s / h)^2) and smaller terms: 1e-15 at 0.1, 0.014 at 0.3.
NATS = 2.0


@pytest.fixture(scope="module")
def sequences() -> tuple[VAE, Corpus]:
    """A model with dropout and weights that matter, in train mode, and sequences of several lengths."""
    model = build(architecture("he2019-toy", 1, width=8, embedding=8), False, (7, 20), seed=1)
    stream = Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream))
    rows = [[1, *torch.randint(4, 20, (n,), generator=stream).tolist(), 2] for n in (3, 5, 1, 5, 4)]
    return model.train(), Corpus.of(rows)


@pytest.mark.parametrize(("stride", "error"), [(0.01, 1e-9), (0.1, 1e-9), (0.3, 1.5e-2)])
def test_it_is_the_closed_form_mean(stride: float, error: float) -> None:
    world = linear_gaussian([NATS])
    x = world.data(4, Generator().manual_seed(1))
    exact = world.model.encode(x).mean[:, 0].detach()  # of the exact encoder
    assert_close(posterior_mean(world.model, x, PosteriorGrid(stride=stride)), exact, rtol=0, atol=error)


def test_a_grid_that_misses_the_posterior_is_cut_at_its_end() -> None:
    world = linear_gaussian([NATS])
    x = world.data(5, Generator().manual_seed(1))
    assert (posterior_mean(world.model, x, PosteriorGrid(low=5.0, high=6.0)) < 5.2).all()


def test_it_does_not_depend_on_how_the_work_is_cut(sequences: tuple[VAE, Corpus]) -> None:
    model, data = sequences
    grid, told = PosteriorGrid(stride=0.5), list[tuple[int, int]]()
    whole = posterior_mean(model, data, grid, codes=1000, callback=lambda *count: told.append(count))
    assert_close(posterior_mean(model, data, grid, codes=7), whole, rtol=1e-5, atol=1e-6)
    assert told[-1] == (5 * 81, 5 * 81)
    assert whole.std() > 0.1


def test_dropout_is_off_and_the_mode_is_left(sequences: tuple[VAE, Corpus]) -> None:
    model, data = sequences
    first = posterior_mean(model, data, PosteriorGrid(stride=0.5))
    assert model.training and torch.equal(first, posterior_mean(model, data, PosteriorGrid(stride=0.5)))


def test_it_is_the_sum_over_the_grid(sequences: tuple[VAE, Corpus]) -> None:
    """One sequence, one point at a time."""
    model, data = sequences
    x, points = data[1:2].padded(), PosteriorGrid(stride=0.5).points()
    model.eval()
    with torch.no_grad():
        joint = torch.stack(
            [model.decode(z.reshape(1, 1).float(), x).log_prob(x)[0].double() - z**2 / 2 for z in points]
        )
    model.train()
    expected = (torch.softmax(joint, 0) * points).sum()
    assert_close(posterior_mean(model, data, PosteriorGrid(stride=0.5))[1], expected, rtol=1e-5, atol=1e-6)


def test_both_ends_are_points() -> None:
    points = PosteriorGrid().points()
    assert len(points) == 4001 and points[0] == -20 and points[-1].item() == pytest.approx(20)


def test_more_latents_and_empty_grids_are_refused() -> None:
    world = linear_gaussian([1.0, 1.0])
    with pytest.raises(UsageError, match="a grid needs one latent, the model has 2"):
        posterior_mean(world.model, world.data(2, Generator().manual_seed(0)))
    with pytest.raises(UsageError, match="stride > 0"):
        PosteriorGrid(stride=0.0)
    with pytest.raises(UsageError, match="two points"):
        PosteriorGrid(low=1.0, high=0.0)
