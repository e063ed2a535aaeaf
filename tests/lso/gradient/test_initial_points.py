import pytest
import torch
from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.gradient import initial_points as starts
from lso.space import LatentSpace
from lso.vae.errors import UsageError
from tests.lso.example_decoders import Planted, draws, planted, shipped

SPACE = LatentSpace(3, codes=torch.arange(30.0).reshape(10, 3))


def vae() -> tuple[Decoder, Tensor]:
    decoder = Decoder(shipped("mlp", False, "bernoulli"))
    return decoder, (draws(5, 1, 8, 8) > 0).float()


def make(kind: str | list[str] | Tensor, n: int, seed: int = 0) -> Tensor:
    decoder, targets = vae()
    return starts.make_starts(kind, SPACE, decoder, targets, n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", list(starts.STARTS))
def test_every_kind_gives_codes_for_every_target_and_follows_the_generator(kind: str) -> None:
    z = make(kind, 4)
    assert z.shape == (5, 4, 3) and z.dtype == torch.float64 and torch.equal(z, make(kind, 4))
    random = kind in ("prior", "codes", "sample")
    assert torch.equal(z, make(kind, 4, seed=1)) != random
    assert torch.equal(z[:, 0], z[:, 1]) != random
    assert torch.equal(z[0], z[1]) == (kind == "zero")


def test_encoder_starts_come_from_the_targets_posterior() -> None:
    decoder, targets = vae()
    code = decoder.encode(targets)
    assert code is not None and not isinstance(code, Tensor)
    assert torch.equal(make("mean", 1)[:, 0], code.mean.double())
    many = make("sample", 20_000)
    # 5 standard errors of a mean of 20,000 draws.
    error = (many.mean(1) - code.mean).abs() / torch.exp(0.5 * code.log_var)
    assert float(error.max()) < 5 / 20_000**0.5


def test_a_list_mixes_kinds_and_names_them() -> None:
    kinds = ["mean", "prior", "prior", "zero"]
    z = make(kinds, 4)
    assert torch.equal(z[:, :1], make("mean", 1)) and bool((z[:, 3] == 0).all())
    assert starts.name_starts(kinds, 4) == ["mean", "prior 1", "prior 2", "zero"]
    assert starts.name_starts("prior", 2) == ["prior 1", "prior 2"] and starts.name_starts("mean", 1) == ["mean"]
    assert starts.name_starts(draws(2, 3), 2) == ["own 1", "own 2"]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (5, 4, 3), (5, 1, 3)])
def test_the_users_own_codes_are_spread_over_targets(shape: tuple[int, ...]) -> None:
    own = draws(*shape, dtype=torch.float32)
    z = make(own, 4)
    assert z.shape == (5, 4, 3) and z.dtype == torch.float32
    assert torch.equal(z, own.expand(5, 4, 3))
    z += 1  # not a view of the user's tensor
    assert torch.equal(own, draws(*shape, dtype=torch.float32))


def test_without_targets_there_is_one_row() -> None:
    assert starts.make_starts("prior", SPACE, vae()[0], None, 6).shape == (1, 6, 3)


def test_what_cannot_be_served_is_told() -> None:
    decoder, targets = vae()
    bare = Decoder(lambda z: z, latent_dim=3)
    with pytest.raises(UsageError, match="start 'mean' needs an encoder\nPass encode="):
        starts.make_starts("mean", SPACE, bare, draws(2, 3), 1)
    with pytest.raises(UsageError, match="needs the encoder's variance"):
        starts.make_starts("sample", LatentSpace(4), planted(), planted()(draws(2, 4)), 1)
    with pytest.raises(UsageError, match="encodes the target, and there is no target"):
        starts.make_starts("sample", SPACE, decoder, None, 1)
    with pytest.raises(UsageError, match="needs the codes"):
        starts.make_starts("codes", LatentSpace(3), decoder, targets, 1)
    with pytest.raises(UsageError, match="unknown start 'pior'\nDid you mean 'prior'"):
        make("pior", 1)
    with pytest.raises(UsageError, match="expected 3 starts, got a list of 1"):
        make(["prior"], 3)
    for wrong in (torch.zeros(2, 3), torch.zeros(4), torch.zeros(5, 4, 3, dtype=torch.long)):
        with pytest.raises(UsageError, match=r"expected starts \(3,\), \(4, 3\) or \(5, 4, 3\)"):
            make(wrong, 4)


def test_a_planted_encoder_start_is_already_near() -> None:
    decoder, z = Decoder(Planted([1.0] * 3)), draws(4, 3)
    near = starts.make_starts("mean", LatentSpace(3), decoder, decoder(z), 1)[:, 0]
    assert float((near - z).norm(dim=1).max()) < 1.0
