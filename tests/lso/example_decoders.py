"""Small decoders with known answers, and every decoder that ships."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.distributions.pixels import LIKELIHOODS
from lso.vae.models.vae import VAE, build

EVENT = (1, 4, 4)
FACTORISED = [name for name, spec in ARCHITECTURES.items() if not spec.autoregressive]
SHIPPED = list(product(FACTORISED, (False, True), LIKELIHOODS))  # the autoregressive ones: test_context.py


class Planted(nn.Module):
    """x = A y + 0.4 sin(B y), y = scales * z, with orthonormal columns A and B: near an isometry, so codes are unique.

    A scale of 0 plants a dead dimension, one of 1e-3 a weak one. `encode` inverts the linear part.
    """

    def __init__(self, scales: Sequence[float], seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        frames = torch.linalg.qr(torch.randn(2, 16, len(scales), generator=random, dtype=torch.float64))[0]
        self.linear, self.wave = nn.Parameter(frames[0]), nn.Parameter(frames[1])
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float64))
        self.scales: Tensor
        self.latent_dim = len(scales)

    def decode(self, z: Tensor) -> Tensor:
        y = z * self.scales
        return (y @ self.linear.T + 0.4 * torch.sin(y @ self.wave.T)).reshape(-1, *EVENT)

    def encode(self, x: Tensor) -> Tensor:
        y: Tensor = x.flatten(1) @ self.linear
        return torch.where(self.scales > 0, y / self.scales.clamp_min(1e-6), 0.0)


class Noisy(nn.Module):
    """Layers that behave differently in training: dropout and batch statistics."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.layers(z)
        return out


def draws(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def planted(*scales: float, batch_size: int | None = None) -> Decoder:
    return Decoder(Planted(scales or (1.0,) * 4), batch_size=batch_size)


def reconstruction(count: int = 3, *scales: float) -> LatentObjective:
    """Targets that the decoder can make exactly."""
    decoder = planted(*scales)
    return LatentObjective.reconstruct(decoder, decoder(draws(count, decoder.latent_dim, seed=7)))


def shipped(name: str, skip: bool, likelihood: str, side: int = 8, channels: int = 1) -> VAE:
    sizes = architecture(name, latent_dim=3, likelihood=likelihood, width=6)
    return build(sizes, skip, (channels, side, side), seed=3)
