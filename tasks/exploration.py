"""Looking at a latent space: encodes data, decodes codes and paths to images or texts, and reads and writes codes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lso.decoders.generation import Generation, generate_sequences, vocabulary_of
from lso.vae.config.components import Amortized
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Data, Dataset, split_passes, take_batch, to_unit
from lso.vae.distributions.families import concatenate_posteriors, map_tensors
from lso.vae.errors import DataError, ShapeError, UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.metrics.active_units import mean_variance
from lso.vae.metrics.passes import pass_size
from lso.vae.models.vae import VAE, How
from lso.vae.protocols import Posterior
from lso.vae.utils.files import replace_arrays
from lso.vae.utils.random import generator
from lso.vae.utils.validation import convert, require

CODES_PER_PASS = 1000
FEATURE_MAPS_PER_PASS = 100  # of autoregressive decoders, which hold whole feature maps: these should fit a CPU's cache
AVERAGED_SAMPLES = 16  # draws that the mean of an autoregressive decoder averages
CODE_KEYS = ("mean", "z", "codes", "x")  # names under which codes are looked for in an .npz file


# --- codes and images --------------------------------------------------------------------------------------------


@torch.no_grad()
def encode_data(model: VAE, x: Data) -> Posterior:
    """Approximate posteriors q(z|x), ``(n, latent)`` on the CPU, found by the inference of the model's own method.

    Data are ``(n, C, H, W)``, bytes or in [0, 1], or sequences; the model is in eval mode. The same arguments give the
    same result.
    """
    weight = next(model.parameters())
    size = (
        CODES_PER_PASS if isinstance(model.inference, Amortized) else _codes_per_pass(model)
    )  # others run the decoder
    parts, order = split_passes(x, size), torch.arange(len(x))
    given = (to_unit(take_batch(x, rows)) for rows in parts)
    seen = (part.to(weight) if part.is_floating_point() else part.to(weight.device) for part in given)
    posteriors = concatenate_posteriors([posterior(model, part, seed) for seed, part in enumerate(seen)])
    back = torch.cat([order[rows] for rows in parts]).argsort()  # the parts of a corpus are sorted by length
    return map_tensors(posteriors, lambda value: value.cpu()[back])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How codes become images.

    Args:
        how: the expected image, a sample, or the most probable values (see `VAE.generate`).
        common: whether all codes share the uniform random numbers of a sample, so that images differ by z alone; else
            each code has its own.
        seed: seed of the uniform numbers.
        samples: number of draws that the mean of an autoregressive decoder averages; they always share their uniforms.
    """

    how: How = "mean"
    common: bool = True
    seed: int = 0
    samples: int = AVERAGED_SAMPLES

    def __post_init__(self) -> None:
        convert(self.how, How, "how")
        require(self.samples >= 1, "samples >= 1", self.samples, f"{AVERAGED_SAMPLES} is the default.")


def default_how(model: VAE) -> How:
    """How a decoder's images are made by default: the mean, but a sample where the mean would average many draws."""
    return "sample" if model.autoregressive else "mean"


def describe_drawing(model: VAE, drawing: Drawing) -> str:
    """How images are drawn from codes, in words."""
    kind = "ancestral samples" if model.autoregressive else "samples"
    shared = "from uniforms common to all codes" if drawing.common else "from uniforms of each code's own"
    if drawing.how == "sample":
        return f"{kind} {shared}"
    if drawing.how == "greedy":
        return "the likeliest value of each pixel" + (", given those before it" if model.autoregressive else "")
    return f"means of {drawing.samples} {kind} from common uniforms" if model.autoregressive else "expected images"


def drawing_record(model: VAE, drawing: Drawing) -> dict[str, Any]:
    """How images are drawn, for JSON: ``how``, and where they matter ``uniforms`` and ``samples``."""
    averaged = drawing.how == "mean" and model.autoregressive
    record: dict[str, Any] = {"how": drawing.how}
    if averaged or drawing.how == "sample":
        record["uniforms"] = "common" if averaged or drawing.common else "own"
    return record | ({"samples": drawing.samples} if averaged else {})


@torch.no_grad()
def decode_images(
    model: VAE,
    z: Float[Tensor, "*batch latent"],
    drawing: Drawing = Drawing(),
    callback: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "*batch channels height width"]:
    """Decode codes ``(..., latent)`` to images ``(..., C, H, W)`` in [0, 1], on the CPU.

    The model is in eval mode, and the same arguments give the same images. ``callback`` is called with the numbers of
    codes done and of all codes.
    """
    flat = z.reshape(z.shape[:-1].numel(), z.shape[-1]).to(next(model.parameters()))
    noise = _uniforms(model, drawing, len(flat))
    own = noise is not None and drawing.how == "sample" and not drawing.common
    size = _codes_per_pass(model, drawing.samples if drawing.how == "mean" else 1)
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
    """The uniform numbers of `VAE.generate`: one image for each code, one for all, or one for each averaged draw."""
    if drawing.how == "greedy" or (drawing.how == "mean" and not model.autoregressive):
        return None
    count = (drawing.samples,) if drawing.how == "mean" else () if drawing.common else (n,)
    return torch.rand(*count, *model.shape, generator=generator(drawing.seed, "uniforms"))


def _codes_per_pass(model: VAE, copies: int = 1) -> int:
    """How many codes are decoded in one pass, when each takes ``copies`` draws."""
    if not model.autoregressive:
        return CODES_PER_PASS
    if model.kind == "sequence":
        return pass_size(model)
    return max(1, (CODES_PER_PASS if next(model.parameters()).is_cuda else FEATURE_MAPS_PER_PASS) // copies)


def draw_prior(n: int, latent_dim: int, seed: int) -> Float[Tensor, "n latent"]:
    """Draw codes from the prior N(0, I)."""
    return torch.randn(n, latent_dim, generator=generator(seed, "sample"))


def interpolate_codes(
    start: Float[Tensor, " latent"], end: Float[Tensor, " latent"], steps: int
) -> Float[Tensor, "steps latent"]:
    """Evenly spaced codes on the straight line between two codes, ends included."""
    if steps < 2:
        raise UsageError(f"expected at least 2 steps, got {steps}", "The two ends are among them.")
    share = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    return torch.lerp(start, end, share)


# --- files ---------------------------------------------------------------------------------------------------------


def read_codes(file: Path, latent_dim: int) -> Float[Tensor, "n latent"]:
    """Codes from an .npy or .npz file, such as `lso encode` and every run and search write."""
    from lso.tasks.datasets.arrays import load_arrays
    from lso.tasks.task import require_path

    arrays = load_arrays(require_path(file))
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
            f"{file}: codes have shape {tuple(codes.shape)}, expected (n, {latent_dim})",
            "Give codes of this model; these seem to be of another one.",
        )
    if wrong := int((~codes.isfinite()).sum()):
        raise DataError(
            f"{file}: {wrong:,} of {codes.numel():,} numbers of the codes are NaN or infinite",
            "Leave these codes out: such a code decodes to nothing that means anything.",
        )
    return codes.reshape(-1, latent_dim)


def write_codes(file: Path, q: Posterior, names: Sequence[str], labels: Tensor | None = None) -> None:
    """Write posteriors as .npz with ``mean``, ``log_var``, ``names``, and ``labels`` where they are known."""
    arrays: dict[str, Any] = {"mean": q.mean.numpy(), "log_var": q.log_var.numpy(), "names": np.array(names)}
    if labels is not None:
        arrays["labels"] = labels.cpu().numpy()
    replace_arrays(file, arrays)


REPORT_EXAMPLES = 12  # examples of each kind in a report


def decode_texts(
    model: VAE,
    z: Float[Tensor, "*batch latent"],
    way: Generation = Generation(),
    callback: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Decode codes ``(..., latent)`` to one text each, leading axes flattened, by a model of sequences in eval mode."""
    flat = z.reshape(z.shape[:-1].numel(), z.shape[-1]).to(next(model.parameters()))
    vocabulary = vocabulary_of(model)
    return [vocabulary.text(row) for row in generate_sequences(model, flat, way, callback).tolist()]


def corpus_texts(model: VAE, corpus: Corpus) -> list[str]:
    """The sequences of a corpus as texts, in the vocabulary of the model."""
    vocabulary = vocabulary_of(model)
    return [vocabulary.text(row) for row in corpus.padded().tolist()]


def text_examples(model: VAE, dataset: Dataset) -> dict[str, Any]:
    """A few texts for a report, as plain values: ``reconstructions`` and ``samples``.

    Reconstructions pair validation sequences with what their posterior means decode to, and are none for a model
    without latents; samples are decoded from draws of the prior.
    """
    examples = {
        "samples": decode_texts(
            model, draw_prior(REPORT_EXAMPLES, model.latent_dim, 0), Generation(how="sample", common=False)
        )
    }
    corpus = dataset.validation
    if not model.latent_dim or not isinstance(corpus, Corpus):
        return {"reconstructions": [], **examples}
    step = max(1, len(corpus) // REPORT_EXAMPLES)
    part = corpus[torch.arange(0, len(corpus), step)[:REPORT_EXAMPLES]]
    return {
        "reconstructions": list(
            zip(corpus_texts(model, part), decode_texts(model, encode_data(model, part).mean), strict=True)
        ),
        **examples,
    }


COLUMNS = 8  # images in a row of a report
STRIPS = 3  # dimensions of each kind, most and least active
REACH = 3.0  # ends of a strip, prior standard deviations


def image_examples(model: VAE, dataset: Dataset, means: Float[Tensor, "n latent"] | None) -> dict[str, np.ndarray]:
    """A few images for a report, as arrays of bytes ``(..., C, H, W)``.

    The keys are ``samples`` ``(16, ...)``, decoded from prior draws, and with latents also ``originals`` and
    ``reconstructions`` ``(8, ...)``, validation images and what their posterior means decode to, and ``strips``
    ``(rows, 8, ...)`` along the most and the least active dimensions, from -3 to 3 with the others at 0, whose indices
    are ``dims``. An autoregressive decoder draws pixels from uniforms common to all codes of a strip.

    Args:
        model: in eval mode.
        dataset: images.
        means: posterior means of the validation split, for the activity of dimensions; None leaves the strips out.
    """
    how = default_how(model)
    prior = draw_prior(2 * COLUMNS, model.latent_dim, 0)
    found = {"samples": _to_bytes(decode_images(model, prior, Drawing(how=how, common=False)))}
    if not model.latent_dim or isinstance(dataset.validation, Corpus):
        return found
    step = max(1, len(dataset.validation) // COLUMNS)
    part = dataset.validation[torch.arange(0, len(dataset.validation), step)[:COLUMNS]]
    decoded = decode_images(model, encode_data(model, part).mean, Drawing(how=how))
    found |= {"originals": _to_bytes(part), "reconstructions": _to_bytes(decoded)}
    if means is not None:
        order = mean_variance(means).argsort(descending=True, stable=True)
        dims = torch.cat([order[:STRIPS], order[STRIPS:][-STRIPS:]])
        codes = torch.linspace(-REACH, REACH, COLUMNS)[None, :, None] * torch.eye(model.latent_dim)[dims][:, None]
        found |= {"strips": _to_bytes(decode_images(model, codes, Drawing(how=how))), "dims": dims.numpy()}
    return found


def _to_bytes(images: Tensor) -> np.ndarray:
    if images.dtype != torch.uint8:
        images = (images.double().clamp(0, 1) * 255).round().to(torch.uint8)
    return images.cpu().numpy()
