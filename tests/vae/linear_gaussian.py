"""A closed-form world: a linear-Gaussian VAE with exact evidence, posterior and mutual information.

    z ~ N(0, I),  x = W z + b + s e,  W = Q diag(c) with orthonormal columns Q,  c_j^2 = s^2 g_j,  g_j = exp(2 I_j) - 1

The exact posterior is then diagonal, of variance v_j = exp(-2 I_j) and mean v_j g_j / c_j Q_j^T (x - b); dimension j
tells I_j nats of x, and under the exact encoder the aggregated posterior is the prior. A wrong encoder is off by
``shift`` posterior standard deviations in every mean and by the factor ``inflate`` in every variance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from lso.vae.config.architectures import Architecture
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.distributions.pixels import Gaussian
from lso.vae.models.vae import VAE

SHAPE = (1, 8, 8)
SCALE = 0.5  # s, the observation noise


class LinearEncoder(nn.Module):
    """q(z|x) = N(A x + a, diag(exp(log_var)))."""

    def __init__(self, weight: Tensor, bias: Tensor, log_var: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.log_var = nn.Parameter(weight), nn.Parameter(bias), nn.Parameter(log_var)

    def forward(self, x: Tensor) -> DiagonalGaussian:
        mean = x.flatten(1) @ self.weight.T + self.bias
        return DiagonalGaussian(mean, self.log_var.expand_as(mean))


class LinearDecoder(nn.Module):
    """p(x|z) = N(W z + b, s^2 I)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, z: Tensor, x: Tensor | None = None) -> Gaussian:
        log_scale = torch.full((1, 1, 1), math.log(SCALE), dtype=z.dtype)
        return Gaussian((z @ self.weight.T + self.bias).reshape(-1, *SHAPE), log_scale)


@dataclass(frozen=True)
class World:
    """The model in double precision, and what is known of it in closed form."""

    model: VAE
    weight: Tensor  # (64, d) W
    bias: Tensor  # (64,) b
    information: Tensor  # (d,) I_j, nats
    shift: float
    inflate: float

    def data(self, n: int, generator: Generator) -> Tensor:
        """``(n, 1, 8, 8)`` draws from the model."""
        z = torch.randn(n, len(self.information), generator=generator, dtype=torch.float64)
        noise = torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)
        return (self.model.decode(z).mean + SCALE * noise).detach()

    def log_evidence(self, x: Tensor) -> Tensor:
        """``(n,)`` log N(x; b, W W^T + s^2 I), nats, by a dense factorization."""
        covariance = self.weight @ self.weight.T + SCALE**2 * torch.eye(len(self.bias), dtype=torch.float64)
        factor = torch.linalg.cholesky(covariance)
        white: Tensor = torch.linalg.solve_triangular(factor, (x.flatten(1) - self.bias).T, upper=False)
        return -0.5 * (white**2 + math.log(2 * math.pi)).sum(0) - torch.log(factor.diagonal()).sum()

    def gap(self) -> float:
        """KL(q(z|x) || p(z|x)), nats: the same for every x. 1/2 (r + shift^2 - 1 - log r) a dimension."""
        each = 0.5 * (self.inflate + self.shift**2 - 1 - math.log(self.inflate))
        return len(self.information) * each

    def weight_variance(self) -> float:
        """Variance of w / p(x), the same for every x: E_q[(p/q)^2] - 1, p / q Gaussian in each dimension, 2 r > 1."""
        r = self.inflate
        each = r / math.sqrt(2 * r - 1) * math.exp(self.shift**2 / (2 * r - 1))
        return float(each ** len(self.information) - 1)


def linear_gaussian(information: list[float], *, shift: float = 0.0, inflate: float = 1.0) -> World:
    """A world with the given nats in each dimension.

    Args:
        information: I_j, nats.
        shift: error of the encoder's means, in posterior standard deviations.
        inflate: factor on the encoder's variances.
    Returns:
        The world.
    """
    nats = torch.tensor(information, dtype=torch.float64)
    generator = Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(math.prod(SHAPE), len(nats), generator=generator, dtype=torch.float64))
    bias = torch.rand(len(basis), generator=generator, dtype=torch.float64)
    gain, variance = SCALE * torch.sqrt(torch.expm1(2 * nats)), torch.exp(-2 * nats)
    inverse = (variance * gain / SCALE**2)[:, None] * basis.T
    model = VAE(Architecture(latent_dim=len(nats), likelihood="gaussian", width=1), False, SHAPE)
    model.encoder = LinearEncoder(inverse, shift * torch.sqrt(variance) - inverse @ bias, torch.log(inflate * variance))
    model.decoder = LinearDecoder(basis * gain, bias)
    return World(model, basis * gain, bias, nats, shift, inflate)
