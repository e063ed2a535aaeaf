"""The synthetic sequences of He et al. (2019), section 3: drawn from an LSTM whose words depend on a 2-d code."""

from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.line_reader import TextLines
from lso.tasks.datasets.text_dataset import Texts
from lso.tasks.datasets.text_files import load as load_files
from lso.vae.config.training import DataConfig
from lso.vae.data.dataset import SPLITS
from lso.vae.utils.random import generator

COUNTS = dict(zip(SPLITS, (16_000, 2_000, 2_000), strict=True))
LENGTH, WORDS = 10, 1000
WIDTH, LATENT = 100, 2  # of the hidden state and of the embeddings; of z
CENTRES = ((-2.0, -2.0), (2.0, 2.0), (-2.0, 2.0), (2.0, -2.0))  # of the mixture, unit variance, equal shares
RANGE, RANGE_WORDS = 1.0, 5.0  # weights are uniform in +-; of the map from z to words
SEED = 0  # the data are the same whatever the run's seed
BLOCK = 250  # sequences drawn together: their BLOCK x WORDS probabilities, 2 MB, stay in cache

HOW = (
    f"z from {len(CENTRES)} Gaussians of unit variance at (+-2, +-2); one-layer LSTM, {WIDTH} hidden units, "
    f"{WIDTH}-d embeddings, c0 affine in z and h0 = tanh(c0), z beside the LSTM's output before the words; "
    f"the first word is uniform; no end symbol is drawn: all have {LENGTH} words"
)
OURS = (
    f"ours, as the paper's files are not at hand: seed, and weights uniform in +-{RANGE:g}, those from z to words in "
    f"+-{RANGE_WORDS:g} (an early public version of the authors' code has the same, a later one +-3)"
)


def load(data: DataConfig, progress: Progress | None = None) -> Texts:
    """20,000 sequences of ten words, 16,000 of them for training; or files in the same form.

    Args:
        data: ``path`` is empty, or a file or folder of sequences with words "0" to "999", as the authors have them.
        progress: told the files read.
    Returns:
        Three parts, the vocabulary of 1,000 words, and how they were made.
    Raises:
        DataError: if files cannot be read.
    Source: He et al. (2019), arXiv:1901.05534, sec. 3 and app. B.1. Deviations: see `OURS`.
    """
    words = [str(number) for number in range(WORDS)]
    if data.path:
        return replace(load_files(data, progress), words=words)
    lines = [" ".join(map(str, row)) for row in sequences(sum(COUNTS.values())).tolist()]
    parts: dict[str, TextLines] = {}
    start = 0
    for name, count in COUNTS.items():
        parts[name] = TextLines(name=f"synthetic {name}", texts=lines[start : start + count])
        start += count
    record = {"source": "generated", "generator": HOW, "uncertain": OURS, "generator_seed": SEED, "split": "as drawn"}
    notes = [f"Generated, not read: {HOW}.", f"{OURS[0].upper()}{OURS[1:]}."]
    return Texts(parts=parts, words=words, provenance={**record, "notes": notes})


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """Weights of the LSTM that the sequences come from, in double: rounding then hardly ever changes a word.

    Args:
        embedding: ``(words, width)``.
        inputs: ``(4 * width, width)`` of the gates: input, forget, cell, output.
        recurrent: ``(4 * width, width)``.
        bias: ``(4 * width,)``.
        start: ``(width, latent)`` z to the initial cell.
        start_bias: ``(width,)``.
        hidden_words: ``(words, width)`` LSTM output to logits.
        latent_words: ``(words, latent)`` z to logits.
    """

    embedding: Float[Tensor, "words width"]
    inputs: Float[Tensor, "gates width"]
    recurrent: Float[Tensor, "gates width"]
    bias: Float[Tensor, " gates"]
    start: Float[Tensor, "width latent"]
    start_bias: Float[Tensor, " width"]
    hidden_words: Float[Tensor, "words width"]
    latent_words: Float[Tensor, "words latent"]


def language(seed: int = SEED) -> Language:
    """The LSTM of a seed."""
    stream = generator(seed, "synthetic/weights")

    def uniform(*shape: int, reach: float = RANGE) -> Tensor:
        return (2 * torch.rand(*shape, generator=stream, dtype=torch.float64) - 1) * reach

    return Language(
        embedding=uniform(WORDS, WIDTH),
        inputs=uniform(4 * WIDTH, WIDTH),
        recurrent=uniform(4 * WIDTH, WIDTH),
        bias=uniform(4 * WIDTH),
        start=uniform(WIDTH, LATENT),
        start_bias=uniform(WIDTH),
        hidden_words=uniform(WORDS, WIDTH),
        latent_words=uniform(WORDS, LATENT, reach=RANGE_WORDS),
    )


def codes(count: int, seed: int = SEED) -> Float[Tensor, "n latent"]:
    """Draws from the mixture."""
    stream = generator(seed, "synthetic/codes")
    centres = torch.tensor(CENTRES, dtype=torch.float64)
    chosen = torch.randint(len(CENTRES), (count,), generator=stream)
    return centres[chosen] + torch.randn(count, LATENT, generator=stream, dtype=torch.float64)


@cache
def sequences(count: int, seed: int = SEED) -> Int[Tensor, "n length"]:
    """Sequences of words, without start and end symbols: a function of the arguments alone.

    Args:
        count: n.
        seed: of weights, codes and words.
    Returns:
        ``(n, 10)`` numbers below 1000; kept for the next call, so not to be changed.
    """
    weights, z = language(seed), codes(count, seed)
    uniforms = torch.rand(count, LENGTH, generator=generator(seed, "synthetic/words"), dtype=torch.float64)
    blocks = zip(torch.split(z, BLOCK), torch.split(uniforms, BLOCK), strict=True)
    return torch.cat([_draw(weights, *block) for block in blocks])


def _draw(weights: Language, z: Tensor, uniforms: Tensor) -> Tensor:
    """``(n, length)`` words of some codes, each found where the cumulative probability passes its uniform number."""
    cell = z @ weights.start.T + weights.start_bias
    hidden, from_latent = torch.tanh(cell), z @ weights.latent_words.T
    words = [(uniforms[:, 0] * WORDS).long()]
    for step in range(1, LENGTH):
        hidden, cell = _advance(weights, weights.embedding[words[-1]], hidden, cell)
        logits = torch.addmm(from_latent, hidden, weights.hidden_words.T)
        total = logits.sub_(logits.amax(1, keepdim=True)).exp_().cumsum(1)
        found = torch.searchsorted(total, uniforms[:, step : step + 1] * total[:, -1:], right=True)
        words.append(found[:, 0].clamp(max=WORDS - 1))
    return torch.stack(words, 1)


def _advance(weights: Language, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    gates = x @ weights.inputs.T + hidden @ weights.recurrent.T + weights.bias
    enter, keep, new, leave = gates.chunk(4, 1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(cell), cell
