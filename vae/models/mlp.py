"""Fully connected encoder and decoder, two hidden layers each."""

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, PosteriorFamily
from lso.vae.distributions.families import from_output
from lso.vae.distributions.pixels import Head
from lso.vae.protocols import Likelihood, Posterior


class MlpEncoder(nn.Module):
    """x -> two ELU layers -> the posterior's parameters; the architecture's width is that of the hidden layers."""

    def __init__(
        self, shape: tuple[int, ...], architecture: Architecture, posterior: PosteriorFamily = DiagonalPosterior()
    ) -> None:
        super().__init__()
        self.posterior = posterior
        width = architecture.width
        self.layers = nn.ModuleList([nn.Linear(math.prod(shape), width), nn.Linear(width, width)])
        self.output = nn.Linear(width, posterior.parameters(architecture.latent_dim))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Posterior:
        """Encode a batch."""
        h = x.flatten(1)
        for layer in self.layers:
            h = F.elu(layer(h))
        return from_output(self.posterior, self.output(h))


class MlpDecoder(nn.Module):
    """z -> two ELU layers -> likelihood; with ``skip``, h_{l+1} = act(W_l h_l + b_l + U_l z) in every layer.

    Source of the skip edges: Dieng et al. (2019), arXiv:1807.04863, eq. 7. The network in their code is another one
    (1024 wide, ReLU, a biased map of z to each of two hidden layers and none to the output: 4,861,752 parameters with
    its encoder at 28x28 and 20 latents, where this one of that width has 3,805,304). Deviation: z enters the output
    layer as well, which the authors' fully connected model leaves out.
    """

    def __init__(self, shape: tuple[int, ...], architecture: Architecture, skip: bool = False) -> None:
        super().__init__()
        latent_dim, width = architecture.latent_dim, architecture.width
        self.shape = shape
        sizes = [latent_dim, width, width, math.prod(shape)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.edges = nn.ModuleList(nn.Linear(latent_dim, b, bias=False) for b in sizes[2:] if skip)
        self.head = Head(architecture.likelihood, shape[0])

    def forward(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """Decode a batch of codes."""
        h: Tensor = self.layers[0](z)
        for i, layer in enumerate(self.layers[1:]):
            h = layer(F.elu(h))
            if self.edges:
                h = h + self.edges[i](z)
        likelihood: Likelihood = self.head(h.reshape(-1, *self.shape))
        return likelihood
