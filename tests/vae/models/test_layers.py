"""Batch-norm over all processes, where one has the whole batch: torch's own, with first and second derivatives.

What two processes do with parts of a batch is compared in `test_processes`.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lso.vae import distributed
from lso.vae.distributed import Share
from lso.vae.models.layers import BatchNorm2d
from lso.vae.utils.random import generator


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Steps are shared by one process with itself, as if there were several."""

    def share(size: int) -> None:
        monkeypatch.setattr(distributed, "_share", Share(slice(0, size), size) if size else None)

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: None)
    return share


def layer(dtype: torch.dtype) -> BatchNorm2d:
    norm = BatchNorm2d(3)
    norm.weight.data, norm.bias.data = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([-1.0, 0.0, 1.0])
    return norm.double() if dtype == torch.float64 else norm


def grids(seed: int, dtype: torch.dtype) -> Tensor:
    return (2 * torch.randn(4, 3, 5, 5, generator=generator(seed, "grids")) + 3).to(dtype)


def both(sharing: Callable[[int], None], x: Tensor, call: Callable[[BatchNorm2d, Tensor], list[Tensor]]) -> None:
    """Shared and alone give the same."""
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[x.dtype]
    found = []
    for size in (len(x), 0):
        sharing(size)
        norm = layer(x.dtype)
        found.append([*call(norm, x.clone().requires_grad_()), *norm.buffers()])
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_gradients_and_running_statistics_are_torchs(
    sharing: Callable[[int], None], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    def call(norm: BatchNorm2d, x: Tensor) -> list[Tensor]:
        y = norm(x)
        return [y.detach(), *torch.autograd.grad(y, (x, norm.weight, norm.bias), grids(1, dtype))]

    both(sharing, grids(0, dtype).to(memory_format=layout), call)


def test_second_derivatives_are_torchs(sharing: Callable[[int], None]) -> None:
    def call(norm: BatchNorm2d, x: Tensor) -> list[Tensor]:
        inside = (x, norm.weight, norm.bias)
        first = torch.autograd.grad(norm(x).square().sum(), inside, create_graph=True)
        along = [torch.randn(value.shape, generator=generator(2, "along"), dtype=torch.float64) for value in first]
        return list(torch.autograd.grad(first, inside, along, materialize_grads=True))

    both(sharing, grids(0, torch.float64), call)


@pytest.mark.parametrize("size", [0, 1])
def test_one_value_a_channel_is_normalized_by_the_running_statistics(sharing: Callable[[int], None], size: int) -> None:
    sharing(size)
    norm = layer(torch.float32)
    x = grids(0, torch.float32)[:1, :, :1, :1]
    found = norm(x)
    assert norm.num_batches_tracked == 0
    torch.testing.assert_close(found, norm.eval()(x))
