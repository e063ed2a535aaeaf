"""What one looks at in a latent space: draws, codes, decodes, paths and traversals, and sheets of them with labels."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lso.pictures import grid
from lso.vae.activity import activity
from lso.vae.errors import DataError, ShapeError, UsageError
from lso.vae.gaussian import DiagonalGaussian, cat
from lso.vae.model import VAE
from lso.vae.runs import Run
from lso.vae.seeds import generator

BATCH = 1000
CODE_KEYS = ("mean", "z", "codes", "x")  # names under which codes are looked for in an .npz file


# --- codes and images --------------------------------------------------------------------------------------------


@torch.no_grad()
def encode(model: VAE, x: Float[Tensor, "n channels height width"]) -> DiagonalGaussian:
    """Posteriors of images.

    Args:
        model: in eval mode.
        x: ``(n, C, H, W)`` in [0, 1].
    Returns:
        q(z|x), ``(n, latent)``, on the CPU.
    """
    weight = next(model.parameters())
    found = cat([model.encode(part.to(weight)) for part in torch.split(x, BATCH)])
    return DiagonalGaussian(found.mean.cpu(), found.log_var.cpu())


@torch.no_grad()
def decode(model: VAE, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch channels height width"]:
    """Expected images of codes.

    Args:
        model: in eval mode.
        z: ``(..., latent)``.
    Returns:
        ``(..., C, H, W)`` in [0, 1], on the CPU.
    """
    weight = next(model.parameters())
    flat = z.reshape(-1, z.shape[-1])
    images = torch.cat([model.reconstruct(part.to(weight)).cpu() for part in torch.split(flat, BATCH)])
    return images.reshape(*z.shape[:-1], *images.shape[1:])


def draw_prior(n: int, latent_dim: int, seed: int) -> Float[Tensor, "n latent"]:
    """Codes from the prior.

    Args:
        n: how many.
        latent_dim: size of z.
        seed: of the draws.
    Returns:
        ``(n, latent)`` standard normal.
    """
    return torch.randn(n, latent_dim, generator=generator(seed, "sample"))


def path(start: Float[Tensor, " latent"], end: Float[Tensor, " latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """A straight line of codes, ends included.

    Args:
        start: first code.
        end: last code.
        steps: how many codes, >= 2.
    Returns:
        ``(steps, latent)``.
    Raises:
        UsageError: for fewer than two steps.
    """
    if steps < 2:
        raise UsageError(f"expected at least 2 steps, got {steps}", "The two ends are among them.")
    share = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    return torch.lerp(start, end, share)


def along_dimensions(
    latent_dim: int, dims: Sequence[int], reach: float, steps: int
) -> Float[Tensor, "row steps latent"]:
    """Codes that are zero but for one dimension, which goes from ``-reach`` to ``reach``.

    Args:
        latent_dim: size of z.
        dims: which dimension each row moves.
        reach: how far, in prior standard deviations.
        steps: codes in a row.
    Returns:
        ``(rows, steps, latent)``.
    Raises:
        UsageError: for a dimension that is not there.
    """
    for dim in dims:
        if not 0 <= dim < latent_dim:
            raise UsageError(f"there is no dimension {dim}", f"They count from 0: 0 to {latent_dim - 1}.")
    z = torch.zeros(len(dims), steps, latent_dim)
    z[torch.arange(len(dims)), :, list(dims)] = torch.linspace(-reach, reach, steps)
    return z


def along_directions(
    latent_dim: int, rows: int, reach: float, steps: int, seed: int
) -> Float[Tensor, "row steps latent"]:
    """Codes from the origin outwards along random directions, up to norm ``reach``.

    Args:
        latent_dim: size of z.
        rows: how many directions, uniform on the sphere.
        reach: the last norm.
        steps: codes in a row, the origin among them.
        seed: of the directions.
    Returns:
        ``(rows, steps, latent)``.
    """
    direction = torch.randn(rows, latent_dim, generator=generator(seed, "directions"))
    unit = torch.nn.functional.normalize(direction, dim=1)
    return torch.linspace(0, reach, steps)[None, :, None] * unit[:, None]


def dimension_activity(run: Run) -> Float[Tensor, " latent"]:
    """Variance of the posterior mean over the run's validation split, for each dimension.

    Args:
        run: a training run.
    Returns:
        ``(latent,)``.
    Raises:
        DataError: if the run has no codes yet.
    """
    codes = run.codes()
    if codes is None:
        raise DataError(f"{run.path} has no codes.npz", f"It was cut early; continue it: lso train --resume {run.path}")
    found: Tensor = activity(codes.mean)
    return found


def read_codes(file: Path, latent_dim: int) -> Float[Tensor, "n latent"]:
    """Codes from an .npy or .npz file, such as `lso encode` and every run and search write.

    Args:
        file: where.
        latent_dim: size that they must have.
    Returns:
        ``(n, latent)``; leading axes are flattened.
    Raises:
        DataError: if the file is missing, damaged or holds no codes; pickles are refused unread.
        ShapeError: if they are of another size.
    """
    from lso.tasks.arrays import load_arrays
    from lso.tasks.task import existing

    arrays = load_arrays(existing(file))
    key = next((name for name in CODE_KEYS if name in arrays), "")
    if not key and len(arrays) == 1:
        key = next(iter(arrays))
    if not key or arrays[key].dtype.kind not in "fiu":
        raise DataError(
            f"{file} holds no codes: it has {', '.join(sorted(arrays)) or 'nothing'}",
            f"Name them {' or '.join(CODE_KEYS[:3])}.",
        )
    codes = torch.from_numpy(np.ascontiguousarray(arrays[key])).float()
    if codes.ndim == 0 or codes.shape[-1] != latent_dim or codes.numel() == 0:
        raise ShapeError(
            f"{file}: codes have shape {tuple(codes.shape)}, expected (n, {latent_dim})", "They are of another model."
        )
    return codes.reshape(-1, latent_dim)


def write_codes(file: Path, q: DiagonalGaussian, names: Sequence[str], labels: Tensor | None = None) -> None:
    """Posteriors as .npz: ``mean``, ``log_var``, ``names``, and ``labels`` where they are known.

    Args:
        file: where.
        q: ``(n, latent)``.
        names: one for each datum.
        labels: ``(n,)`` classes, or None.
    Raises:
        DataError: if it cannot be written.
    """
    arrays: dict[str, Any] = {"mean": q.mean.numpy(), "log_var": q.log_var.numpy(), "names": np.array(names)}
    if labels is not None:
        arrays["labels"] = labels.cpu().numpy()
    try:
        with file.open("wb") as stream:
            np.savez(stream, **arrays)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot write {file}: {error}", "Choose another --out.") from None


# --- sheets ------------------------------------------------------------------------------------------------------

LABEL = 13  # text height, pixels


def sheet(
    images: Float[Tensor, "row step channels height width"],
    labels: Sequence[str],
    heads: Sequence[str] = (),
    at_least: int = 40,
) -> np.ndarray:
    """Rows of images with a label before each row and a heading above the columns that have one.

    Args:
        images: ``(rows, steps, C, H, W)``.
        labels: one a row.
        heads: one a column; empty ones are left out.
        at_least: least height of an image, pixels.
    Returns:
        ``(H, W, 3)`` bytes.
    """
    rows = [grid(row, len(row), at_least=at_least) for row in images]
    body = np.concatenate(rows)
    left = max(_width(text) for text in labels) + 12 if labels else 0
    top = LABEL + 10 if any(heads) else 0
    whole = np.full((top + body.shape[0], left + body.shape[1], 3), 255, dtype=np.uint8)
    whole[top:, left:] = body
    pitch, height = body.shape[1] / images.shape[1], rows[0].shape[0]
    texts = [(left - 6, top + (i + 0.5) * height, "rm", text) for i, text in enumerate(labels)]
    texts += [(left + (i + 0.5) * pitch, top / 2, "mm", text) for i, text in enumerate(heads) if text]
    return _written(whole, texts)


def _font() -> object:
    from PIL import ImageFont

    return ImageFont.load_default(LABEL)


def _width(text: str) -> int:
    from PIL import Image, ImageDraw

    return round(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(text, font=_font()))  # type: ignore[arg-type]


def _written(pixels: np.ndarray, texts: Sequence[tuple[float, float, str, str]]) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y, anchor, text in texts:
        draw.text((x, y), text, fill=(60, 66, 74), font=_font(), anchor=anchor)  # type: ignore[arg-type]
    return np.asarray(image)
