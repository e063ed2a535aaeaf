"""Inversion against planted codes."""

import pytest
import torch

import lso
from lso.decoders.decoder import Decoder
from lso.vae.errors import UsageError
from tests.lso.example_decoders import Planted, draws, planted
from tests.lso.test_sequences import TARGETS, model


def test_planted_codes_are_recovered_where_the_encoder_is_off() -> None:
    decoder, z = planted(), draws(5, 4, seed=3)
    found = lso.invert(decoder, decoder(z), starts=4)
    assert float((found.z - z).abs().max()) < 1e-5 and float(found.error.max()) < 1e-10
    assert float(found.encoder_error.min()) > 1e-3  # the encoder inverts the linear part alone
    torch.testing.assert_close(found.gain, found.encoder_error - found.error)


def test_without_an_encoder_prior_draws_serve_and_the_seed_decides() -> None:
    whole = Planted([1.0] * 4)
    bare, x = Decoder(whole.decode, latent_dim=4), whole.decode(draws(3, 4, seed=3))
    found = lso.invert(bare, x, starts=3, max_steps=40, seed=5)
    assert bool(found.encoder_error.isnan().all()) and found.result.start_names == ["prior 1", "prior 2", "prior 3"]
    assert torch.equal(found.z, lso.invert(bare, x, starts=3, max_steps=40, seed=5).z)
    assert not torch.equal(found.result.z0, lso.invert(bare, x, starts=3, max_steps=1, seed=6).result.z0)


def test_it_is_never_worse_than_the_encoders_mean() -> None:
    decoder = planted()
    # A learning rate of 1000 throws every start far away.
    found = lso.invert(decoder, decoder(draws(3, 4)), starts=1, optimizer="sgd", max_steps=5, lr=1e3)
    assert torch.equal(found.error, found.encoder_error) and bool((found.gain == 0).all())
    assert torch.equal(found.z, found.result.z0[:, 0])


def test_codes_stay_in_the_bounds_given() -> None:
    decoder = planted()
    box = torch.tensor([-0.5, 0.5], dtype=torch.float64)[:, None].expand(2, 4)
    found = lso.invert(decoder, decoder(draws(3, 4)), starts=2, bounds=box)
    assert bool((found.result.z.abs() <= 0.5).all())


def test_sequences_are_inverted_under_teacher_forcing() -> None:
    decoder = Decoder(model("lstm"))
    found = lso.invert(decoder, TARGETS, starts=2, max_steps=20, prior_weight=1.0)
    objective = found.result.objective
    assert found.z.shape == (3, decoder.latent_dim) and bool((found.gain > 0).all())
    torch.testing.assert_close(objective(found.z), found.error)


def test_a_decoder_without_gradients_is_refused() -> None:
    decoder = Decoder(Planted([1.0] * 4), differentiable=False)
    with pytest.raises(UsageError, match="declared not differentiable\nUse a black-box optimizer"):
        lso.invert(decoder, decoder(draws(3, 4)))
    with pytest.raises(UsageError, match="starts >= 1"):
        lso.invert(planted(), planted()(draws(3, 4)), starts=0)
