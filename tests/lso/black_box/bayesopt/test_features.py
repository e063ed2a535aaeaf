"""Features of decoded objects, and surrogates of these."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lso.black_box.ask_tell import make_optimizer
from lso.black_box.bayesopt.features import decoded_features, text_features
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from lso.vae.errors import UsageError
from tests.lso.example_decoders import planted


def lengths(objects: list[Any]) -> list[float]:
    return [float(len(one)) for one in objects]


def spell(z: Tensor) -> list[str]:
    return ["ab" * round(4 * abs(float(row[0]))) + "x" for row in z]


def test_features_of_tensors_keep_the_distances_of_what_is_decoded_and_have_gradients() -> None:
    decoder = planted(1.0, 1.0, 1.0)
    features, differentiable = decoded_features(LatentObjective(decoder, lambda x: x.flatten(1).sum(1)))
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    seen, decoded = features(z), decoder(z).flatten(1)
    assert differentiable and seen.shape[1] <= 32
    torch.testing.assert_close(torch.cdist(seen, seen), torch.cdist(decoded, decoded), rtol=0.1, atol=0.1)
    assert torch.autograd.grad(seen.sum(), z)[0].any()


def test_features_of_texts_grow_with_their_difference_and_are_the_same_everywhere() -> None:
    rows = text_features(["CCO", "CCO", "CCN", "c1ccccc1"])
    assert torch.equal(rows[0], rows[1])
    assert 0 < float((rows[0] - rows[2]).norm()) < float((rows[0] - rows[3]).norm())
    # sqrt counts of C twice, O, CC, CO, CCO have the squared norm 2 + 4; signs keep it up to chance
    assert float(rows[0].square().sum()) == pytest.approx(6, rel=0.5)


@pytest.mark.parametrize("name", ["gp", "thompson"])
def test_a_surrogate_of_texts_proposes_from_a_pool(name: str) -> None:
    objective = LatentObjective(Decoder(spell, latent_dim=2), lengths, on="objects", maximize=True)
    features, differentiable = decoded_features(objective)
    assert not differentiable
    options: dict[str, Any] = {"features": features, "initial": 5}
    options |= {"differentiable": False, "raw_samples": 64} if name == "gp" else {"pool": 64}
    box = make_optimizer(name, LatentSpace(2), **options)
    for _ in range(4):
        z = box.ask(3)
        box.tell(z, objective(z))
    assert len({tuple(row) for row in z.tolist()}) == 3 and float(box.history().gain.max()) > 12


def test_a_differentiable_decoder_is_searched_through_its_features() -> None:
    objective = LatentObjective(planted(1.0, 1.0), lambda x: -(x - 0.2).flatten(1).square().sum(1), maximize=True)
    features, differentiable = decoded_features(objective)
    options: dict[str, Any] = {"features": features, "differentiable": differentiable, "raw_samples": 64, "restarts": 2}
    box = make_optimizer("gp", LatentSpace(2), initial=6, **options)
    for _ in range(9):
        z = box.ask()
        box.tell(z, objective(z))
    values = box.history().gain
    assert float(values.max()) > float(values[:6].max())


def test_objects_without_features_are_refused() -> None:
    objective = LatentObjective(Decoder(lambda z: [None] * len(z), latent_dim=2), lengths, on="objects")
    with pytest.raises(UsageError, match="no features"):
        decoded_features(objective)
