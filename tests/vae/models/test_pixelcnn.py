"""Autoregressive networks: counts, causality, what z reaches, and incremental generation against the naive way."""

from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.errors import ShapeError, UsageError
from lso.vae.metrics import importance
from lso.vae.metrics.importance import importance_nll
from lso.vae.models.autoregressive import draw_images
from lso.vae.models.gated_pixelcnn import DIENG2019, KIM2018, GatedColumns, GatedPixelCnnDecoder
from lso.vae.models.layers import MaskedConv2d, fold_norms
from lso.vae.models.pixelcnn import HE2019, HE2019_SMALL, PixelCnnColumns, PixelCnnDecoder, ZMaps, run_blocks
from lso.vae.models.resnet import KimEncoder, ResnetEncoder
from lso.vae.models.vae import VAE, build
from lso.vae.utils.random import generator

NETWORKS = [name for name, spec in ARCHITECTURES.items() if spec.kind == "image" and spec.autoregressive]
OMNIGLOT = (1, 28, 28)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed, "test"), dtype=torch.float64)


def small(
    name: str,
    skip: bool = False,
    shape: tuple[int, ...] = (1, 8, 8),
    latent: int = 3,
    likelihood: str = "bernoulli",
    edition: int | None = None,
) -> VAE:
    """In double, with batch-norms and biases of maps of z that are not the initial ones, in eval mode."""
    sizes = {} if edition is None else {"edition": edition}
    model = build(architecture(name, latent, likelihood, 4, **sizes), skip, shape).double()
    for i, module in enumerate(model.modules()):
        if isinstance(module, torch.nn.BatchNorm2d | ZMaps):
            for j, (key, value) in enumerate(module.state_dict().items()):
                if key in ("weight", "running_var"):
                    value.copy_((0.3 if key == "weight" else 1) * (0.5 + rand(*value.shape, seed=100 * i + j)))
                elif key.endswith(("bias", "running_mean")):
                    value.copy_(rand(*value.shape, seed=100 * i + j) - 0.5)
    return model.eval()


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_counts_of_he_2019_are_the_published_ones() -> None:
    decoder = PixelCnnDecoder(OMNIGLOT, architecture("he2019"), False, HE2019)
    assert count(ResnetEncoder(OMNIGLOT, architecture("he2019"))) == 752_448 and count(decoder) == 894_400
    assert count(build(architecture("he2019"), False, OMNIGLOT)) == 1_646_848
    assert count(PixelCnnDecoder(OMNIGLOT, architecture("he2019", 0), False, HE2019)) == 778_368
    assert count(PixelCnnDecoder(OMNIGLOT, architecture("he2019"), True, HE2019)) == 894_400 + 621_728
    x = (rand(2, *OMNIGLOT) < 0.3).float()
    (-decoder(rand(2, 32).float(), x).log_prob(x).sum()).backward()
    live = sum(int((p.grad != 0).sum()) for p in decoder.parameters() if p.grad is not None)
    dead = sum(m.weight.numel() - _taps(m) for m in decoder.modules() if isinstance(m, MaskedConv2d))
    assert dead == 325_184 and 894_400 - dead == 569_216 and live <= 569_216  # a live tap may be 0 by chance


def _taps(layer: MaskedConv2d) -> int:
    out, inside = layer.weight.shape[:2]
    return out * (layer.causal * int(layer.mask.sum()) + (inside - layer.causal) * layer.kernel**2)


def test_counts_of_the_gated_forms_are_the_published_ones() -> None:
    assert count(KimEncoder(OMNIGLOT, architecture("kim2018"))) == 272_448
    assert count(GatedPixelCnnDecoder(OMNIGLOT, architecture("kim2018"), False, KIM2018, masked_z=True)) == 744_801
    one_map = 20 * 784 + 784  # of z; the published count leaves out that of the output
    for skip, published, unused, left_out in ((True, 301_506, 96, one_map), (False, 297_697, 96 + 7 * one_map, 0)):
        ours = GatedPixelCnnDecoder(OMNIGLOT, architecture("dieng2019", 20), skip, DIENG2019, masked_z=True)
        assert count(ours) == published - unused + left_out
        earlier = architecture("dieng2019", 20, edition=0)
        first = GatedPixelCnnDecoder(OMNIGLOT, earlier, skip, DIENG2019, masked_z=True)
        assert count(first) == published - unused


def test_initialization_is_that_of_the_authors() -> None:
    decoder = PixelCnnDecoder(OMNIGLOT, architecture("he2019"), False)
    for layer in decoder.modules():
        if isinstance(layer, MaskedConv2d):
            out, _, k, _ = layer.weight.shape
            assert layer.weight.std().item() == pytest.approx((2 / (k * k * out)) ** 0.5, rel=0.03)
    assert decoder.input.linear is not None and not decoder.input.linear.bias.any()
    bound = (6 / (32 + 3136)) ** 0.5
    assert 0.99 * bound < decoder.input.linear.weight.abs().max().item() <= bound * (1 + 1e-7)  # in single precision


# --- who sees what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 11)])
def test_a_pixel_sees_those_before_it_and_no_other(name: str, skip: bool, shape: tuple[int, ...]) -> None:
    model, x = small(name, skip, shape), rand(1, *shape).requires_grad_()
    z, (height, width) = rand(1, 3), shape[1:]
    for row, column in ((0, 0), (0, 4), (3, 0), (4, 5), (height - 1, width - 1)):
        raw = model.decode(z, x).mean[0, :, row, column].sum()
        (seen,) = torch.autograd.grad(raw, x)
        order = seen.abs().sum((0, 1)).flatten()
        at = row * width + column
        assert not order[at:].any() and order[:at].any() == (at > 0)


@pytest.mark.parametrize("layers", [1, 2, 3, 5, 13])
def test_causality_holds_at_every_depth(layers: int) -> None:
    for decoder in (
        PixelCnnDecoder((1, 8, 8), architecture("he2019", 2, width=4), False, HE2019[:layers]),
        GatedPixelCnnDecoder((1, 8, 8), architecture("kim2018", 2, width=4), False, _cut(layers)),
    ):
        decoder = decoder.double().eval()

        def raw(x: Tensor, decoder: Any = decoder) -> Tensor:
            logits: Tensor = decoder(rand(1, 2), x).logits
            return logits.flatten()

        jacobian = torch.autograd.functional.jacobian(raw, rand(1, 1, 8, 8)).reshape(64, 64)  # type: ignore[no-untyped-call]
        assert not torch.triu(jacobian).any() and jacobian[torch.arange(1, 64), torch.arange(63)].any()


def _cut(layers: int) -> Any:
    from dataclasses import replace

    return replace(KIM2018, kernels=(*KIM2018.kernels, 3)[:layers])


def test_two_stacks_see_everything_but_the_far_right_of_the_row_above() -> None:
    model, x = small("dieng2019"), rand(1, 1, 8, 8).requires_grad_()
    (seen,) = torch.autograd.grad(model.decode(rand(1, 3), x).mean[0, 0, 7, 4], x)
    expected = torch.ones(8, 8, dtype=torch.bool)
    expected[7, 4:] = expected[6, 6:] = expected[5, 7:] = False
    assert torch.equal(seen[0, 0] != 0, expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("skip", [False, True])
def test_every_pixel_hears_every_latent(name: str, skip: bool) -> None:
    model, x, z = small(name, skip, (1, 8, 11)), rand(1, 1, 8, 11), rand(1, 3)
    jacobian = torch.autograd.functional.jacobian(lambda code: model.decode(code, x).mean.flatten(), z)  # type: ignore[no-untyped-call]
    heard = jacobian.reshape(88, 3).ne(0).all(1)
    assert heard[1:].all() and heard[0] == (not name.endswith("masked") or skip)


@pytest.mark.parametrize("name", NETWORKS)
def test_skip_edges_reach_every_layer_and_the_output(name: str) -> None:
    plain, skip = count(small(name).decoder), count(small(name, skip=True).decoder)
    model, x = small(name, skip=True), rand(2, 1, 8, 8)
    edges = [m for m in model.decoder.modules() if isinstance(m, ZMaps)]
    layers = {"he2019": 24, "he2019-small": 12, "kim2018": 12, "kim2018-masked": 12}
    assert skip > plain and len(edges) == layers.get(name, 8) + 1
    loss = -model.decode(rand(2, 3), x).log_prob(x).sum()
    gradients = torch.autograd.grad(loss, [edge.linear.weight for edge in edges if edge.linear is not None])
    assert all(g.any() for g in gradients)


def test_autoregressive_decoders_ask_for_data() -> None:
    for name in NETWORKS:
        with pytest.raises(ShapeError, match=r"it needs the data x.*\nCall decode\(z, x\) .*or .*generate\(z\)"):
            small(name).decode(rand(1, 3))


# --- the masked convolution -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("centre", [False, True])
def test_cropped_convolution_is_the_dense_masked_one(kernel: int, centre: bool) -> None:
    layer = MaskedConv2d(2, 3, kernel, centre=centre, open_channels=1).double()
    mask, half = torch.zeros(kernel * kernel), kernel * kernel // 2
    mask[: half + centre] = 1
    full = torch.cat([mask.reshape(kernel, kernel).expand(3, 2, -1, -1), torch.ones(3, 1, kernel, kernel)], 1)
    x, opened = rand(2, 2, 5, 8), rand(2, 1, 5, 8, seed=1)
    dense = F.conv2d(torch.cat([x, opened], 1), layer.weight * full, padding=kernel // 2)
    found = layer(x, opened)
    torch.testing.assert_close(found, dense, rtol=1e-12, atol=1e-14)
    (gradient,) = torch.autograd.grad((found * rand(*found.shape, seed=2)).sum(), layer.weight)
    assert not gradient[full == 0].any() and (gradient[full == 1] != 0).float().mean() > 0.9


@pytest.mark.parametrize("skip", [False, True])
def test_folded_norms_change_nothing_but_the_rounding(skip: bool) -> None:
    model, z, x = small("he2019", skip), rand(3, 3), rand(3, 1, 8, 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    twin = fold_norms(model.decoder)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in twin.modules())
    torch.testing.assert_close(twin(z, x).logits, model.decode(z, x).logits, rtol=1e-10, atol=1e-10)  # type: ignore[attr-defined]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    gated = small("kim2018").decoder
    assert fold_norms(gated) is gated


def test_importance_weights_are_of_folded_norms_only_where_no_gradient_is_wanted() -> None:
    model, x = small("he2019"), (rand(2, 1, 8, 8) < 0.5).double()
    nll = importance_nll(model, x, model.encode(x), generator(1, "test"), samples=3)
    gradients = torch.autograd.grad(nll.sum(), list(model.parameters()))
    assert all(gradient.any() for gradient in gradients)
    with torch.no_grad(), mock.patch.object(importance, "fold_norms", wraps=fold_norms) as seen:
        twin = importance_nll(model, x, model.encode(x), generator(1, "test"), samples=3)
    assert seen.call_count == 1
    torch.testing.assert_close(twin, nll, rtol=1e-10, atol=0)


# --- generation -------------------------------------------------------------------------------------------------------


def drawn(model: VAE, z: Tensor, images: Tensor, noise: Tensor | None) -> Tensor:
    """Every pixel as it is drawn after those of ``images`` that stand before it."""
    likelihood = model.decode(z, images)
    return (likelihood.mode if noise is None else likelihood.sample(noise)).detach()


def naive(model: VAE, z: Tensor, noise: Tensor | None) -> Tensor:
    """One full pass for every pixel."""
    images = torch.zeros(len(z), *model.shape, dtype=z.dtype)
    for row in range(model.shape[1]):
        for column in range(model.shape[2]):
            images[:, :, row, column] = drawn(model, z, images, noise)[:, :, row, column]
    return images


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("shape", "likelihood"), [((1, 8, 9), "bernoulli"), ((3, 8, 8), "logistic")])
def test_every_pixel_generated_is_the_one_drawn_after_those_before_it(
    name: str, skip: bool, shape: tuple[int, ...], likelihood: str
) -> None:
    """As no pixel sees itself or a later one (see above), only one image is so: that of `naive`."""
    model = small(name, skip, shape, likelihood=likelihood)
    z, noise = rand(2, 3) * 4 - 2, rand(2, *shape, seed=5)
    images = model.generate(z, "sample", noise)
    assert torch.equal(images, drawn(model, z, images, noise))
    if not skip:
        images = model.generate(z, "greedy")
        assert torch.equal(images, drawn(model, z, images, None))


@pytest.mark.parametrize("name", ["he2019-small", "dieng2019"])
def test_incremental_generation_is_the_naive_one(name: str) -> None:
    model, z, noise = small(name), rand(2, 3) * 4 - 2, rand(2, 1, 8, 8, seed=5)
    for given in (noise, None):
        assert torch.equal(model.generate(z, "greedy" if given is None else "sample", given), naive(model, z, given))


@pytest.mark.parametrize(("name", "edition"), [*((name, None) for name in NETWORKS), ("dieng2019-masked", 0)])
@pytest.mark.parametrize("latent", [0, 3])
def test_logits_on_the_way_are_those_of_full_passes(name: str, edition: int | None, latent: int) -> None:
    model, noise = small(name, latent > 0, latent=latent, edition=edition), rand(3, 1, 8, 8, seed=5)
    z, kind = rand(3, latent), PixelCnnColumns if "he2019" in name else GatedColumns
    logits = []

    class Watched(kind):  # type: ignore[misc, valid-type]
        def read(self, column: int) -> Tensor:
            raw: Tensor = super().read(column)
            logits.append(raw)
            return raw

    with torch.no_grad():
        images = draw_images(partial(Watched, fold_norms(model.decoder)), model.decoder.head, model.shape, noise, z)
        full = model.decode(z, images)
    torch.testing.assert_close(torch.stack(logits, -1).reshape(3, 1, 8, 8), full.logits, rtol=1e-10, atol=1e-10)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["he2019-small", "kim2018"])
def test_images_drawn_in_parts_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, z, noise = small(name), rand(5, 3), rand(5, 1, 8, 8, seed=5)
    whole, threads = model.generate(z, "sample", noise), torch.get_num_threads()
    monkeypatch.setattr("lso.vae.models.autoregressive.MAX_IMAGES_CPU", 2)
    assert torch.equal(model.generate(z, "sample", noise), whole) and torch.get_num_threads() == threads
    assert model.generate(z[:0], "sample", noise[:0]).shape == (0, 1, 8, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_captured_rows_are_those_run_one_by_one(name: str) -> None:
    model, z, noise = small(name, skip=True), rand(5, 3), rand(5, 1, 8, 8, seed=5)
    expected = model.generate(z, "sample", noise)
    assert torch.equal(model.cuda().generate(z.cuda(), "sample", noise.cuda()).cpu(), expected)


def test_mean_averages_draws_with_common_uniforms() -> None:
    model, z, noise = small("he2019-small"), rand(2, 3), rand(4, 1, 8, 8, seed=1)
    each = torch.stack([model.generate(z, "sample", one) for one in noise])
    assert torch.equal(model.generate(z, "mean", noise), each.mean(0))
    same = model.generate(z[:1].expand(5, -1), "sample", noise[0])
    assert all(torch.equal(same[0], other) for other in same)
    assert torch.equal(model.generate(z, "mean", samples=3), model.generate(z, "mean", samples=3))
    with pytest.raises(UsageError, match="samples >= 1, got 0"):
        model.generate(z, "mean", samples=0)


def test_generation_leaves_training_alone() -> None:
    """It uses running statistics whatever the mode, changes none, and carries no gradient."""
    model, z, noise = small("he2019-small"), rand(2, 3).requires_grad_(), rand(2, 1, 8, 8, seed=5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = model.generate(z, "sample", noise)
    assert torch.equal(model.train().generate(z, "sample", noise), images) and not images.requires_grad
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kernels", [HE2019_SMALL, HE2019])
def test_long_skips_have_the_published_kernels(kernels: tuple[int, ...]) -> None:
    decoder = PixelCnnDecoder((1, 8, 8), architecture("he2019", 2, width=4), False, kernels)
    found = [block.masked.kernel for block in decoder.skips]  # type: ignore[union-attr]
    assert found == list(kernels[1:-1]) and [b.masked.kernel for b in decoder.blocks] == list(kernels[1:])  # type: ignore[union-attr]
    if kernels == HE2019:
        assert found == [7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3]


def test_long_skips_are_wired_as_published() -> None:
    """Blocks that multiply by primes: h_i = p_i (h_{i-1} + q_{i-3} h_{i-3}), output h_4 + q_2 h_2."""

    def times(factor: float) -> Any:
        return lambda x, maps: factor * x

    h0 = torch.ones(1, 1)
    h1, h2 = 2 * h0, 3 * 2 * h0
    h3 = 5 * (h2 + 11 * h0)
    h4 = 7 * (h3 + 13 * h1)
    found = run_blocks([times(p) for p in (2, 3, 5, 7)], [times(q) for q in (11, 13, 17)], h0, [])
    assert torch.equal(found, h4 + 17 * h2)
