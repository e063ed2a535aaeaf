"""Passes of a split through a model to measure it: eval mode, sizes that fit the memory, and seeded noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from lso.vae.config.architectures import HEADS
from lso.vae.config.components import NoiseSpec
from lso.vae.data.dataset import Data, take_batch, to_unit
from lso.vae.models.vae import VAE
from lso.vae.utils.random import draw, generator

MAX_LOGITS, MAX_LOGITS_GPU = 50_000_000, 400_000_000  # of sequences in one pass


@contextmanager
def eval_mode(model: VAE) -> Iterator[None]:
    """Put a model in eval mode inside the block, and restore the mode of every module after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def to_model_input(model: VAE, x: Data, rows: Tensor | slice) -> Tensor:
    """Return rows of a split on the model's device: pixels in [0, 1] and in the model's dtype, or tokens."""
    weight = next(model.parameters())
    data = to_unit(take_batch(x, rows).to(weight.device))
    return data.to(weight.dtype) if data.is_floating_point() else data


def draw_normals(model: VAE, x: Data, seed: int, purpose: str) -> Tensor:
    """Draw ``(n, latent)`` standard normals, on the CPU in single precision so that every device gets the same."""
    draws = torch.randn(len(x), model.latent_dim, generator=generator(seed, f"metrics/{purpose}"))
    return draws.to(next(model.parameters()))


def draw_declared(model: VAE, x: Data, seed: int, purpose: str, spec: NoiseSpec) -> Tensor:
    """Draw the noise that a part of a method declares, for a whole split, on the CPU whatever the model's device.

    Args:
        model: the VAE.
        x: a split.
        seed: of the draws.
        purpose: names the random stream; further draws, where ``spec`` has a count, append their number to it.
        spec: kind, width and count.
    Returns:
        ``(count, n, width)`` in the model's dtype, on its device; ``(count, n, ...)`` of the data's shape on the CPU.
    """
    names = [purpose, *(f"{purpose}/{i}" for i in range(1, spec.count))]
    size = replace(spec, count=1).size((len(x), *x.shape[1:]))
    noise = torch.cat([draw(spec.kind, size, generator(seed, f"metrics/{name}")) for name in names])
    return noise if spec.width is None else noise.to(next(model.parameters()))


def draw_code_noise(model: VAE, x: Data, seed: int, purpose: str) -> Tensor:
    """Draw the noise of one posterior sample per datum: ``(n, width)`` in the model's dtype, on its device."""
    return draw_declared(model, x, seed, purpose, model.posterior.code_noise(model.latent_dim))[0]


def draw_inference_noise(model: VAE, x: Data, seed: int, count: int) -> Tensor:
    """Draw ``(count, n, latent)`` standard normals for an inference by refinement."""
    noise = [draw_normals(model, x, seed, f"inference/{i}") for i in range(count)]
    return torch.stack(noise) if noise else next(model.parameters()).new_zeros(0, len(x), model.latent_dim)


def pass_size(model: VAE) -> int:
    """Return the number of data or codes in one pass, at most 1000.

    It is 100 for images of an autoregressive decoder on a CPU, whose feature maps should fit the cache. For sequences
    it is such that logits or attention weights at the maximum length take at most 200 MB, on a GPU 1.6 GB.
    """
    on_gpu = next(model.parameters()).is_cuda
    if model.kind == "sequence":
        longest, words = model.shape
        return min(1000, max(1, (MAX_LOGITS_GPU if on_gpu else MAX_LOGITS) // (longest * max(words, HEADS * longest))))
    return 1000 if not model.autoregressive or on_gpu else 100
