"""The task `synthetic`: sequences drawn from an LSTM whose words depend on a 2-d code (He et al. 2019, section 3)."""

from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.line_reader import TextLines
from lso.tasks.datasets.text_dataset import RawTexts
from lso.tasks.datasets.text_files import load as load_files
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import SPLITS
from lso.vae.utils.random import generator

SPLIT_SIZES = dict(zip(SPLITS, (16_000, 2_000, 2_000), strict=True))
SEQUENCE_LENGTH, VOCABULARY_SIZE = 10, 1000
HIDDEN_WIDTH, LATENT_DIM = 100, 2  # of the hidden state and of the embeddings; of z
CENTRES = ((-2.0, -2.0), (2.0, 2.0), (-2.0, 2.0), (2.0, -2.0))  # of the mixture, unit variance, equal shares
WEIGHT_RANGE, LATENT_WEIGHT_RANGE = 1.0, 5.0  # weights are uniform in +-; of the map from z to words
SEED = 0  # the data are the same whatever the run's seed
SEQUENCES_PER_BLOCK = 250  # drawn together: their probabilities, 250 x 1000 doubles or 2 MB, stay in the CPU's cache

GENERATOR_DESCRIPTION = (
    f"z from {len(CENTRES)} Gaussians of unit variance at (+-2, +-2); one-layer LSTM, {HIDDEN_WIDTH} hidden units, "
    f"{HIDDEN_WIDTH}-d embeddings, c0 affine in z and h0 = tanh(c0), z beside the LSTM's output before the words; "
    f"the first word is uniform; no end symbol is drawn: all have {SEQUENCE_LENGTH} words"
)
UNPUBLISHED_CHOICES = (
    f"ours, as the paper's files are not at hand: seed, and weights uniform in +-{WEIGHT_RANGE:g}, those from z to "
    f"words in +-{LATENT_WEIGHT_RANGE:g} (an early public version of the authors' code has the same, a later one +-3)"
)


def load(data: DataConfig, progress: Progress | None = None) -> RawTexts:
    """Generate 20,000 sequences of ten words, 16,000 of them for training, or read files of the same form.

    ``data.path`` is empty, or a file or folder of sequences with the words "0" to "999", as the authors have them.

    Source: He et al. (2019), arXiv:1901.05534, sec. 3 and app. B.1. Deviations: see `UNPUBLISHED_CHOICES`.
    """
    words = [str(number) for number in range(VOCABULARY_SIZE)]
    if data.path:
        return replace(load_files(data, progress), words=words)
    lines = [" ".join(map(str, row)) for row in draw_sequences(sum(SPLIT_SIZES.values())).tolist()]
    parts: dict[str, TextLines] = {}
    start = 0
    for name, count in SPLIT_SIZES.items():
        parts[name] = TextLines(name=f"synthetic {name}", texts=lines[start : start + count])
        start += count
    record = {
        "source": "generated",
        "generator": GENERATOR_DESCRIPTION,
        "uncertain": UNPUBLISHED_CHOICES,
        "generator_seed": SEED,
        "split": "as drawn",
    }
    notes = [
        f"Generated, not read: {GENERATOR_DESCRIPTION}.",
        f"{UNPUBLISHED_CHOICES[0].upper()}{UNPUBLISHED_CHOICES[1:]}.",
    ]
    return RawTexts(parts=parts, words=words, provenance={**record, "notes": notes})


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """Weights of the LSTM that generates the sequences, in double precision: rounding hardly ever changes a word."""

    embedding: Float[Tensor, "words width"]
    inputs: Float[Tensor, "gates width"]  # gates: input, forget, cell and output, width rows each
    recurrent: Float[Tensor, "gates width"]
    bias: Float[Tensor, " gates"]
    start: Float[Tensor, "width latent"]  # from z to the initial cell state
    start_bias: Float[Tensor, " width"]
    hidden_words: Float[Tensor, "words width"]  # from the LSTM's output to the logits
    latent_words: Float[Tensor, "words latent"]  # from z to the logits


def build_language_model(seed: int = SEED) -> LanguageModel:
    """Draw the weights of the LSTM with a seed."""
    stream = generator(seed, "synthetic/weights")

    def uniform(*shape: int, reach: float = WEIGHT_RANGE) -> Tensor:
        return (2 * torch.rand(*shape, generator=stream, dtype=torch.float64) - 1) * reach

    return LanguageModel(
        embedding=uniform(VOCABULARY_SIZE, HIDDEN_WIDTH),
        inputs=uniform(4 * HIDDEN_WIDTH, HIDDEN_WIDTH),
        recurrent=uniform(4 * HIDDEN_WIDTH, HIDDEN_WIDTH),
        bias=uniform(4 * HIDDEN_WIDTH),
        start=uniform(HIDDEN_WIDTH, LATENT_DIM),
        start_bias=uniform(HIDDEN_WIDTH),
        hidden_words=uniform(VOCABULARY_SIZE, HIDDEN_WIDTH),
        latent_words=uniform(VOCABULARY_SIZE, LATENT_DIM, reach=LATENT_WEIGHT_RANGE),
    )


def draw_codes(count: int, seed: int = SEED) -> Float[Tensor, "n latent"]:
    """Draw codes z from the mixture of Gaussians."""
    stream = generator(seed, "synthetic/codes")
    centres = torch.tensor(CENTRES, dtype=torch.float64)
    chosen = torch.randint(len(CENTRES), (count,), generator=stream)
    return centres[chosen] + torch.randn(count, LATENT_DIM, generator=stream, dtype=torch.float64)


@cache
def draw_sequences(count: int, seed: int = SEED) -> Int[Tensor, "n length"]:
    """Draw sequences of ten word numbers below 1000, without start and end symbols, as the arguments alone determine.

    The tensor is cached for the next call with these arguments, so it must not be changed in place.
    """
    weights, z = build_language_model(seed), draw_codes(count, seed)
    uniforms = torch.rand(count, SEQUENCE_LENGTH, generator=generator(seed, "synthetic/words"), dtype=torch.float64)
    blocks = zip(torch.split(z, SEQUENCES_PER_BLOCK), torch.split(uniforms, SEQUENCES_PER_BLOCK), strict=True)
    return torch.cat([_draw(weights, *block) for block in blocks])


def _draw(weights: LanguageModel, z: Tensor, uniforms: Tensor) -> Tensor:
    """``(n, length)`` words of the given codes, drawn by inverting the cumulative probability at uniform numbers."""
    cell = z @ weights.start.T + weights.start_bias
    hidden, from_latent = torch.tanh(cell), z @ weights.latent_words.T
    words = [(uniforms[:, 0] * VOCABULARY_SIZE).long()]
    for step in range(1, SEQUENCE_LENGTH):
        hidden, cell = _advance(weights, weights.embedding[words[-1]], hidden, cell)
        logits = torch.addmm(from_latent, hidden, weights.hidden_words.T)
        total = logits.sub_(logits.amax(1, keepdim=True)).exp_().cumsum(1)
        found = torch.searchsorted(total, uniforms[:, step : step + 1] * total[:, -1:], right=True)
        words.append(found[:, 0].clamp(max=VOCABULARY_SIZE - 1))
    return torch.stack(words, 1)


def _advance(weights: LanguageModel, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    gates = x @ weights.inputs.T + hidden @ weights.recurrent.T + weights.bias
    enter, keep, new, leave = gates.chunk(4, 1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(cell), cell
