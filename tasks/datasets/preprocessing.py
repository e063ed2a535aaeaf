"""Brings images to the size, channels and polarity of a model's input, training data and search targets alike."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor
from torch.nn import functional as F

MIN_SIDE, DEFAULT_SIDE, MAX_SIDE = 8, 32, 64
CHUNK_VALUES = 1 << 24  # pixel values handled at a time, so that a resize needs no second copy of the data
COLOUR_TOLERANCE = 8  # levels of 255: JPEG and scanners tint grey pictures by a few
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's conversion to grey


def working_size(sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The height and width to use where the user gives no size: that of all images if it is 8 to 64, else 32x32."""
    if len(sizes) == 1 and all(MIN_SIDE <= side <= MAX_SIDE for side in next(iter(sizes))):
        return next(iter(sizes))
    return DEFAULT_SIDE, DEFAULT_SIDE


def prepare_images(
    x: Shaped[Tensor, "n channels height width"], size: tuple[int, int], channels: int, *, how: str, invert: bool
) -> Shaped[Tensor, "n new_channels new_height new_width"]:
    """Resize a batch of images, convert its channels and, if asked, invert its polarity."""
    if tuple(x.shape[1:]) == (channels, *size) and not invert:
        return x
    parts = [set_channels(resize(part, size, how), channels) for part in _chunks(x)]
    done = parts[0] if len(parts) == 1 else torch.cat(parts)
    return invert_polarity(done) if invert else done


def resize(
    x: Shaped[Tensor, "n channels height width"], size: tuple[int, int], how: str
) -> Shaped[Tensor, "n channels new_height new_width"]:
    """Resize images bilinearly with antialiasing to ``(n, channels, *size)``, keeping their type; bytes are rounded.

    Where the aspect ratio differs, ``"crop"`` cuts out the centre, ``"pad"`` fills up with the median of the image's
    border, and ``"stretch"`` changes the ratio.
    """
    if tuple(x.shape[-2:]) == size:
        return x
    return RESIZERS[how](x, size)


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
    y = border_median(x)[:, :, None, None].expand(-1, -1, *size).clone()
    y[..., top : top + h, left : left + w] = _stretch(x, (h, w))
    return y


RESIZERS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {"crop": _crop, "pad": _pad, "stretch": _stretch}


def border_median(x: Shaped[Tensor, "n channels height width"]) -> Shaped[Tensor, "n channels"]:
    """Median of the outermost pixels of each image and channel, which is usually the background."""
    edges = (x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1])
    return torch.cat(edges, dim=-1).median(dim=-1).values


def set_channels(
    x: Shaped[Tensor, "n channels height width"], channels: int
) -> Shaped[Tensor, "n new_channels height width"]:
    """Convert colour to grey by luminance (BT.601), or grey to colour by repeating the channel."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1).contiguous()
    grey = torch.einsum("nchw,c->nhw", x.float(), torch.tensor(LUMINANCE))[:, None]
    return grey.clamp(0, 1) if x.is_floating_point() else grey.round().to(x.dtype)


def is_coloured(x: Shaped[Tensor, "n channels height width"]) -> Bool[Tensor, " n"]:
    """Which images are in colour: some pixel's channels differ by more than 8 levels of 255."""
    y = x.float()
    spread = (y.amax(dim=1) - y.amin(dim=1)).flatten(1).amax(dim=1)
    return spread > (COLOUR_TOLERANCE / 255 if x.is_floating_point() else COLOUR_TOLERANCE)


def invert_polarity(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Exchange dark and bright, 1 - x."""
    return 1 - x if x.is_floating_point() else 255 - x


def mean_intensity(x: Shaped[Tensor, "n channels height width"]) -> float:
    """Mean over all pixels in [0, 1], summed in chunks so that no floating copy of the data is made."""
    total = sum(part.sum(dtype=torch.float64).item() for part in _chunks(x))
    return total / x.numel() / (1 if x.is_floating_point() else 255)


def _chunks(x: Tensor) -> Iterator[Tensor]:
    rows = max(1, CHUNK_VALUES // x[:1].numel())
    for start in range(0, len(x), rows):
        yield x[start : start + rows]
