"""The table of architectures: network families with their sizes. Torch-free; `model.build` makes the networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lso.vae.errors import unknown_name
from lso.vae.values import convert, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes of a VAE.

    Args:
        name: row of `ARCHITECTURES`.
        latent_dim: size of z.
        likelihood: of the pixels: Bernoulli, Gaussian or discretized logistic.
        width: hidden units (mlp) or channels of the first stage (conv).
    Raises:
        UsageError: for an unknown name or a size below 1.
    """

    name: str = "mlp"
    latent_dim: int = 32
    likelihood: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli"
    width: int = 256

    def __post_init__(self) -> None:
        if self.name not in ARCHITECTURES:
            raise unknown_name("architecture", self.name, ARCHITECTURES)
        require(self.latent_dim >= 1, "latent_dim >= 1", self.latent_dim, "2 to 64 is usual.")
        require(self.width >= 1, "width >= 1", self.width, "The default is 256 (mlp) or 32 (conv).")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureSpec:
    """A row of the table.

    Args:
        summary: one line for lists.
        width: default of `Architecture.width`.
    """

    summary: str
    width: int


ARCHITECTURES: Mapping[str, ArchitectureSpec] = {
    "mlp": ArchitectureSpec(summary="two hidden layers each way, any image of 8x8 to 64x64", width=256),
    "conv": ArchitectureSpec(summary="small strided convolutions each way, any image of 8x8 to 64x64", width=32),
}


def architecture(
    name: str, latent_dim: int = 32, likelihood: str = "bernoulli", width: int | None = None
) -> Architecture:
    """An architecture by name, with the family's own default width.

    Args:
        name: row of `ARCHITECTURES`.
        latent_dim: size of z.
        likelihood: of the pixels.
        width: hidden units or channels; None is the family's default.
    Returns:
        The architecture.
    Raises:
        UsageError: for an unknown name or a size below 1.
    """
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    known = convert(likelihood, Literal["bernoulli", "gaussian", "logistic"], "likelihood")
    return Architecture(
        name=name, latent_dim=latent_dim, likelihood=known, width=ARCHITECTURES[name].width if width is None else width
    )
