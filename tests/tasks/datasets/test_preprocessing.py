"""Resizing, channels and polarity."""

import pytest
import torch

from lso.tasks.datasets import preprocessing as pixels
from lso.tasks.datasets.preprocessing import (
    RESIZERS,
    invert_polarity,
    is_coloured,
    mean_intensity,
    prepare_images,
    resize,
    set_channels,
    working_size,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("how", RESIZERS)
@pytest.mark.parametrize("source", [(1, 1), (7, 50), (50, 7), (33, 28), (200, 100)])
@pytest.mark.parametrize("size", [(8, 8), (28, 20), (64, 64)])
def test_every_fit_gives_the_size_and_keeps_type_and_flat_colour(
    how: str, source: tuple[int, int], size: tuple[int, int]
) -> None:
    for value in (torch.tensor(200, dtype=torch.uint8), torch.tensor(0.3)):
        x = value.expand(2, 3, *source).contiguous()
        y = resize(x, size, how)
        assert y.shape == (2, 3, *size)
        assert y.dtype == x.dtype
        torch.testing.assert_close(y, value.expand_as(y), atol=1e-6, rtol=0)


def test_an_image_s_result_does_not_depend_on_the_batch_or_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(20, 1, 30, 41)
    whole = prepare_images(x, (16, 16), 3, how="pad", invert=True)
    monkeypatch.setattr(pixels, "CHUNK_VALUES", 3 * x[:1].numel())
    assert torch.equal(whole, prepare_images(x, (16, 16), 3, how="pad", invert=True))
    alone = torch.cat([prepare_images(one[None], (16, 16), 3, how="pad", invert=True) for one in x])
    assert torch.equal(whole, alone)


def test_crop_takes_the_centre_and_pad_keeps_everything_on_the_background() -> None:
    x = torch.full((1, 1, 20, 40), 10, dtype=torch.uint8)
    x[..., 5:15, 15:25] = 250
    assert torch.equal(resize(x, (20, 20), "crop"), x[..., 10:30])
    padded = resize(x, (40, 40), "pad")
    assert torch.equal(padded[..., 10:30, :], x)
    assert (padded[..., :10, :] == 10).all()
    assert (padded[..., 30:, :] == 10).all()


def test_shrinking_averages_rather_than_picks() -> None:
    checkers = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    y = resize((checkers * 255).to(torch.uint8)[None, None], (8, 8), "stretch")
    assert ((y.float() - 127.5).abs() < 3).all()


def test_grey_made_colour_and_back_is_the_same() -> None:
    for x in (noise(4, 1, 9, 9), torch.rand(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))):
        colour = set_channels(x, 3)
        assert not is_coloured(colour).any()
        torch.testing.assert_close(set_channels(colour, 1), x)


def test_colour_is_told_from_a_tint() -> None:
    x = set_channels(noise(3, 1, 9, 9) // 2, 3)
    x[1, 0] += 6
    x[2, 0, 4, 4] += 60
    assert is_coloured(x).tolist() == [False, False, True]
    assert is_coloured(x.float() / 255).tolist() == [False, False, True]


def test_turning_twice_is_nothing() -> None:
    x = noise(2, 1, 8, 8)
    assert torch.equal(invert_polarity(invert_polarity(x)), x)
    assert mean_intensity(invert_polarity(x)) == pytest.approx(1 - mean_intensity(x))
    assert mean_intensity(x) == pytest.approx((x.double() / 255).mean().item())


def test_own_size_is_kept_from_8_to_64() -> None:
    assert working_size({(28, 28)}) == (28, 28)
    assert working_size({(20, 40)}) == (20, 40)
    assert working_size({(28, 28), (30, 28)}) == working_size({(100, 100)}) == working_size({(7, 7)}) == (32, 32)
