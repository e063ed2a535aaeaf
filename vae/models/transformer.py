"""A small transformer encoder and decoder of sequences, for molecules and longer strings.

Blocks are pre-norm (Xiong et al. 2020, arXiv:2002.04745): h + attend(norm(h)), then h + feed_forward(norm(h)), with
gelu and four times the width inside. Positions are sinusoids (Vaswani et al. 2017, arXiv:1706.03762), which are not
learned and have no limit: sequences longer than in training can be read and written, if not well.

The encoder attends to all tokens but padding; the mean of its outputs at the tokens is mapped to the posterior.
The decoder is causal. A linear map of z is added to each of its inputs; with generative skips (the idea of Dieng et al.
2019) further maps of z are added before each further block and before the output layer. Without latents it is a
language model. Attention is written out, since fused kernels cannot be differentiated twice.
"""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import HEADS, Architecture
from lso.vae.config.components import DiagonalPosterior, PosteriorFamily
from lso.vae.distributions.categorical import Categorical
from lso.vae.distributions.families import from_output
from lso.vae.models.dropout import Dropout, WordDropout
from lso.vae.precision import to_float32
from lso.vae.protocols import Posterior
from lso.vae.vocabulary import PAD

State = tuple[Tensor, ...]
FEED_FORWARD_FACTOR = 4  # width inside the feed-forward layers, as a multiple of that of the block
MAX_WAVELENGTH = 10_000.0  # longest wavelength of the positions, divided by 2 pi
INITIAL_DEVIATION = 0.02  # standard deviation of the initial weights of linear layers


def sinusoids(first: int, count: int, like: Float[Tensor, "*any width"]) -> Float[Tensor, "count width"]:
    """Sinusoidal encodings of positions: sines, then cosines, at wavelengths from 2 pi to 20,000 pi."""
    half = like.shape[-1] // 2
    position = torch.arange(first, first + count, dtype=torch.float64, device=like.device)
    rate = MAX_WAVELENGTH ** -(torch.arange(half, dtype=torch.float64, device=like.device) / half)
    angle = position[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1).to(like.dtype)


class TransformerBlock(nn.Module):
    """Attention, then two linear layers at each position, each added to its input after dropout."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = (
            nn.Linear(width, FEED_FORWARD_FACTOR * width),
            nn.Linear(FEED_FORWARD_FACTOR * width, width),
        )
        self.dropouts = nn.ModuleList(Dropout(dropout, width) for _ in range(2))

    def forward(
        self,
        h: Float[Tensor, "batch position width"],
        seen: Bool[Tensor, "#batch 1 #position key"],
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch position width"], tuple[Tensor, Tensor]]:
        """The block's output, and its keys and values, those of the past included.

        Args:
            h: ``(batch, position, width)`` features.
            seen: which keys each position attends to, broadcast over the heads.
            past: keys and values of positions before these, ``(batch, before, width)``.
        """
        query, key, value = self.project(self.norms[0](h)).chunk(3, -1)
        if past is not None:
            key, value = torch.cat([past[0], key], 1), torch.cat([past[1], value], 1)
        h = h + self.dropouts[0](self.merge(attend(query, key, value, seen)))
        return h + self.dropouts[1](self.narrow(F.gelu(self.widen(self.norms[1](h))))), (key, value)


def attend(
    query: Float[Tensor, "batch position width"],
    key: Float[Tensor, "batch key width"],
    value: Float[Tensor, "batch key width"],
    seen: Bool[Tensor, "#batch 1 #position key"],
) -> Float[Tensor, "batch position width"]:
    """Attention softmax(q k' / sqrt(d)) v in each head, over the keys that are seen."""
    size = query.shape[-1] // HEADS
    q, k, v = (part.reshape(*part.shape[:2], HEADS, size).transpose(1, 2) for part in (query, key, value))
    scores = (q @ k.transpose(-1, -2) / math.sqrt(size)).masked_fill(~seen, -torch.inf)  # (B, heads, L, keys)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(query.shape)


class TransformerEncoder(nn.Module):
    """Blocks over the sequence, start and end symbol included, whose mean output is mapped to the posterior.

    Sequences longer than those it was made for are read too.
    """

    def __init__(
        self, shape: tuple[int, ...], architecture: Architecture, posterior: PosteriorFamily = DiagonalPosterior()
    ) -> None:
        super().__init__()
        self.posterior = posterior
        width = architecture.width
        self.embedding = nn.Embedding(shape[1], width)
        self.blocks = nn.ModuleList(TransformerBlock(width, 0.0) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, posterior.parameters(architecture.latent_dim))
        _initialize(self)

    def forward(self, x: Shaped[Tensor, "batch length ..."]) -> Posterior:
        """The posterior of sequences.

        Args:
            x: ``(batch, length)`` token numbers, or ``(batch, length, words)`` probabilities of tokens, whose embedding
                is the expected one; rows of zeros are padding.
        """
        soft = x.is_floating_point()
        inside = (x.sum(-1) > 0) if soft else (x != PAD)
        h = _embed(x @ self.embedding.weight if soft else self.embedding(x))
        for block in self.blocks:
            h, _ = block(h, inside[:, None, None])
        counted = inside.to(h.dtype).unsqueeze(-1)
        pooled = (self.norm(h) * counted).sum(1) / counted.sum(1)
        return from_output(self.posterior, self.head(pooled))


class TransformerDecoder(nn.Module):
    """The distribution of each token given z and the tokens before it; with ``skip``, z enters before each block and
    the output layer, and not before the first block only.

    Dropout acts on the inputs and on what each half of a block adds. Sequences longer than those it was made for are
    written too.
    """

    def __init__(self, shape: tuple[int, ...], architecture: Architecture, skip: bool = False) -> None:
        super().__init__()
        width, layers, latent = architecture.width, architecture.layers, architecture.latent_dim
        self.embedding = nn.Embedding(shape[1], width)
        self.word_drop, self.dropout = WordDropout(architecture.word_drop), Dropout(architecture.dropout, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, architecture.dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape[1])
        _initialize(self)
        entries = 0 if latent == 0 else layers + 1 if skip else 1
        self.entries = nn.ModuleList(nn.Linear(latent, width, bias=False) for _ in range(entries))

    def forward(self, z: Float[Tensor, "batch latent"], x: Int[Tensor, "batch length"]) -> Categorical:
        """The likelihood of sequences, each token given the true ones before it."""
        logits, _ = self._run(self.word_drop(x[:, :-1]), self.begin(z), z)
        return Categorical(to_float32(logits), x)

    def begin(self, z: Float[Tensor, "batch latent"]) -> State:
        """The state before the first token."""
        empty = z.new_zeros(z.shape[0], 0, self.embedding.embedding_dim)
        return (empty,) * (2 * len(self.blocks))

    def advance(
        self, state: State, token: Int[Tensor, " batch"], z: Float[Tensor, "batch latent"]
    ) -> tuple[Float[Tensor, "batch word"], State]:
        """Read one token: the logits of the next one, and the state, one position longer.

        Only the new position is computed; keys and values of the others are in the state.
        """
        logits, state = self._run(token.unsqueeze(1), state, z)
        return logits[:, 0], state

    def _run(self, tokens: Tensor, state: State, z: Tensor) -> tuple[Tensor, State]:
        before, count = state[0].shape[1], tokens.shape[1]
        seen = torch.ones(count, before + count, dtype=torch.bool, device=tokens.device).tril(before)[None, None]
        codes = [entry(z).unsqueeze(1) for entry in self.entries]
        h = self.dropout(_embed(self.embedding(tokens), before))
        after: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            h = h + codes[number] if number < len(codes) else h
            h, kept = block(h, seen, (state[2 * number], state[2 * number + 1]))
            after += kept
        h = self.norm(h)
        return self.head(h + codes[-1] if len(codes) > len(self.blocks) else h), tuple(after)


def _embed(embedded: Tensor, first: int = 0) -> Tensor:
    """Embeddings, scaled to unit variance at initialization, with the encodings of their positions added."""
    return embedded * math.sqrt(embedded.shape[-1]) + sinusoids(first, embedded.shape[1], embedded)


def _initialize(module: nn.Module) -> None:
    """Initialize normally: embeddings with variance 1 / width, linear layers with `INITIAL_DEVIATION`, divided by
    sqrt(2 blocks) in those that end a branch (Radford et al. 2019); biases 0. Maps of z keep torch's initialization
    U(-a, a), a^2 = 1 / latents.
    """
    blocks = [part for part in module.modules() if isinstance(part, TransformerBlock)]
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=part.embedding_dim**-0.5)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=INITIAL_DEVIATION)
            nn.init.zeros_(part.bias)
    for block in blocks:
        for last in (block.merge, block.narrow):
            nn.init.normal_(last.weight, std=INITIAL_DEVIATION / math.sqrt(2 * len(blocks)))
