"""Images pixel after pixel: one full pass of the network for each, against `lso.vae.models.autoregressive`."""

from collections.abc import Iterator
from functools import cache

import torch
from speed.pairs import Row, pairs, row, sync_of
from speed.plain import full_kernels, warmed
from torch import Tensor

from lso.vae.models.vae import VAE

SHAPE, IMAGES, PASSES = (1, 28, 28), (64, 400), 4  # passes of the plain way in each pair, 20 in five
TARGET = {"cpu": 100.0, "cuda": 200.0}


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's lines, one for each number of images."""
    for count in (8,) if quick else IMAGES:
        yield drawn(count, device, quick)


def drawn(count: int, device: torch.device, quick: bool) -> Row:
    """So many images, both ways."""
    name = "he2019-small" if quick else "he2019"
    model = warmed(name, SHAPE, device)
    plain, same = full_kernels(model), equal(name, device)
    z, noise = given(count, SHAPE, device)
    times = pairs(
        lambda: full_passes(plain, z, noise, PASSES),
        lambda: model.generate(z, "sample", noise),
        3 if quick else 5,
        sync_of(device),
        scale=SHAPE[1] * SHAPE[2] / PASSES,
    )
    return row(
        f"{count} images of 28x28, {name}",
        "a full pass of full kernels for each pixel",
        "columns",
        times,
        equal=same,
        scaled=f"{PASSES} pixels in each pair, times 784 / {PASSES}",
        target=None if quick or count < 400 else TARGET.get(device.type),
    )


@cache
def equal(name: str, device: torch.device) -> str:
    """The same images from the same uniforms, in double, so that no rounding turns a pixel over."""
    shape = (1, 14, 14)
    model = warmed(name, shape, device).double()
    z, noise = (part.double() for part in given(4, shape, device))
    theirs, ours = full_passes(full_kernels(model), z, noise, 196), model.generate(z, "sample", noise)
    different = int((theirs != ours).sum())
    assert different == 0, different
    return "4 images of 14x14 drawn completely, equal uniforms, double: 0 of 784 pixels differ"


def given(count: int, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Codes and uniforms."""
    draws = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 32, generator=draws).to(device),
        torch.rand(count, *shape, generator=draws).to(device),
    )


@torch.no_grad()
def full_passes(model: VAE, z: Tensor, noise: Tensor, pixels: int) -> Tensor:
    """The straightforward way, for the first pixels."""
    images = noise.new_zeros(noise.shape)
    for pixel in range(pixels):
        at = (..., pixel // images.shape[3], pixel % images.shape[3])
        images[at] = model.decode(z, images).sample(noise)[at]
    return images
