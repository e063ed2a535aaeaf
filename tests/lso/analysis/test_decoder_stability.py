"""Decoders that change from call to call so slowly that two calls in a row agree."""

import pytest
import torch
from torch import Tensor

import lso
from lso.analysis.black_box_summary import black_box_summary
from lso.analysis.decoder_stability import recheck_objects, recheck_values
from lso.analysis.summary import search_summary
from lso.results.evaluation import decode_codes


class Fading:
    """Decodes linearly, and after so many calls to half of that."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, z: Tensor) -> Tensor:
        self.left -= 1
        return z.repeat(1, 3) * (1.0 if self.left > 0 else 0.5)


def by_gradient(calls: int) -> lso.Result:
    targets = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).double()
    decoder = lso.Decoder(Fading(calls), latent_dim=4)
    objective = lso.LatentObjective.reconstruct(decoder, targets, prior_weight=1.0)
    z0 = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1)).double()
    result = lso.minimize(objective, z0, max_steps=60, tol=0)
    assert not decoder.check(), "two calls in a row agree"
    return result


@pytest.mark.parametrize("calls", [30, 10**9])
def test_a_decoder_that_changed_during_a_search_by_gradient_is_doubted(calls: int) -> None:
    result = by_gradient(10**9)
    assert not recheck_values(result)
    decoder = result.objective.decoder.model
    assert isinstance(decoder, Fading)
    decoder.left = min(decoder.left, calls - 30)
    found = recheck_values(result)
    assert [finding.kind for finding in found] == ["stateful"] * (calls == 30)
    check = search_summary(result).verdict.checks[0]
    assert check.level == ("doubt" if calls == 30 else "fine")
    assert ("other values now than at the end of the search" in check.found) == (calls == 30)


@pytest.mark.parametrize("calls", [20, 10**9])
def test_a_decoder_that_changed_during_a_black_box_search_is_doubted(calls: int) -> None:
    decoder = lso.Decoder(Fading(calls), latent_dim=4)
    objective = lso.LatentObjective(decoder, lambda x: x.square().sum(-1))
    result = lso.optimize(objective, "random", budget=60, batch=3)
    assert not decoder.check()
    assert [finding.kind for finding in recheck_objects(result)] == ["stateful"] * (calls == 20)
    check = black_box_summary([result]).verdict.checks[0]
    assert check.level == ("doubt" if calls == 20 else "fine")


@pytest.mark.parametrize(("factor", "found"), [(1 + 1e-6, []), (1.02, ["stateful"])])
def test_other_last_digits_as_on_another_machine_are_no_change(factor: float, found: list[str]) -> None:
    """Of 300 values nearly every hash changes with the sixth digit; the encoder tells that from a drift."""
    scale, spread = [1.0], torch.randn(4, 300, generator=torch.Generator().manual_seed(0)).double()
    back = 0.9 * torch.linalg.pinv(spread)
    decoder = lso.Decoder(
        lambda z: scale[0] * z.double() @ spread, latent_dim=4, encode=lambda x: (x.double() @ back).float()
    )
    result = lso.optimize(lso.LatentObjective(decoder, lambda x: x.square().sum(-1)), "random", budget=40, batch=4)
    scale[0] = factor
    asked = torch.tensor([record.z for record in result.records], dtype=torch.float64)
    hashes = [end.decoded_hash for end in decode_codes(result.objective, asked)]
    assert sum(a != b.decoded_hash for a, b in zip(hashes, result.records, strict=True)) > 35
    assert [finding.kind for finding in recheck_objects(result)] == found


def test_what_shows_in_large_batches_alone_is_found_at_the_size_of_the_search() -> None:
    def centred(z: Tensor) -> Tensor:
        return z - 0.5 * z.mean(0) if len(z) >= 16 else z

    decoder = lso.Decoder(centred, latent_dim=2)
    objective = lso.LatentObjective.reconstruct(decoder, torch.randn(5, 2).double(), prior_weight=1.0)
    result = lso.minimize(objective, torch.randn(5, 4, 2).double(), max_steps=30)
    assert not decoder.check() and [f.kind for f in decoder.check(20)] == ["batch-dependent"]
    assert search_summary(result).verdict.checks[0].level == "doubt"
