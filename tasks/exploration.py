"""What one looks at in a latent space: draws, codes, decodes and paths, as images or as texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lso.decoders.generation import Generation, generate, vocabulary_of
from lso.vae.config.components import Amortized
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Data, Dataset, passes, take
from lso.vae.distributions.families import cat, map_tensors
from lso.vae.errors import DataError, ShapeError, UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.metrics.passes import pass_size
from lso.vae.models.vae import VAE, How
from lso.vae.protocols import Posterior
from lso.vae.utils.files import replace_arrays
from lso.vae.utils.random import generator
from lso.vae.utils.validation import convert, require

BATCH = 1000
MAPS = 100  # the same where whole feature maps are held for each datum, which should fit a CPU's cache
SAMPLES = 16  # draws that the mean of an autoregressive decoder averages
CODE_KEYS = ("mean", "z", "codes", "x")  # names under which codes are looked for in an .npz file


# --- codes and images --------------------------------------------------------------------------------------------


@torch.no_grad()
def encode(model: VAE, x: Data) -> Posterior:
    """Posteriors of data, as the model's own method finds them.

    Args:
        model: in eval mode.
        x: ``(n, C, H, W)`` in [0, 1], or sequences.
    Returns:
        q(z|x), ``(n, latent)``, on the CPU; a function of the arguments.
    """
    weight = next(model.parameters())
    size = BATCH if isinstance(model.inference, Amortized) else _pass(model)  # others run the decoder
    parts, order = passes(x, size), torch.arange(len(x))
    given = (take(x, rows) for rows in parts)
    seen = (part.to(weight) if part.is_floating_point() else part.to(weight.device) for part in given)
    found = cat([posterior(model, part, seed) for seed, part in enumerate(seen)])
    back = torch.cat([order[rows] for rows in parts]).argsort()  # the parts of a corpus are sorted by length
    return map_tensors(found, lambda value: value.cpu()[back])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How codes become images.

    Args:
        how: the expected image, a sample or the likeliest values (see `VAE.generate`).
        common: whether all codes share one image of uniforms, so that nothing but z tells their images apart; else
            each code has its own.
        seed: of the uniforms.
        samples: S, the draws that the mean of an autoregressive decoder averages, always from common uniforms.
    Raises:
        UsageError: if a value is unknown or out of range.
    """

    how: How = "mean"
    common: bool = True
    seed: int = 0
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        convert(self.how, How, "how")
        require(self.samples >= 1, "samples >= 1", self.samples, f"{SAMPLES} is the default.")


def default_how(model: VAE) -> How:
    """What is shown of a decoder unless said otherwise.

    Args:
        model: the VAE.
    Returns:
        The expected image; of an autoregressive decoder, where that costs many draws, a sample.
    """
    return "sample" if model.autoregressive else "mean"


def told(model: VAE, drawing: Drawing) -> str:
    """A drawing in words."""
    kind = "ancestral samples" if model.autoregressive else "samples"
    shared = "from uniforms common to all codes" if drawing.common else "from uniforms of each code's own"
    if drawing.how == "sample":
        return f"{kind} {shared}"
    if drawing.how == "greedy":
        return "the likeliest value of each pixel" + (", given those before it" if model.autoregressive else "")
    return f"means of {drawing.samples} {kind} from common uniforms" if model.autoregressive else "expected images"


def record(model: VAE, drawing: Drawing) -> dict[str, Any]:
    """A drawing for JSON: ``how``, and where they matter ``uniforms`` and ``samples`` (S of the mean)."""
    averaged = drawing.how == "mean" and model.autoregressive
    found: dict[str, Any] = {"how": drawing.how}
    if averaged or drawing.how == "sample":
        found["uniforms"] = "common" if averaged or drawing.common else "own"
    return found | ({"samples": drawing.samples} if averaged else {})


@torch.no_grad()
def decode(
    model: VAE,
    z: Float[Tensor, "*batch latent"],
    drawing: Drawing = Drawing(),
    callback: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "*batch channels height width"]:
    """Images of codes.

    Args:
        model: in eval mode.
        z: ``(..., latent)``; nothing is read of z but its shape where the model has no latents.
        drawing: how; the default is the expected image.
        callback: called with (codes done, codes to do).
    Returns:
        ``(..., C, H, W)`` in [0, 1], on the CPU; a function of the arguments.
    """
    flat = z.reshape(z.shape[:-1].numel(), z.shape[-1]).to(next(model.parameters()))
    noise = _uniforms(model, drawing, len(flat))
    own = noise is not None and drawing.how == "sample" and not drawing.common
    size = _pass(model, drawing.samples if drawing.how == "mean" else 1)
    images = []
    for start in range(0, len(flat), size):
        rows = slice(start, start + size)
        images.append(
            model.generate(flat[rows], drawing.how, noise[rows] if own and noise is not None else noise).cpu()
        )
        if callback is not None:
            callback(min(rows.stop, len(flat)), len(flat))
    found = torch.cat(images)
    return found.reshape(*z.shape[:-1], *found.shape[1:])


def _uniforms(model: VAE, drawing: Drawing, n: int) -> Tensor | None:
    """What `VAE.generate` draws with: of each code, common to all, or those of S averaged draws."""
    if drawing.how == "greedy" or (drawing.how == "mean" and not model.autoregressive):
        return None
    count = (drawing.samples,) if drawing.how == "mean" else () if drawing.common else (n,)
    return torch.rand(*count, *model.shape, generator=generator(drawing.seed, "uniforms"))


def _pass(model: VAE, copies: int = 1) -> int:
    """Data in one pass."""
    if not model.autoregressive:
        return BATCH
    if model.kind == "sequence":
        return pass_size(model)
    return max(1, (BATCH if next(model.parameters()).is_cuda else MAPS) // copies)


def draw_prior(n: int, latent_dim: int, seed: int) -> Float[Tensor, "n latent"]:
    """Codes from the prior."""
    return torch.randn(n, latent_dim, generator=generator(seed, "sample"))


def path(start: Float[Tensor, " latent"], end: Float[Tensor, " latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """A straight line of codes, ends included."""
    if steps < 2:
        raise UsageError(f"expected at least 2 steps, got {steps}", "The two ends are among them.")
    share = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    return torch.lerp(start, end, share)


# --- files ---------------------------------------------------------------------------------------------------------


def read_codes(file: Path, latent_dim: int) -> Float[Tensor, "n latent"]:
    """Codes from an .npy or .npz file, such as `lso encode` and every run and search write."""
    from lso.tasks.datasets.arrays import load_arrays
    from lso.tasks.task import existing

    arrays = load_arrays(existing(file))
    key = next((name for name in CODE_KEYS if name in arrays), "")
    if not key and len(arrays) == 1:
        key = next(iter(arrays))
    if not key or arrays[key].dtype.kind not in "fiu":
        raise DataError(
            f"{file} holds no codes: it has {', '.join(sorted(arrays)) or 'nothing'}",
            f"Name them {' or '.join(CODE_KEYS[:3])}.",
        )
    codes = torch.from_numpy(np.ascontiguousarray(arrays[key])).float()
    if codes.ndim == 0 or codes.shape[-1] != latent_dim or codes.numel() == 0:
        raise ShapeError(
            f"{file}: codes have shape {tuple(codes.shape)}, expected (n, {latent_dim})", "They are of another model."
        )
    if wrong := int((~codes.isfinite()).sum()):
        raise DataError(
            f"{file}: {wrong:,} of {codes.numel():,} numbers of the codes are NaN or infinite",
            "Leave these codes out: such a code decodes to nothing that means anything.",
        )
    return codes.reshape(-1, latent_dim)


def write_codes(file: Path, q: Posterior, names: Sequence[str], labels: Tensor | None = None) -> None:
    """Posteriors as .npz: ``mean``, ``log_var``, ``names``, and ``labels`` where they are known."""
    arrays: dict[str, Any] = {"mean": q.mean.numpy(), "log_var": q.log_var.numpy(), "names": np.array(names)}
    if labels is not None:
        arrays["labels"] = labels.cpu().numpy()
    replace_arrays(file, arrays)


SHOWN = 12  # examples of each kind in a report


def speak(
    model: VAE,
    z: Float[Tensor, "*batch latent"],
    way: Generation = Generation(),
    callback: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Texts of codes.

    Args:
        model: of sequences, in eval mode.
        z: ``(..., latent)``.
        way: how.
        callback: called with (codes done, codes to do).
    Returns:
        One text a code, leading axes flattened; a function of the arguments.
    """
    flat = z.reshape(z.shape[:-1].numel(), z.shape[-1]).to(next(model.parameters()))
    vocabulary = vocabulary_of(model)
    return [vocabulary.text(row) for row in generate(model, flat, way, callback).tolist()]


def texts(model: VAE, corpus: Corpus) -> list[str]:
    """Sequences as texts."""
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
