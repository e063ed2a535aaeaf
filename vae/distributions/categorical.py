"""The categorical likelihood of token sequences, and draws of tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lso.vae.vocabulary import PAD, START


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """Tokens in order, each given those before it: log p(x|z) = sum_{t>0} log softmax(l_t)[x_t].

    The start symbol is given and adds nothing, the end symbol is predicted, padding adds nothing.

    Args:
        logits: ``(batch, length - 1, words)``, of the tokens after the first.
        forced: ``(batch, length)`` the sequences that the decoder read (teacher forcing).
    """

    logits: Float[Tensor, "batch position word"]
    forced: Int[Tensor, "batch length"]

    @property
    def mean(self) -> Float[Tensor, "batch length word"]:
        """``(batch, length, words)`` the expected one-hot sequence: the start symbol, then each token's probabilities;
        rows of zeros where the forced sequence is padding.
        """
        inside = (self.forced[:, 1:] != PAD).unsqueeze(-1)
        probabilities = torch.softmax(self.logits, -1) * inside
        return torch.cat([one_hot(self.forced[:, :1], self.logits.shape[-1]).to(probabilities), probabilities], 1)

    @property
    def mode(self) -> Int[Tensor, "batch length"]:
        """``(batch, length)`` the likeliest token at each position, given the true ones before it."""
        return self._sequence(self.logits.argmax(-1))

    def log_prob(self, x: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Log-probability of sequences, in nats."""
        flat = F.cross_entropy(self.logits.flatten(0, 1), x[:, 1:].flatten(), ignore_index=PAD, reduction="none")
        return -flat.reshape(len(x), -1).sum(1)

    def sample(self, noise: Float[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """``(batch, length)`` each token drawn from uniforms in [0, 1), given the true ones before it.

        The uniform of the start symbol is not used.
        """
        return self._sequence(draw_tokens(torch.softmax(self.logits, -1), noise[:, 1:]))

    def _sequence(self, tokens: Tensor) -> Tensor:
        start = torch.full_like(tokens[:, :1], START)
        return torch.cat([start, torch.where(self.forced[:, 1:] != PAD, tokens, PAD)], 1)


def one_hot(tokens: Int[Tensor, "*batch"], words: int) -> Bool[Tensor, "*batch word"]:
    """One-hot rows of truth values."""
    # `torch.nn.functional.one_hot` checks the values on the host, which waits for a GPU.
    return tokens.unsqueeze(-1) == torch.arange(words, device=tokens.device)


def draw_tokens(
    probabilities: Float[Tensor, "*batch word"], uniforms: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """Draw tokens by the inverse distribution function: the first word whose cumulative probability exceeds u."""
    total = probabilities.cumsum(-1)
    below = total <= (uniforms * total[..., -1]).unsqueeze(-1)
    # Where u * total rounds to the total, no word exceeds it: the last word of positive probability is drawn.
    last = (total < total[..., -1:]).sum(-1)
    return torch.minimum(below.sum(-1), last)


def count_tokens(x: Int[Tensor, "batch length"]) -> Int[Tensor, " batch"]:
    """The number of tokens in each sequence's likelihood: without start symbol and padding, with the end symbol."""
    return (x[:, 1:] != PAD).sum(1)
