"""Features of decoded objects, as inputs of a surrogate in place of the codes (a decoupled surrogate).

Where a Gaussian process over codes predicts badly, one over the decoded objects may predict well; the latent space then
only proposes (Moss et al. 2025, COWBOYS). Features are a fixed function that depends on the decoder alone.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.objectives.latent_objective import LatentObjective
from lso.vae.errors import UsageError
from lso.vae.utils.random import generator

# Prior draws that the principal components are computed from, their largest number, and the share of variance to keep.
PROJECTION_DRAWS, MAX_IMAGE_FEATURES, VARIANCE_SHARE = 256, 32, 0.99
# For strings: lengths of the character n-grams that are counted, hash buckets of the counts, and number of features.
NGRAM_LENGTHS, HASH_BUCKETS, TEXT_FEATURES = (1, 2, 3), 4096, 64

Features = Callable[[Tensor], Tensor]


def decoded_features(objective: LatentObjective) -> tuple[Features, bool]:
    """Features of decoded objects: principal components of tensors, projected n-gram counts of strings.

    Returns the function of codes ``(n, d)`` to features ``(n, f)``, double, and whether it has gradients: the options
    ``features`` and ``differentiable`` of `lso.black_box.algorithms.gp.build_gp`.
    """
    space = objective.space
    draws = space.clip(space.sample(PROJECTION_DRAWS, "prior", generator(0, "features")))
    with torch.no_grad():
        decoded = objective.decode(draws)
    if isinstance(decoded, Tensor):
        return _principal_components(objective, decoded), objective.decoder.differentiable
    if not all(isinstance(item, str) for item in decoded):
        raise UsageError(
            f"there are no features for objects of type {type(decoded[0]).__name__}",
            "Pass features=, a function of codes (n, d) to features (n, f).",
        )

    def features(z: Float[Tensor, "n latent"]) -> Float[Tensor, "n f"]:
        with torch.no_grad():
            return text_features(objective.decode(z))

    return features, False


def _principal_components(objective: LatentObjective, decoded: Tensor) -> Features:
    """Principal components of decoded prior draws, as many as explain 99 % of their variance, at most 32."""
    rows = decoded.flatten(1).double()
    mean = rows.mean(0)
    _, size, axes = torch.linalg.svd(rows - mean, full_matrices=False)
    held = size.square().cumsum(0) / size.square().sum().clamp_min(1e-300)
    axes = axes[: min(MAX_IMAGE_FEATURES, int((held < VARIANCE_SHARE).sum()) + 1)]

    def features(z: Float[Tensor, "n latent"]) -> Float[Tensor, "n f"]:
        decoded: Tensor = objective.decode(z)
        projected: Tensor = (decoded.flatten(1).double() - mean) @ axes.T
        return projected

    return features


def text_features(texts: Sequence[Any]) -> Float[Tensor, "n f"]:
    """Square roots of the counts of n-grams of 1 to 3 characters, hashed to 4,096 buckets, projected to 64 features."""
    # The root keeps a frequent n-gram from outweighing all others. The projection by random signs preserves distances
    # up to some percent (Johnson and Lindenstrauss).
    counts = torch.zeros(len(texts), HASH_BUCKETS, dtype=torch.float64)
    for row, text in enumerate(texts):
        for size in NGRAM_LENGTHS:
            for start in range(len(text) - size + 1):
                counts[row, zlib.crc32(text[start : start + size].encode("utf-8", "surrogatepass")) % HASH_BUCKETS] += 1
    signs = torch.randint(2, (HASH_BUCKETS, TEXT_FEATURES), generator=generator(0, "signs")).double() * 2 - 1
    projected: Tensor = counts.sqrt() @ signs / TEXT_FEATURES**0.5
    return projected
