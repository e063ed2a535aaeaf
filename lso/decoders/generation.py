"""Generating sequences from codes: greedily, by sampling or by beam search, deterministic for given arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from lso.vae.errors import UsageError
from lso.vae.models.sequence_decoding import beam_search, decode_greedily, sample_tokens
from lso.vae.models.vae import VAE
from lso.vae.utils.random import generator
from lso.vae.utils.validation import convert, require
from lso.vae.vocabulary import PAD, SPECIALS, Vocabulary

DecodingMethod = Literal["greedy", "sample", "beam"]
# Memory of one pass: next-token logits of all its sequences (codes x words x beam width), and codes.
MAX_LOGITS_PER_PASS = 5_000_000
MAX_CODES_PER_PASS = 1000
# The decoding methods that use each option; with another method only the option's default is accepted.
OPTION_METHODS: Mapping[str, tuple[DecodingMethod, ...]] = {
    "temperature": ("sample",),
    "top_p": ("sample",),
    "beam_width": ("beam",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How codes are decoded to sequences.

    Args:
        how: ``greedy`` takes the likeliest token at each position, ``sample`` draws it, ``beam`` is beam search.
        temperature: of ``sample``: logits are divided by it; see `lso.vae.models.sequence_decoding.sample_tokens`.
        top_p: of ``sample``: tokens are drawn among the likeliest whose probabilities sum to this share.
        beam_width: of ``beam``: candidates kept at each position.
        common: of ``sample``: whether all codes share one row of uniform random numbers, so that the sequence is a
            function of the code; otherwise each code has its own.
        seed: of the uniform random numbers.
    Raises:
        UsageError: if a value is unknown or out of range, or an option of another decoding method is set.
    """

    how: DecodingMethod = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    beam_width: int = 5
    common: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        convert(self.how, DecodingMethod, "how")
        for key, methods in OPTION_METHODS.items():
            default = Generation.__dataclass_fields__[key].default
            if self.how not in methods and getattr(self, key) != default:
                raise UsageError(
                    f"{key} belongs to decoding by {' or '.join(methods)}, and this is decoding by {self.how}",
                    f"Leave {key} out, or decode by {methods[0]}.",
                )
        require(
            0 < self.temperature < float("inf"),
            "a temperature > 0",
            self.temperature,
            "1 draws from the model's own probabilities.",
        )
        require(0 < self.top_p <= 1, "0 < top_p <= 1", self.top_p, "1 draws from all tokens; 0.9 is a common choice.")
        require(self.beam_width >= 1, "a beam width >= 1", self.beam_width, "1 is greedy; 4 to 10 are common choices.")

    def told(self) -> str:
        """The decoding method in words, for reports.

        Returns:
            E.g. ``"beam search of width 5"``.
        """
        if self.how == "greedy":
            return "the likeliest tokens, one after the other"
        if self.how == "beam":
            return f"beam search of width {self.beam_width}"
        changes = [f"temperature {self.temperature:g}"] * (self.temperature != 1)
        changes += [f"the likeliest {100 * self.top_p:g} %"] * (self.top_p < 1)
        shared = "from uniforms common to all codes" if self.common else "from uniforms of each code's own"
        return ", ".join([f"samples {shared}", *changes])

    def record(self) -> dict[str, Any]:
        """The settings for JSON.

        Returns:
            ``how``, the options that this decoding method uses, and for ``sample`` whether codes share random numbers.
        """
        settings: dict[str, Any] = {"how": self.how}
        settings |= {key: getattr(self, key) for key, methods in OPTION_METHODS.items() if self.how in methods}
        return settings | ({"uniforms": "common" if self.common else "own"} if self.how == "sample" else {})


@torch.no_grad()
def generate_sequences(
    model: VAE,
    z: Float[Tensor, "n latent"],
    generation: Generation = Generation(),
    callback: Callable[[int, int], None] | None = None,
) -> Int[Tensor, "n longest"]:
    """Decode codes to token sequences ``(n, longest)``: start, tokens, end, padding.

    The model is in eval mode, and the codes have its dtype and device. A sequence depends on the arguments alone, not
    on the codes decoded with it. ``callback`` is called with (codes done, codes in all).
    """
    longest, words = model.shape
    width = generation.beam_width if generation.how == "beam" else 1
    size = min(MAX_CODES_PER_PASS, max(1, MAX_LOGITS_PER_PASS // (words * width)))
    noise = _draw_uniforms(generation, len(z), longest).to(z)
    parts = []
    for first in range(0, len(z), size):
        rows = slice(first, first + size)
        tokens = _generate_chunk(model, z[rows], generation, noise[rows])
        parts.append(pad(tokens, (0, longest - tokens.shape[1]), value=PAD))
        if callback is not None:
            callback(min(rows.stop, len(z)), len(z))
    return torch.cat(parts) if parts else torch.zeros(0, longest, dtype=torch.long, device=z.device)


def _generate_chunk(model: VAE, z: Tensor, generation: Generation, noise: Tensor) -> Tensor:
    decoder = model.stepwise
    if generation.how == "sample":
        return sample_tokens(decoder, z, noise, generation.temperature, generation.top_p)
    if generation.how == "beam":
        return beam_search(decoder, z, generation.beam_width, model.shape[0])
    return decode_greedily(decoder, z, model.shape[0])


def _draw_uniforms(generation: Generation, n: int, longest: int) -> Tensor:
    if generation.how != "sample":
        return torch.zeros(1, longest).expand(n, longest)
    count = 1 if generation.common else n
    return torch.rand(count, longest, generator=generator(generation.seed, "uniforms")).expand(n, longest)


def vocabulary_of(model: VAE) -> Vocabulary:
    """A model's vocabulary; for a model saved without one, the tokens' numbers serve as words."""
    if model.vocabulary is not None:
        return model.vocabulary
    return Vocabulary((*SPECIALS, *map(str, range(len(SPECIALS), model.shape[1]))))
