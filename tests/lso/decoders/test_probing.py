from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lso.decoders.decoder import Decoder
from lso.decoders.probing import correlations, jacobian_norms, probe
from lso.vae.errors import UsageError
from tests.lso.example_decoders import SHIPPED, Planted, draws, planted, shipped

PLANTED = (1.0, 1.0, 0.8, 0.9, 1e-3, 1e-3, 0.0, 0.0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planted_dimensions_are_named(dtype: torch.dtype) -> None:
    found = probe(Decoder(Planted(PLANTED).to(dtype)), generator=seeded())
    names = {kind: getattr(found, kind).nonzero().flatten().tolist() for kind in ("active", "weak", "dead")}
    assert names == {"active": [0, 1, 2, 3], "weak": [4, 5], "dead": [6, 7]}
    assert found.jacobian is not None and found.jacobian[6:].tolist() == [0, 0] and found.redraw[6:].tolist() == [0, 0]
    assert found.jacobian[4:6].tolist() == pytest.approx([1e-3, 1e-3], rel=0.2)
    assert found.correlation is not None
    assert float(found.correlation[:4].min()) > 0.9 and found.correlation[6:].tolist() == [0, 0]


@pytest.mark.parametrize(("name", "skip", "likelihood"), SHIPPED)
def test_jacobian_norms_are_those_of_autograd(name: str, skip: bool, likelihood: str) -> None:
    decoder = Decoder(shipped(name, skip, likelihood).double())
    z = draws(3, 3)
    full = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda one: decoder(one), row)  # type: ignore[no-untyped-call]
            for row in z
        ]
    )
    torch.testing.assert_close(jacobian_norms(decoder, z), full.flatten(1, 3).norm(dim=1), rtol=1e-9, atol=1e-12)


class Square(torch.autograd.Function):
    """A square that can be differentiated once, as custom kernels are."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return 2 * z * grad


def test_decoders_that_differentiate_once_are_differenced() -> None:
    z = draws(4, 2)
    found = jacobian_norms(Decoder(Square.apply, latent_dim=2), z)
    torch.testing.assert_close(found, (2 * z).abs(), rtol=1e-6, atol=1e-9)


def test_a_linear_decoders_redraw_distance_is_known() -> None:
    weight = torch.tensor([3.0, 0.5], dtype=torch.float64)
    found = probe(Decoder(lambda z: z * weight.to(z), latent_dim=2), n=20_000, generator=seeded())
    # E (w (z - z'))^2 = 2 w^2; four standard errors of a mean of 20,000 squares: 4 * sqrt(2 / 20,000) / 2 = 2 %.
    torch.testing.assert_close(found.redraw, 2**0.5 * weight, rtol=0.02, atol=0)
    assert found.correlation is None


def test_correlation_of_a_constant_is_zero() -> None:
    a = draws(50, 2)
    assert correlations(a, torch.ones(50, 2, dtype=torch.float64)).tolist() == [0, 0]
    assert correlations(a, -2 * a).tolist() == pytest.approx([-1, -1])


def test_a_probe_needs_tensors() -> None:
    with pytest.raises(UsageError, match="makes objects"):
        probe(Decoder(lambda z: ["a"] * len(z), latent_dim=2))


def test_a_probe_follows_its_generator() -> None:
    first, again = (probe(planted(), 16, seeded()) for _ in range(2))
    assert torch.equal(first.redraw, again.redraw)
