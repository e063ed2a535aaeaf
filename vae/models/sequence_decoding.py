"""Decoding of sequences from codes: greedy, by sampling and by beam search, batched, until all have ended.

A decoder is used through ``begin(z) -> state`` and ``advance(state, token, z) -> (logits, state)``; a state is a tuple
of tensors with the batch on their first axis. Start and padding are never chosen. A sequence that has not ended at
``longest`` gets its end symbol there.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.distributions.categorical import draw_tokens
from lso.vae.utils.validation import require
from lso.vae.vocabulary import END, PAD, START

CHECK_INTERVAL = 8  # steps between two checks whether all sequences have ended, each of which waits for a GPU

State = tuple[Tensor, ...]
Tokens = Int[Tensor, "batch length"]


@runtime_checkable
class StepDecoder(Protocol):
    """A decoder that makes sequences one token at a time."""

    def begin(self, z: Float[Tensor, "batch latent"]) -> State:
        """The state before the first token."""
        ...

    def advance(
        self, state: State, token: Int[Tensor, " batch"], z: Float[Tensor, "batch latent"]
    ) -> tuple[Tensor, State]:
        """Logits of the next token ``(batch, words)``, and the state after ``token``."""
        ...


@torch.no_grad()
def decode_greedily(decoder: StepDecoder, z: Float[Tensor, "batch latent"], longest: int) -> Tokens:
    """Sequences of the likeliest token at each position.

    Args:
        decoder: in eval mode.
        z: ``(batch, latent)`` codes.
        longest: largest number of tokens, start and end included; at least 2.
    Returns:
        ``(batch, length <= longest)``: start, tokens, end, padding; as long as the longest of them.
    """
    return _decode_stepwise(decoder, z, longest, lambda logits, position: logits.argmax(-1))


@torch.no_grad()
def sample_tokens(
    decoder: StepDecoder,
    z: Float[Tensor, "batch latent"],
    noise: Float[Tensor, "batch longest"],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Tokens:
    """Ancestral sampling by inverse distribution functions: the same uniforms give the same sequences.

    Args:
        decoder: in eval mode.
        z: ``(batch, latent)`` codes.
        noise: ``(batch, longest)`` uniforms, one for each token; the first and the last are not used.
        temperature: divides the logits.
        top_p: nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751): tokens are drawn from the fewest likeliest
            words whose probabilities sum to at least this.
    Returns:
        Tokens as those of `decode_greedily`.
    """
    require(0 < temperature < float("inf"), "a temperature > 0", temperature, "1 is the model's own; 0.5 is bolder.")
    require(0 < top_p <= 1, "0 < top_p <= 1", top_p, "1 is the model's own; 0.9 is usual.")

    def choose(logits: Tensor, position: int) -> Tensor:
        probabilities = torch.softmax(logits / temperature, -1)
        return draw_tokens(_nucleus(probabilities, top_p) if top_p < 1 else probabilities, noise[:, position])

    return _decode_stepwise(decoder, z, noise.shape[1], choose)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The probabilities of the fewest likeliest words that together reach ``top_p``; 0 for the others."""
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    kept = ordered.cumsum(-1) - ordered < top_p  # the likelier words alone do not reach it
    return torch.zeros_like(probabilities).scatter(-1, index, ordered * kept)


def _decode_stepwise(decoder: StepDecoder, z: Tensor, longest: int, choose: Callable[[Tensor, int], Tensor]) -> Tokens:
    _check_longest(longest)
    state = decoder.begin(z)
    token = torch.full((len(z),), START, device=z.device)
    ended, tokens = torch.zeros_like(token, dtype=torch.bool), [token]
    for position in range(1, longest - 1):
        logits, state = decoder.advance(state, token, z)
        token = choose(_mask_forbidden(logits), position)
        token = torch.where(ended, PAD, token)
        tokens.append(token)
        ended = ended | (token == END)
        if position % CHECK_INTERVAL == 0 and bool(ended.all()):
            break
    tokens.append(torch.where(ended, PAD, END))
    return _trim(torch.stack(tokens, 1))


def _mask_forbidden(logits: Tensor) -> Tensor:
    return logits.masked_fill(_is_forbidden(logits), -torch.inf)


def _trim(tokens: Tensor) -> Tensor:
    return tokens[:, : int((tokens != PAD).sum(1).max())] if len(tokens) else tokens[:, :0]


@torch.no_grad()
def beam_search(
    decoder: StepDecoder,
    z: Float[Tensor, "batch latent"],
    width: int,
    longest: int,
    length_penalty: float = 0.0,
) -> Tokens:
    """Beam search: after each token the ``width`` best continuations are kept; the best at the end is returned.

    Args:
        decoder: in eval mode.
        z: ``(batch, latent)`` codes.
        width: number of sequences kept for each code; 1 is greedy.
        longest: largest number of tokens, start and end included; at least 2.
        length_penalty: a; sequences are ranked by log p / (tokens)^a, the end symbol counted (0 favours short ones).
    Returns:
        Tokens as those of `decode_greedily`.
    """
    require(width >= 1, "width >= 1", width, "1 is greedy; 4 to 10 is usual.")
    require(0 <= length_penalty < float("inf"), "a length penalty >= 0", length_penalty, "0 is none; 1 is a mean.")
    _check_longest(longest)
    count, code = len(z), torch.arange(len(z), device=z.device)[:, None]
    codes = z.repeat_interleave(width, 0)
    state = decoder.begin(codes)
    tokens = torch.full((count, width, 1), START, device=z.device)
    # All beams of a code begin alike, so that only one of them may be continued.
    score = torch.where(torch.arange(width, device=z.device) == 0, 0.0, -torch.inf).to(z).repeat(count, 1)
    size, ended = torch.zeros_like(score), torch.zeros_like(score, dtype=torch.bool)
    for position in range(1, longest - 1):
        logits, state = decoder.advance(state, tokens[..., -1].flatten(), codes)
        words = logits.shape[-1]
        log_p = (
            torch.log_softmax(logits, -1).masked_fill(_is_forbidden(logits), -torch.inf).reshape(count, width, words)
        )
        # A sequence that has ended continues in one way only, by padding that costs nothing.
        log_p = torch.where(ended.unsqueeze(-1), _only_padding(log_p), log_p)
        total, size = score.unsqueeze(-1) + log_p, size + ~ended
        best = (total / size.unsqueeze(-1) ** length_penalty).flatten(1).topk(width, -1).indices
        before, token = best // words, best % words
        score, size = total.flatten(1).gather(1, best), size.gather(1, before)
        ended = ended.gather(1, before) | (token == END)
        tokens = torch.cat([tokens[code, before], token.unsqueeze(-1)], -1)
        state = tuple(part[(code * width + before).flatten()] for part in state)
        # Without a length penalty scores only fall: no other sequence can overtake a best one that has ended.
        if position % CHECK_INTERVAL == 0 and bool((ended.all(1) if length_penalty else ended[:, 0]).all()):
            break
    # The end symbols at the limit cost nothing but count as tokens, so that the ranking may change.
    first = (score / (size + ~ended) ** length_penalty).argmax(1, keepdim=True)
    tokens, ended = tokens[code, first].squeeze(1), ended.gather(1, first)
    return _trim(torch.cat([tokens, torch.where(ended, PAD, END)], 1))


def _check_longest(longest: int) -> None:
    require(longest >= 2, "longest >= 2", longest, "Start and end symbol are counted.")


def _is_forbidden(logits: Tensor) -> Tensor:
    words = torch.arange(logits.shape[-1], device=logits.device)
    return (words == PAD) | (words == START)


def _only_padding(log_p: Tensor) -> Tensor:
    only = torch.full_like(log_p, -torch.inf)
    only[..., PAD] = 0.0
    return only
