"""How a split is passed through a model to measure it: in eval mode, in parts that fit, with draws of its own seed."""

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

LOGITS, LOGITS_GPU = 50_000_000, 400_000_000  # of sequences in one pass


@contextmanager
def eval_mode(model: VAE) -> Iterator[None]:
    """Eval mode inside; every module's own mode as it was after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def to_model_input(model: VAE, x: Data, rows: Tensor | slice) -> Tensor:
    """Some data on the model's device, as it sees them.

    Args:
        model: the VAE.
        x: a split.
        rows: which of it.
    Returns:
        Pixels in [0, 1] and in the model's dtype, or tokens.
    """
    weight = next(model.parameters())
    data = to_unit(take_batch(x, rows).to(weight.device))
    return data.to(weight.dtype) if data.is_floating_point() else data


def draw_normals(model: VAE, x: Data, seed: int, purpose: str) -> Tensor:
    """Standard normals for a whole split, drawn on the CPU in single precision whatever the model's."""
    draws = torch.randn(len(x), model.latent_dim, generator=generator(seed, f"metrics/{purpose}"))
    return draws.to(next(model.parameters()))


def draw_declared(model: VAE, x: Data, seed: int, purpose: str, spec: NoiseSpec) -> Tensor:
    """Noise that a part of a method declares, for a whole split, drawn on the CPU whatever the model's device.

    Args:
        model: the VAE.
        x: a split.
        seed: of the draws.
        purpose: another one gives other draws; of further ones, where ``spec`` has a count, with their number behind.
        spec: kind, width and count.
    Returns:
        ``(count, n, width)`` in the model's dtype, on its device; ``(count, n, ...)`` of the data's shape on the CPU.
    """
    names = [purpose, *(f"{purpose}/{i}" for i in range(1, spec.count))]
    size = replace(spec, count=1).size((len(x), *x.shape[1:]))
    found = torch.cat([draw(spec.kind, size, generator(seed, f"metrics/{name}")) for name in names])
    return found if spec.width is None else found.to(next(model.parameters()))


def draw_code_noise(model: VAE, x: Data, seed: int, purpose: str) -> Tensor:
    """What one code of each datum is drawn from its posterior by.

    Args:
        model: the VAE.
        x: a split.
        seed: of the draws.
        purpose: another one gives other draws.
    Returns:
        ``(n, width)`` in the model's dtype, on its device.
    """
    return draw_declared(model, x, seed, purpose, model.posterior.code_noise(model.latent_dim))[0]


def starts(model: VAE, x: Data, seed: int, count: int) -> Tensor:
    """Standard normals for an inference, as `draw_normals` draws them."""
    found = [draw_normals(model, x, seed, f"inference/{i}") for i in range(count)]
    return torch.stack(found) if found else next(model.parameters()).new_zeros(0, len(x), model.latent_dim)


def pass_size(model: VAE) -> int:
    """Data or codes in one pass: few enough that the maps or logits of an autoregressive decoder fit.

    Args:
        model: the VAE.
    Returns:
        1000; on a CPU 100 images of an autoregressive decoder, whose maps should fit a cache; so many sequences that
        their logits, or the weights of attention between their tokens, take 200 MB at most, on a GPU 1.6 GB, where they
        are as long as can be.
    """
    on_gpu = next(model.parameters()).is_cuda
    if model.kind == "sequence":
        longest, words = model.shape
        return min(1000, max(1, (LOGITS_GPU if on_gpu else LOGITS) // (longest * max(words, HEADS * longest))))
    return 1000 if not model.autoregressive or on_gpu else 100
