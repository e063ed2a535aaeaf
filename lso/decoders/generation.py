"""Sequences from codes alone: greedy, sampled or by beam search, a function of the arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from lso.vae.errors import UsageError
from lso.vae.models.sequence_decoding import beam, greedy, sample
from lso.vae.models.vae import VAE
from lso.vae.utils.random import generator
from lso.vae.utils.validation import convert, require
from lso.vae.vocabulary import PAD, SPECIALS, Vocabulary

DecodingMethod = Literal["greedy", "sample", "beam"]
MAX_LOGITS_PER_PASS = 5_000_000  # of the next tokens of all sequences in one pass
MAX_CODES_PER_PASS = 1000  # codes in one pass
# The decoding methods that use each option; with another method only the option's default is accepted.
OPTION_METHODS: Mapping[str, tuple[DecodingMethod, ...]] = {
    "temperature": ("sample",),
    "top_p": ("sample",),
    "beam_width": ("beam",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How codes become sequences.

    Args:
        how: the likeliest token after the other, tokens drawn one after the other, or beam search.
        temperature: of a sample; see `lso.vae.models.sequence_decoding.sample`.
        top_p: of a sample.
        beam_width: of a beam.
        common: whether all codes share one row of uniforms, so that a sample is a function of its code; else each code
            has its own.
        seed: of the uniforms.
    Raises:
        UsageError: if a value is unknown, out of range, or of another way.
    """

    how: DecodingMethod = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    beam_width: int = 5
    common: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        convert(self.how, DecodingMethod, "how")
        for key, ways in OPTION_METHODS.items():
            usual = Generation.__dataclass_fields__[key].default
            if self.how not in ways and getattr(self, key) != usual:
                raise UsageError(
                    f"{key} is of the way {' or '.join(ways)}, and the way is {self.how}",
                    f"Leave it out, or ask for {ways[0]}.",
                )
        require(0 < self.temperature < float("inf"), "a temperature > 0", self.temperature, "1 is the model's own.")
        require(0 < self.top_p <= 1, "0 < top_p <= 1", self.top_p, "1 is the model's own; 0.9 is usual.")
        require(self.beam_width >= 1, "a beam width >= 1", self.beam_width, "1 is greedy; 4 to 10 is usual.")

    def told(self) -> str:
        """The way in words.

        Returns:
            e.g. ``"beam search of width 5"``.
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
        """The way for JSON.

        Returns:
            ``how`` and what matters to it.
        """
        found: dict[str, Any] = {"how": self.how}
        found |= {key: getattr(self, key) for key, ways in OPTION_METHODS.items() if self.how in ways}
        return found | ({"uniforms": "common" if self.common else "own"} if self.how == "sample" else {})


@torch.no_grad()
def generate(
    model: VAE,
    z: Float[Tensor, "n latent"],
    way: Generation = Generation(),
    callback: Callable[[int, int], None] | None = None,
) -> Int[Tensor, "n longest"]:
    """Sequences of codes.

    Args:
        model: of sequences, in eval mode.
        z: ``(n, latent)``, of the model's dtype and device.
        way: how.
        callback: called with (codes done, codes to do).
    Returns:
        ``(n, longest)`` tokens: start, tokens, end, padding; a function of the arguments, whatever the batch.
    """
    longest, words = model.shape
    width = way.beam_width if way.how == "beam" else 1
    size = min(MAX_CODES_PER_PASS, max(1, MAX_LOGITS_PER_PASS // (words * width)))
    noise = _draw_uniforms(way, len(z), longest).to(z)
    parts = []
    for first in range(0, len(z), size):
        rows = slice(first, first + size)
        found = _generate_chunk(model, z[rows], way, noise[rows])
        parts.append(pad(found, (0, longest - found.shape[1]), value=PAD))
        if callback is not None:
            callback(min(rows.stop, len(z)), len(z))
    return torch.cat(parts) if parts else torch.zeros(0, longest, dtype=torch.long, device=z.device)


def _generate_chunk(model: VAE, z: Tensor, way: Generation, noise: Tensor) -> Tensor:
    decoder = model.stepwise
    if way.how == "sample":
        return sample(decoder, z, noise, way.temperature, way.top_p)
    if way.how == "beam":
        return beam(decoder, z, way.beam_width, model.shape[0])
    return greedy(decoder, z, model.shape[0])


def _draw_uniforms(way: Generation, n: int, longest: int) -> Tensor:
    if way.how != "sample":
        return torch.zeros(1, longest).expand(n, longest)
    count = 1 if way.common else n
    return torch.rand(count, longest, generator=generator(way.seed, "uniforms")).expand(n, longest)


def vocabulary_of(model: VAE) -> Vocabulary:
    """A model's vocabulary; where it has none, the numbers of the tokens stand for them."""
    if model.vocabulary is not None:
        return model.vocabulary
    return Vocabulary((*SPECIALS, *map(str, range(len(SPECIALS), model.shape[1]))))
