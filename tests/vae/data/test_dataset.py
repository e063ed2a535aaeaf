"""Datasets: what is refused, what a hash sees, and fixed binarization."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from lso.vae.data.dataset import Dataset, binarize, to_unit
from lso.vae.errors import DataError
from lso.vae.utils.random import generator, mix_seed
from tests.vae.small import digits


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=generator(0, "test"))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (images()[:, 0], "expected images \\(n, channels, height, width\\)"),
        (images()[:0], "expected \\(n >= 1, 1, 8, 8\\)"),
        (images()[:, :, :, :7], "split validation has shape \\(3, 1, 8, 7\\)"),
        (images().mul(255).long(), "torch.int64, expected uint8 or floating"),
        (images() * 2, "expected \\[0, 1\\]"),
        (images().masked_fill(images() > 0.5, math.nan), "no NaN"),
    ],
    ids=["axes", "empty", "shape", "integers", "range", "nan"],
)
def test_unsuitable_split_is_refused_by_name(bad: Tensor, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Dataset(name="x", train=images(), validation=bad, test=images())


def test_hash_sees_bytes_shape_type_and_split() -> None:
    base = digits()
    other = base.pixels("train").clone()
    other[0, 0, 0, 0] = 1 - other[0, 0, 0, 0]
    swapped = dataclasses.replace(base, validation=base.test, test=base.validation)
    changed = [
        dataclasses.replace(base, train=x) for x in (other, base.pixels("train").double(), base.pixels("train").mT)
    ]
    assert len({data.hash() for data in (base, swapped, *changed)}) == 5
    assert dataclasses.replace(base, name="renamed", train=base.pixels("train").clone()).hash() == base.hash()


def test_fixed_binarization_is_a_function_of_seed_and_purpose() -> None:
    x = images(50)
    one = binarize(x, 0, "validation")
    assert set(one.unique().tolist()) == {0.0, 1.0}  # type: ignore[no-untyped-call]
    assert torch.equal(one, binarize(x, 0, "validation"))
    assert not torch.equal(one, binarize(x, 1, "validation")) and not torch.equal(one, binarize(x, 0, "test"))
    error = (x * (1 - x)).sum().sqrt() / x.numel()  # of the mean of independent Bernoullis
    assert (one - x).mean().abs() < 4 * error


def test_certain_pixels_stay_and_bytes_are_over_255() -> None:
    edges = torch.tensor([0, 255], dtype=torch.uint8)
    assert binarize(edges, 0, "x").tolist() == [0.0, 1.0]
    assert to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_unit(torch.tensor([0.25])).tolist() == [0.25]


def test_streams_differ_in_every_argument_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    seeds = [
        mix_seed(0, "a"),
        mix_seed(1, "a"),
        mix_seed(0, "b"),
        mix_seed(0, "a", 0),
        mix_seed(0, "a", 0, 0),
        mix_seed(0, "a", 1, 0),
        mix_seed(0, "a", 0, 1),
    ]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
    draws = [torch.rand(2, generator=generator(0, "a", 5)) for _ in range(2)]
    assert torch.equal(*draws) and torch.equal(before, torch.get_rng_state())
