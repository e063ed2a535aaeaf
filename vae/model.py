"""The VAE: an encoder, a decoder and what one needs to know to rebuild them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lso.vae.architectures import Architecture
from lso.vae.conv import ConvDecoder, ConvEncoder
from lso.vae.errors import ShapeError
from lso.vae.gaussian import DiagonalGaussian
from lso.vae.likelihoods import Likelihood
from lso.vae.mlp import MlpDecoder, MlpEncoder
from lso.vae.seeds import mix

MIN_SIDE, MAX_SIDE = 8, 64

# Torch side of the table in `architectures`: family -> (encoder, decoder).
FAMILIES: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "mlp": (MlpEncoder, MlpDecoder),
    "conv": (ConvEncoder, ConvDecoder),
}


class VAE(nn.Module):
    """Encoder q(z|x) and decoder p(x|z) under a standard normal prior.

    Args:
        architecture: family and sizes.
        skip: whether the decoder has generative skip edges.
        shape: ``(channels, height, width)`` of a datum.
    Raises:
        ShapeError: if the image is not 8x8 to 64x64 with one or three channels.
    """

    def __init__(self, architecture: Architecture, skip: bool, shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] not in (1, 3) or not all(MIN_SIDE <= s <= MAX_SIDE for s in shape[1:]):
            raise ShapeError(
                f"expected images of 1 or 3 channels and 8 to 64 pixels a side, got {shape}",
                "Resize them: --size N on the command line, DataConfig(size=N) in Python.",
            )
        self.architecture = architecture
        self.skip = skip
        self.shape = tuple(shape)
        encoder, decoder = FAMILIES[architecture.name]
        sizes = (self.shape, architecture.latent_dim, architecture.width)
        self.encoder = encoder(*sizes)
        self.decoder = decoder(*sizes, architecture.likelihood, skip)

    @property
    def latent_dim(self) -> int:
        """Size of z."""
        return self.architecture.latent_dim

    def encode(self, x: Float[Tensor, "batch channels height width"]) -> DiagonalGaussian:
        """The encoder's posterior.

        Args:
            x: ``(batch, channels, height, width)`` in [0, 1].
        Returns:
            q(z|x), ``(batch, latent)``.
        """
        q: DiagonalGaussian = self.encoder(x)
        return q

    def decode(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """The likelihood of data given codes.

        Args:
            z: ``(batch, latent)``.
            x: data that an autoregressive decoder is teacher-forced on; unused by the others.
        Returns:
            p(x|z).
        """
        likelihood: Likelihood = self.decoder(z, x)
        return likelihood

    def reconstruct(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Tensor:
        """The expected datum E[x|z].

        Args:
            z: ``(batch, latent)``.
            x: see `decode`.
        Returns:
            ``(batch, channels, height, width)``.
        """
        return self.decode(z, x).mean

    def generate(self, z: Float[Tensor, "batch latent"], noise: Tensor | None = None) -> Tensor:
        """Data from codes: a draw where uniforms are given, else the expected datum.

        Args:
            z: ``(batch, latent)``.
            noise: ``(batch, channels, height, width)`` uniforms in [0, 1), or None.
        Returns:
            ``(batch, channels, height, width)``.
        """
        likelihood = self.decode(z)
        return likelihood.mean if noise is None else likelihood.sample(noise)


def build(architecture: Architecture, skip: bool, shape: tuple[int, ...], seed: int = 0) -> VAE:
    """A freshly initialized VAE; the weights are a function of the arguments alone.

    Args:
        architecture: family and sizes.
        skip: whether the decoder has generative skip edges.
        shape: ``(channels, height, width)`` of a datum.
        seed: of the initialization; the global generator is left as it was.
    Returns:
        The model on the CPU, in train mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix(seed, "init"))  # the CPU's alone; torch.manual_seed touches GPUs too
        return VAE(architecture, skip, shape)
