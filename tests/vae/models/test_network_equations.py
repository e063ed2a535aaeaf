"""The equations of the residual and gated networks, written out from their weights with plain functions of torch."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import architecture
from lso.vae.models.gated_pixelcnn import GatedPixelCnnDecoder, Stacks
from lso.vae.models.pixelcnn import PixelCnnDecoder
from lso.vae.models.resnet import ResnetEncoder
from lso.vae.utils.random import generator

Weights = Mapping[str, Tensor]
SHAPE = (2, 8, 9)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed, "equations"), dtype=torch.float64)


def scattered(module: nn.Module) -> nn.Module:
    """In double, with no weight, bias or running statistic where initialization leaves it."""
    module.double()
    for i, (name, value) in enumerate(module.state_dict().items()):
        if value.is_floating_point():
            value.add_(
                0.3 * draw(*value.shape, seed=i).abs() if "running_var" in name else 0.3 * draw(*value.shape, seed=i)
            )
    return module


def part(weights: Weights, name: str) -> Weights:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def norm(x: Tensor, w: Weights, training: bool) -> Tensor:
    mean, variance = w["running_mean"].clone(), w["running_var"].clone()
    return F.batch_norm(x, mean, variance, w["weight"], w["bias"], training=training, eps=1e-5)


def elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.expm1(x))


def masked(x: Tensor, weight: Tensor, centre: bool, opened: int = 0) -> Tensor:
    """A dense convolution with the taps at and after the centre set to zero, but for the last ``opened`` channels."""
    k = weight.shape[-1]
    mask = (torch.arange(k * k) < k * k // 2 + centre).reshape(k, k).expand_as(weight).clone()
    mask[:, weight.shape[1] - opened :] = True
    return F.conv2d(x, weight * mask, padding=k // 2)


def z_maps(z: Tensor, w: Weights, size: tuple[int, ...]) -> Tensor:
    return (z @ w["linear.weight"].T + w["linear.bias"]).reshape(len(z), -1, *size)


# --- He et al. (2019) -------------------------------------------------------------------------------------------------


def shrinking_block(x: Tensor, w: Weights, training: bool) -> Tensor:
    h = elu(norm(F.conv2d(x, w["first.weight"], stride=2, padding=1), part(w, "norms.0"), training))
    h = norm(F.conv2d(h, w["second.weight"], padding=1), part(w, "norms.1"), training)
    return elu(h + norm(F.conv2d(x, w["shortcut.weight"], stride=2), part(w, "norms.2"), training))


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_resnet_encoder(training: bool) -> None:
    encoder = scattered(ResnetEncoder((3, 9, 17), architecture("he2019", 2, width=4))).train(training)
    w, x = {key: value.clone() for key, value in encoder.state_dict().items()}, draw(5, 3, 9, 17)
    found, h = encoder(x), x
    for i in range(3):
        h = shrinking_block(h, part(w, f"blocks.{i}"), training)
    h = elu(norm(F.conv2d(h, w["last.weight"]), part(w, "norm"), training)).flatten(1)
    expected = h @ w["output.weight"].T + w["output.bias"]
    torch.testing.assert_close(torch.cat([found.mean, found.log_var], 1), expected, rtol=1e-10, atol=1e-10)


def masked_block(x: Tensor, maps: list[Tensor], w: Weights, training: bool) -> Tensor:
    h = elu(norm(F.conv2d(torch.cat([x, *maps], 1), w["down.weight"]), part(w, "norms.0"), training))
    h = elu(norm(masked(h, w["masked.weight"], True), part(w, "norms.1"), training))
    return elu(norm(F.conv2d(h, w["up.weight"]), part(w, "norms.2"), training) + x)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@torch.no_grad()
def test_residual_pixelcnn(skip: bool, training: bool) -> None:
    """Three layers and one long skip."""
    decoder = scattered(PixelCnnDecoder(SHAPE, architecture("he2019", 3, width=4), skip, (5, 3, 3))).train(training)
    w, x, z = {key: value.clone() for key, value in decoder.state_dict().items()}, draw(5, *SHAPE), draw(5, 3, seed=1)
    found = decoder(z, x).logits
    entering = torch.cat([x, z_maps(z, part(w, "input"), SHAPE[1:])], 1)
    own = [[z_maps(z, part(w, f"edges.{i}"), SHAPE[1:])] if skip else [] for i in range(4)]
    h0 = elu(norm(masked(entering, w["first.weight"], False, opened=4), part(w, "norm"), training))
    h1 = masked_block(h0, own[0], part(w, "blocks.0"), training)
    h2 = masked_block(h1, own[1], part(w, "blocks.1"), training)
    h = h2 + masked_block(h0, own[2], part(w, "skips.0"), training)
    h = elu(norm(F.conv2d(torch.cat([h, *own[3]], 1), w["mix.weight"]), part(w, "mix_norm"), training))
    torch.testing.assert_close(found, F.conv2d(h, w["output.weight"]), rtol=1e-10, atol=1e-10)


# --- Kim et al. (2018), Dieng et al. (2019) ---------------------------------------------------------------------------


def seen(x: Tensor, w: Weights, rows: range, columns: range) -> Tensor:
    """A convolution over these rows and columns, 0 being the pixel's own, as a dense one of 11x11."""
    dense = x.new_zeros(*w["weight"].shape[:2], 11, 11)
    dense[:, :, 5 + rows.start : 5 + rows.stop, 5 + columns.start : 5 + columns.stop] = w["weight"]
    return F.conv2d(x, dense, w["bias"], padding=5)


def gate(x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    return torch.tanh(x[:, :half]) / (1 + torch.exp(-x[:, half:]))


def at(x: Tensor, w: Weights) -> Tensor:
    """A 1x1 convolution."""
    bias = w["bias"][:, None, None] if "bias" in w else 0.0
    return torch.einsum("oi,bihw->bohw", w["weight"][:, :, 0, 0], x) + bias


@pytest.mark.parametrize("edition", [0, 1])
@pytest.mark.parametrize("masked_z", [False, True])
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@torch.no_grad()
def test_gated_pixelcnn(skip: bool, projected: bool, masked_z: bool, edition: int) -> None:
    """Three layers; in the first the pixel itself is not seen, and nothing is added.

    In the authors' code, edition 1, what a shift by a pixel uncovers is 0, and z has a further map at the output.
    """
    kernels, width = (7, 5, 3), 4
    stacks = Stacks(kernels=kernels, z_maps=2, projected=projected)
    sizes = architecture("kim2018", 3, width=width, edition=edition)
    decoder = scattered(GatedPixelCnnDecoder(SHAPE, sizes, skip, stacks, masked_z))
    w, x, z = decoder.state_dict(), draw(2, *SHAPE), draw(2, 3, seed=1)
    v = h = x
    for i, kernel in enumerate(kernels):
        own, reach, entering = part(w, f"layers.{i}"), kernel // 2, skip or i == 0
        maps = [z_maps(z, part(w, f"maps.{i}"), SHAPE[1:])] if entering else []
        into_v, into_h = (torch.cat([stack, *maps], 1) if masked_z else stack for stack in (v, h))
        opened = at(maps[0], part(own, "open_z")) if maps and not masked_z else x.new_zeros(2, 4 * width, *SHAPE[1:])
        above = seen(into_v, part(own, "above"), range(-reach - 1, 0), range(-reach, reach + 1))
        beside = seen(into_h, part(own, "left"), range(1), range(-reach - 1, 0) if i == 0 else range(-reach, 1))
        above[:, :, 0] *= 1 - edition
        beside[..., 0] *= 1 - edition if i == 0 else 1
        a = above + opened[:, : 2 * width]
        s = beside + at(a, part(own, "across")) + opened[:, 2 * width :]
        added = 0.0 if i == 0 else at(into_h, part(own, "project")) if projected else h
        v, h = gate(a), at(gate(s), part(own, "residual")) + added
    last = z_maps(z, part(w, f"maps.{2 + edition}"), SHAPE[1:]) if skip else h[:, :0]
    expected = at(torch.cat([h, last], 1), part(w, "output"))
    torch.testing.assert_close(decoder(z, x).logits, expected, rtol=1e-10, atol=1e-10)
