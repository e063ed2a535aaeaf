"""Digit preference: the classifier can be trusted, always the same, and lets gradients through to the images."""

import pickle

import pytest
import torch

from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.tasks.problems import digits_preference
from lso.tasks.problems.digits_preference import Preference, accuracy, train_classifier
from lso.vae.errors import UsageError


def test_the_classifier_is_right_on_most_held_out_digits() -> None:
    assert accuracy("test") > 0.96 and accuracy("validation") > 0.96


def test_it_is_the_same_in_every_process() -> None:
    first = train_classifier().state_dict()
    train_classifier.cache_clear()
    assert all(torch.equal(first[name], value) for name, value in train_classifier().state_dict().items())


def test_values_are_the_probability_of_the_digit_in_the_images_own_dtype() -> None:
    x, labels = digits_preference._digits("test")
    everything = torch.stack([Preference(digit)(x.double()) for digit in range(10)], 1)
    assert everything.dtype == torch.float64 and torch.allclose(everything.sum(1), torch.ones(len(x)).double())
    assert everything[labels == 3, 3].mean() > 0.9 > 0.1 > everything[labels != 3, 3].mean()
    assert pickle.loads(pickle.dumps(Preference(3))) == Preference(3)
    with pytest.raises(UsageError, match="a digit of 0 to 9"):
        Preference(10)


def test_an_objective_has_its_gradient() -> None:
    """Central differences through a linear decoder."""
    maps = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    decoder = Decoder(lambda z: torch.sigmoid(z @ maps.to(z)).reshape(-1, 1, 8, 8), latent_dim=2)
    objective = LatentObjective(decoder, Preference(), maximize=True)
    z = torch.tensor([[0.3, -0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(z).sum(), z)
    step = torch.tensor([[1e-2, 0.0]])
    with torch.no_grad():
        slope = (objective(z + step) - objective(z - step)) / 2e-2
    assert torch.allclose(gradient[0, 0], slope, rtol=0.05, atol=1e-4) and gradient.abs().sum() > 0
