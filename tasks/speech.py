"""What a model of sequences says: texts of codes, and examples for its report."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.generation import Generation, generate, vocabulary_of
from lso.tasks.explore import draw_prior, encode
from lso.vae.corpus import Corpus
from lso.vae.data import Dataset
from lso.vae.model import VAE

SHOWN = 12  # examples of each kind in a report


def speak(
    model: VAE,
    z: Float[Tensor, "*batch latent"],
    way: Generation = Generation(),
    watch: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Texts of codes.

    Args:
        model: of sequences, in eval mode.
        z: ``(..., latent)``.
        way: how.
        watch: called with (codes done, codes to do).
    Returns:
        One text a code, leading axes flattened; a function of the arguments.
    """
    flat = z.reshape(z.shape[:-1].numel(), z.shape[-1]).to(next(model.parameters()))
    vocabulary = vocabulary_of(model)
    return [vocabulary.text(row) for row in generate(model, flat, way, watch).tolist()]


def texts(model: VAE, corpus: Corpus) -> list[str]:
    """Sequences as texts.

    Args:
        model: gives the vocabulary.
        corpus: sequences.
    Returns:
        One text each.
    """
    vocabulary = vocabulary_of(model)
    return [vocabulary.text(row) for row in corpus.padded().tolist()]


def examples(model: VAE, dataset: Dataset) -> dict[str, Any]:
    """A few validation sequences with what the posterior mean decodes to, and draws from the prior.

    Args:
        model: of sequences, in eval mode.
        dataset: its data.
    Returns:
        ``reconstructions`` (pairs of texts; none without latents) and ``samples`` (texts); plain values.
    """
    found = {"samples": speak(model, draw_prior(SHOWN, model.latent_dim, 0), Generation(how="sample", common=False))}
    corpus = dataset.validation
    if not model.latent_dim or not isinstance(corpus, Corpus):
        return {"reconstructions": [], **found}
    step = max(1, len(corpus) // SHOWN)
    part = corpus[torch.arange(0, len(corpus), step)[:SHOWN]]
    return {
        "reconstructions": list(zip(texts(model, part), speak(model, encode(model, part).mean), strict=True)),
        **found,
    }
