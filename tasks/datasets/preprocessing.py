"""Pixels to the size, channels and polarity that a model takes: one way for training data and for search targets."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor
from torch.nn import functional as F

MIN_SIDE, DEFAULT_SIDE, MAX_SIDE = 8, 32, 64
CHUNK = 1 << 24  # pixel values handled at a time, so that a resize needs no second copy of the data
COLOUR_TOLERANCE = 8  # levels of 255: JPEG and scanners tint grey pictures by a few
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's conversion to grey


def own_size(sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The size to work at where the user names none: the images' own if all share one from 8x8 to 64x64, else 32x32."""
    if len(sizes) == 1 and all(MIN_SIDE <= side <= MAX_SIDE for side in next(iter(sizes))):
        return next(iter(sizes))
    return DEFAULT_SIDE, DEFAULT_SIDE


def prepare(
    x: Shaped[Tensor, "n channels height width"], size: tuple[int, int], channels: int, *, how: str, invert: bool
) -> Shaped[Tensor, "n new_channels new_height new_width"]:
    """Fit, convert and turn round a batch of images."""
    if tuple(x.shape[1:]) == (channels, *size) and not invert:
        return x
    parts = [set_channels(fit(part, size, how), channels) for part in _chunks(x)]
    done = parts[0] if len(parts) == 1 else torch.cat(parts)
    return turn(done) if invert else done


def fit(
    x: Shaped[Tensor, "n channels height width"], size: tuple[int, int], how: str
) -> Shaped[Tensor, "n channels new_height new_width"]:
    """Resize, bilinear and antialiased, rounding bytes.

    Args:
        x: ``uint8``, or floating in [0, 1].
        size: ``(height, width)`` wanted.
        how: ``"crop"`` cuts the centre to the wanted aspect, ``"pad"`` fills up with the median of the image's own
            border, ``"stretch"`` changes the aspect.
    Returns:
        ``(n, channels, *size)`` in the type of ``x``.
    """
    if tuple(x.shape[-2:]) == size:
        return x
    return FITS[how](x, size)


def _stretch(x: Tensor, size: tuple[int, int]) -> Tensor:
    y = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    return y.clamp(0, 1) if y.is_floating_point() else y


def _crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = x.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    h, w = min(height, max(1, round(size[0] / scale))), min(width, max(1, round(size[1] / scale)))
    top, left = (height - h) // 2, (width - w) // 2
    return _stretch(x[..., top : top + h, left : left + w].contiguous(), size)


def _pad(x: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = x.shape[-2:]
    scale = min(size[0] / height, size[1] / width)
    h, w = min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale)))
    top, left = (size[0] - h) // 2, (size[1] - w) // 2
    y = border(x)[:, :, None, None].expand(-1, -1, *size).clone()
    y[..., top : top + h, left : left + w] = _stretch(x, (h, w))
    return y


FITS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {"crop": _crop, "pad": _pad, "stretch": _stretch}


def border(x: Shaped[Tensor, "n channels height width"]) -> Shaped[Tensor, "n channels"]:
    """Median of the outermost pixels of each image, its background as a rule."""
    edges = (x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1])
    return torch.cat(edges, dim=-1).median(dim=-1).values


def set_channels(
    x: Shaped[Tensor, "n channels height width"], channels: int
) -> Shaped[Tensor, "n new_channels height width"]:
    """Grey by luminance (BT.601), or colour by repeating grey."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1).contiguous()
    grey = torch.einsum("nchw,c->nhw", x.float(), torch.tensor(LUMINANCE))[:, None]
    return grey.clamp(0, 1) if x.is_floating_point() else grey.round().to(x.dtype)


def coloured(x: Shaped[Tensor, "n channels height width"]) -> Bool[Tensor, " n"]:
    """Which images are really coloured: channels further apart than 8 levels of 255 somewhere."""
    y = x.float()
    spread = (y.amax(dim=1) - y.amin(dim=1)).flatten(1).amax(dim=1)
    return spread > (COLOUR_TOLERANCE / 255 if x.is_floating_point() else COLOUR_TOLERANCE)


def turn(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The opposite polarity, 1 - x."""
    return 1 - x if x.is_floating_point() else 255 - x


def mean_intensity(x: Shaped[Tensor, "n channels height width"]) -> float:
    """Mean over all pixels, without a floating copy of the data."""
    total = sum(part.sum(dtype=torch.float64).item() for part in _chunks(x))
    return total / x.numel() / (1 if x.is_floating_point() else 255)


def _chunks(x: Tensor) -> Iterator[Tensor]:
    rows = max(1, CHUNK // x[:1].numel())
    for start in range(0, len(x), rows):
        yield x[start : start + rows]
