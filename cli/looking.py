"""What the commands that look at a model share: how codes are drawn, with progress where that takes long."""

from typing import TYPE_CHECKING

from lso.cli.console import Console
from lso.cli.places import How
from lso.vae.values import convert

if TYPE_CHECKING:
    from torch import Tensor

    from lso.tasks.explore import Drawing
    from lso.vae.model import VAE


def drawing(model: "VAE", how: str | None, samples: int, seed: int, *, common: bool = True) -> "Drawing":
    """How codes become images.

    Args:
        model: the VAE.
        how: mean, sample or greedy; None is the model's default.
        samples: of the mean of an autoregressive decoder.
        seed: of the uniforms.
        common: whether all codes share them.
    Returns:
        The drawing.
    Raises:
        UsageError: if there is no such way.
    """
    from lso.tasks.explore import Drawing, default_how

    chosen = default_how(model) if how is None else convert(how, How, "--how")
    return Drawing(how=chosen, common=common, seed=seed, samples=samples)


def decoded(console: Console, model: "VAE", z: "Tensor", drawn: "Drawing") -> "Tensor":
    """Images of codes, with a bar.

    Args:
        console: where to print.
        model: the VAE.
        z: ``(..., latent)``.
        drawn: how.
    Returns:
        ``(..., C, H, W)``.
    """
    from lso.cli.bars import Counting
    from lso.tasks import explore

    bar = Counting(console, "images", "drawing pixel after pixel" if model.autoregressive else "decoding")
    try:
        return explore.decode(model, z, drawn, bar)
    finally:
        bar.close()
