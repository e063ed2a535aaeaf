"""The table of architectures: network families with their sizes. Torch-free; `model.build` makes the networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lso.vae.errors import UsageError, unknown_name
from lso.vae.values import convert, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes of a VAE.

    Args:
        name: row of `ARCHITECTURES`.
        latent_dim: size of z; 0 for an autoregressive decoder alone.
        likelihood: of the pixels: Bernoulli, Gaussian or discretized logistic.
        width: hidden units (mlp), channels of the first stage (conv) or of all layers (autoregressive families).
    Raises:
        UsageError: for an unknown name or a size out of range.
    """

    name: str = "mlp"
    latent_dim: int = 32
    likelihood: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli"
    width: int = 256

    def __post_init__(self) -> None:
        if self.name not in ARCHITECTURES:
            raise unknown_name("architecture", self.name, ARCHITECTURES)
        if self.latent_dim == 0 and not ARCHITECTURES[self.name].autoregressive:
            raise UsageError(
                f"{self.name} decodes nothing but z, and latent_dim is 0",
                f"Take an autoregressive architecture, e.g. --arch {BASELINE}, or --latent-dim 32.",
            )
        require(self.latent_dim >= 0, "latent_dim >= 0", self.latent_dim, "2 to 64 is usual.")
        default = f"The default is {ARCHITECTURES[self.name].width} ({self.name})."
        require(self.width >= 1, "width >= 1", self.width, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureSpec:
    """A row of the table.

    Args:
        summary: one line for lists.
        width: default of `Architecture.width`.
        autoregressive: whether a pixel's distribution depends on the pixels before it.
    """

    summary: str
    width: int
    autoregressive: bool = False


ARCHITECTURES: Mapping[str, ArchitectureSpec] = {
    "mlp": ArchitectureSpec(summary="two hidden layers each way, any image of 8x8 to 64x64", width=256),
    "conv": ArchitectureSpec(summary="small strided convolutions each way, any image of 8x8 to 64x64", width=32),
    "he2019": ArchitectureSpec(
        summary="ResNet encoder, 13-layer residual PixelCNN decoder (He et al. 2019)", width=64, autoregressive=True
    ),
    "he2019-small": ArchitectureSpec(
        summary="the same with 7 layers and half the channels, for a CPU", width=32, autoregressive=True
    ),
    "kim2018": ArchitectureSpec(
        summary="residual encoder, 12-layer gated PixelCNN decoder (Kim et al. 2018)", width=32, autoregressive=True
    ),
    "kim2018-masked": ArchitectureSpec(
        summary="the same as published: z passes the causal masks", width=32, autoregressive=True
    ),
    "dieng2019": ArchitectureSpec(
        summary="residual encoder, 8-layer gated PixelCNN decoder (Dieng et al. 2019)", width=32, autoregressive=True
    ),
    "dieng2019-masked": ArchitectureSpec(
        summary="the same as published: z passes the causal masks", width=32, autoregressive=True
    ),
}
BASELINE = "he2019-small"  # for a baseline without latents, where no architecture is named


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
