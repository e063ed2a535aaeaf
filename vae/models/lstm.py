"""LSTM encoder and decoder of sequences.

z is concatenated to each input embedding of the decoder and gives the initial state of its last layer; the layers below
begin at zero. Dropout acts on the embeddings and on the last layer's output. With generative skips z also enters each
further layer and the output layer. Without latents the decoder is an LSTM language model.
Source: He et al. 2019, arXiv:1901.05534, app. B.2; Kim et al. 2018; Dieng et al. 2019.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, PosteriorFamily
from lso.vae.distributions.categorical import Categorical
from lso.vae.distributions.families import from_output
from lso.vae.models.dropout import Dropout, WordDropout
from lso.vae.precision import to_float32
from lso.vae.protocols import Posterior
from lso.vae.vocabulary import PAD

State = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The choices in which the published LSTM models differ."""

    # Whether the initial cell state is a linear map of z and the initial output its tanh (He et al.); else the initial
    # output is a linear map of z and the cell state zero (Kim et al.).
    cell_start: bool
    bias: bool  # whether the linear maps from and to z and the output layer have one
    weights: tuple[float, float]  # interval of the uniform initialization
    embeddings: tuple[float, float]  # the same for embeddings


HE2019 = Wiring(cell_start=True, bias=False, weights=(-0.01, 0.01), embeddings=(-0.1, 0.1))
HE2019_OFFSET = Wiring(cell_start=True, bias=False, weights=(0.0, 0.04), embeddings=(0.0, 0.2))  # their appendix G
KIM2018 = Wiring(cell_start=False, bias=True, weights=(-0.1, 0.1), embeddings=(-0.1, 0.1))


def _initialize(module: nn.Module, wiring: Wiring) -> None:
    for name, parameter in module.named_parameters():
        nn.init.uniform_(parameter, *(wiring.embeddings if name.startswith("embedding.") else wiring.weights))


class Lstm(nn.LSTM):
    """An LSTM that is always in train mode, without which cuDNN gives no gradients.

    It has no dropout, so that eval mode would compute the same.
    """

    def train(self, mode: bool = True) -> "Lstm":
        """Stay in train mode."""
        return super().train(True)


class LstmEncoder(nn.Module):
    """An LSTM over the sequence, start and end symbol included, whose last output is mapped to the posterior."""

    def __init__(
        self,
        shape: tuple[int, ...],
        architecture: Architecture,
        posterior: PosteriorFamily = DiagonalPosterior(),
        wiring: Wiring = HE2019,
    ) -> None:
        super().__init__()
        self.posterior = posterior
        self.embedding = nn.Embedding(shape[1], architecture.embedding)
        self.lstm = Lstm(architecture.embedding, architecture.width, architecture.layers, batch_first=True)
        self.head = nn.Linear(architecture.width, posterior.parameters(architecture.latent_dim), bias=wiring.bias)
        _initialize(self, wiring)

    def forward(self, x: Shaped[Tensor, "batch length ..."]) -> Posterior:
        """The posterior of sequences.

        Args:
            x: ``(batch, length)`` token numbers, or ``(batch, length, words)`` probabilities of tokens, whose embedding
                is the expected one; rows of zeros are padding.
        """
        soft = x.is_floating_point()
        last = ((x.sum(-1) > 0) if soft else (x != PAD)).sum(1) - 1
        embedded = x @ self.embedding.weight if soft else self.embedding(x)
        outputs, _ = self.lstm(embedded)
        # An LSTM's outputs do not depend on later inputs: the one at the last token does not depend on the padding.
        at_end = outputs[torch.arange(x.shape[0], device=x.device), last]
        return from_output(self.posterior, self.head(at_end))


class LstmDecoder(nn.Module):
    """The distribution of each token given z and the tokens before it; with ``skip``, z enters each layer and the
    output layer.
    """

    def __init__(
        self, shape: tuple[int, ...], architecture: Architecture, skip: bool = False, wiring: Wiring = HE2019
    ) -> None:
        super().__init__()
        # Edition 0, that of version 0.1: z gives the initial state of every layer, and there is dropout between layers.
        everywhere = architecture.edition == 0
        embedding, hidden, latent = architecture.embedding, architecture.width, architecture.latent_dim
        self.skip, self.wiring, self.hidden = skip, wiring, hidden
        extra = latent if skip else 0
        inputs = [embedding + latent, *[hidden + extra] * (architecture.layers - 1)]
        self.embedding = nn.Embedding(shape[1], embedding)
        self.layers = nn.ModuleList(Lstm(size, hidden, batch_first=True) for size in inputs)
        starts = (architecture.layers if everywhere else 1) if latent else 0  # for so many last layers
        self.starts = nn.ModuleList(nn.Linear(latent, hidden, bias=wiring.bias) for _ in range(starts))
        self.head = nn.Linear(hidden + extra, shape[1], bias=wiring.bias)
        self.word_drop = WordDropout(architecture.word_drop)
        sizes = (embedding, *[hidden] * (architecture.layers if everywhere else 1))  # the outputs of the last layers
        self.dropouts = nn.ModuleList(Dropout(architecture.dropout, size) for size in sizes)
        _initialize(self, wiring)

    def forward(self, z: Float[Tensor, "batch latent"], x: Int[Tensor, "batch length"]) -> Categorical:
        """The likelihood of sequences, each token given the true ones before it."""
        h = self.dropouts[0](self.embedding(self.word_drop(x[:, :-1])))
        logits, _ = self._run(h, self.begin(z), z)
        return Categorical(to_float32(logits), x)

    def begin(self, z: Float[Tensor, "batch latent"]) -> State:
        """The state before the first token."""
        state: list[Tensor] = []
        zeros = z.new_zeros(z.shape[0], self.hidden)
        above = len(self.layers) - len(self.starts)
        for number in range(len(self.layers)):
            first = self.starts[number - above](z) if number >= above else zeros
            state += [torch.tanh(first), first] if self.wiring.cell_start else [first, zeros]
        return tuple(state)

    def advance(
        self, state: State, token: Int[Tensor, " batch"], z: Float[Tensor, "batch latent"]
    ) -> tuple[Float[Tensor, "batch word"], State]:
        """Read one token: the logits of the next one, and the new state."""
        logits, state = self._run(self.embedding(token).unsqueeze(1), state, z)
        return logits[:, 0], state

    def _run(self, h: Tensor, state: State, z: Tensor) -> tuple[Tensor, State]:
        codes = z.unsqueeze(1).expand(h.shape[0], h.shape[1], z.shape[1])
        after: list[Tensor] = []
        undropped = len(self.layers) + 1 - len(self.dropouts)
        for number, layer in enumerate(self.layers):
            h = torch.cat([h, codes], -1) if number == 0 or self.skip else h
            first = tuple(part.unsqueeze(0).contiguous() for part in state[2 * number : 2 * number + 2])
            h, last = layer(h, first)
            after += [part[0] for part in last]
            h = self.dropouts[number + 1 - undropped](h) if number >= undropped else h
        return self.head(torch.cat([h, codes], -1) if self.skip else h), tuple(after)


kim2018_text_encoder = partial(LstmEncoder, wiring=KIM2018)
kim2018_text_decoder = partial(LstmDecoder, wiring=KIM2018)
he2019_toy_offset_encoder = partial(LstmEncoder, wiring=HE2019_OFFSET)
he2019_toy_offset_decoder = partial(LstmDecoder, wiring=HE2019_OFFSET)
