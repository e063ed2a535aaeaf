"""Layers on dual numbers: Hessian products against torch's double backward pass, in double precision."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from lso.vae.config.architectures import ARCHITECTURES
from lso.vae.inference import refinement
from lso.vae.inference.forward_ad import DualLayers
from lso.vae.inference.refinement import Energy, frozen_statistics
from lso.vae.models.vae import VAE
from lso.vae.utils.random import generator
from tests.vae.small import batch_for, example, small_model

IMAGES = [name for name, spec in ARCHITECTURES.items() if spec.kind == "image"]


def normal(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=generator(seed, "test"), dtype=torch.float64)


def assert_products_agree(made: VAE, x: Tensor) -> None:
    """(H_ll u, H_tl u) by dual numbers and by two backward passes, to 1e-12."""
    energy, weights = Energy(made, x, 0.7), tuple(made.decoder.parameters())
    point, u, eps = (normal(*size, seed=i) for i, size in enumerate([(2, len(x), 4), (2, len(x), 4), (len(x), 4)]))
    with frozen_statistics(made):
        found = refinement._exact_product(energy, point, eps, u, weights)
        wanted = refinement._double_backward_product(energy, point, eps, u, weights)
    assert float(wanted[0].norm()) > 1e-3
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() <= 1e-12 * b.norm() + 1e-13


@pytest.mark.parametrize("method", ["vae", "skip-vae"])
@pytest.mark.parametrize("arch", IMAGES)
def test_products_are_those_of_two_backward_passes(arch: str, method: str) -> None:
    assert_products_agree(small_model(example(method), arch, width=4).double(), batch_for(arch, 6).double())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_products_are_right_in_either_layout(layout: torch.memory_format) -> None:
    made = small_model(example("vae"), "he2019-small", width=4).double()
    made.to(memory_format=layout)  # type: ignore[call-overload]
    assert_products_agree(made, batch_for("he2019-small", 6).double())


def test_products_are_right_with_running_statistics() -> None:
    made = small_model(example("vae"), "he2019-small", width=4).double()
    x = batch_for("he2019-small", 6).double()
    made.decode(normal(6, 4, seed=5), x)  # moves them off zero and one
    assert_products_agree(made.eval(), x)


def test_products_are_right_where_a_scale_is_zero() -> None:
    made = small_model(example("vae"), "he2019-small", width=4).double()
    for module in made.decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data[0] = 0
    assert_products_agree(made, batch_for("he2019-small", 6).double())


def test_batch_norm_and_elu_are_those_of_torch_composed_of_single_operations() -> None:
    h, d, a = (normal(5, 3, 4, 4, seed=i).requires_grad_() for i in range(3))
    weight, bias = normal(3, seed=4).requires_grad_(), normal(3, seed=5).requires_grad_()

    def layers(x: Tensor) -> Tensor:
        return F.elu(F.batch_norm(x, None, None, weight, bias, True, 0.1, 0.1))

    def composed(x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        var = (x - mean).square().mean((0, 2, 3), keepdim=True)
        y = (x - mean) / torch.sqrt(var + 0.1) * weight[:, None, None] + bias[:, None, None]
        return torch.where(y > 0, y, torch.expm1(y))

    results = []
    for f in (layers, composed):
        with DualLayers(), forward_ad.dual_level():
            y, slope = forward_ad.unpack_dual(f(forward_ad.make_dual(h, d)))  # type: ignore[no-untyped-call]
        value = (torch.sin(slope * a) + y.square()).sum()
        results.append([y, slope, *torch.autograd.grad(value, (h, d, weight, bias))])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_second_derivatives_of_slopes_are_refused() -> None:
    x = normal(4, seed=0).requires_grad_()
    with DualLayers(), forward_ad.dual_level():
        y = forward_ad.unpack_dual(F.elu(forward_ad.make_dual(x, torch.ones(4).double())))  # type: ignore[no-untyped-call]
    with pytest.raises(AssertionError, match="differentiated once"):
        torch.autograd.grad(y.tangent.sum(), x, create_graph=True)
