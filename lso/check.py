"""What can be wrong with a decoder that is to be searched through."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lso.vae.errors import LsoError
from lso.vae.seeds import generator

if TYPE_CHECKING:
    from lso.decoder import Decoder

# Largest difference, relative to the output's size, that rounding alone explains when the batch is cut differently.
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
ALONE = 8  # draws decoded alone, to be compared with themselves in a batch


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check` found.

    Args:
        kind: ``train-mode``, ``error``, ``shape``, ``dtype``, ``non-finite``, ``non-deterministic``,
            ``batch-dependent``, ``stateful`` (see `lso.steadiness`), ``no-gradient`` or ``encoder``.
        message: what was seen.
        hint: what to do.
        serious: whether a search would mislead; False where freezing has already mended it or it only costs precision.
    """

    kind: str
    message: str
    hint: str
    serious: bool = True


def check(decoder: "Decoder", n: int = 8) -> list[Finding]:
    """Look for what makes a search through a decoder meaningless, on a few prior draws.

    Args:
        decoder: any `Decoder`.
        n: draws to try it on together, at least 2; of these a few are decoded alone as well.
    Returns:
        What was found, most basic first; empty if nothing.
    """
    found = _train_mode(decoder) + _dtype(decoder)
    z = torch.randn(
        max(n, 2), decoder.latent_dim, generator=generator(0, "check"), dtype=decoder.dtype or torch.float64
    )
    try:
        with torch.no_grad():
            x, again = decoder.decode(z), decoder.decode(z)
    except LsoError as error:
        return [*found, Finding("shape", error.message, error.hint)]
    except Exception as error:
        return [*found, Finding("error", f"decoding {tuple(z.shape)} failed: {error!r}", "Try the decoder by hand.")]
    if not isinstance(x, Tensor):
        same = list(map(repr, x)) == list(map(repr, again))
        return found if same else [*found, _noisy("objects differ")]
    found += _finite(x)
    if not torch.equal(torch.nan_to_num(x), torch.nan_to_num(_tensor(again))):
        found.append(_noisy(f"two calls differ by up to {relative_gap(x, _tensor(again)):.2g}"))
    else:  # a noisy decoder would look batch-dependent as well
        found += _batch(decoder, z, x)
    return found + _gradient(decoder, z) + _encoder(decoder, x)


def _train_mode(decoder: "Decoder") -> list[Finding]:
    if still := decoder.mode_dependent_in_train_mode():
        return [Finding("train-mode", f"in train mode: {', '.join(still)}", "Call .eval() on the module before.")]
    if decoder.found_in_train_mode:
        names = ", ".join(decoder.found_in_train_mode)
        return [Finding("train-mode", f"came in train mode: {names}", "Frozen now; nothing to do.", serious=False)]
    return []


def _dtype(decoder: "Decoder") -> list[Finding]:
    types = sorted({str(t.dtype) for _, t in decoder._tensors() if t.is_floating_point()})
    if len(types) > 1:
        return [Finding("dtype", f"weights of several types: {', '.join(types)}", "Cast the module to one type.")]
    if decoder.dtype in (torch.float16, torch.bfloat16):
        hint = "Cast it to float32: losses will stop changing long before they are small."
        return [Finding("dtype", f"weights are {types[0]}", hint, serious=False)]
    return []


def _finite(x: Tensor) -> list[Finding]:
    bad = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).sum())
    if not bad:
        return []
    return [Finding("non-finite", f"{bad} of {len(x)} prior draws decode to NaN or infinity", "Look at the weights.")]


def _noisy(seen: str) -> Finding:
    return Finding("non-deterministic", seen, "Decode the mean, not a sample; switch dropout off.")


def _batch(decoder: "Decoder", z: Tensor, x: Tensor) -> list[Finding]:
    with torch.no_grad():
        alone = torch.cat([_tensor(decoder.decode(row)) for row in torch.split(z[:ALONE], 1)])
    gap = relative_gap(x[:ALONE], alone)
    if gap <= rounding(x.dtype):
        return []
    seen = f"a code decodes differently alone than in a batch, by {gap:.2g} relative"
    return [Finding("batch-dependent", seen, "Look for batch statistics, caches, or sorting over the batch.")]


def _gradient(decoder: "Decoder", z: Tensor) -> list[Finding]:
    if not decoder.differentiable:
        return []
    hint = "Pass differentiable=False and use a black-box optimizer, or decode without rounding, argmax or no_grad."
    z = z.detach().clone().requires_grad_()
    try:
        x = _tensor(decoder.decode(z))
        if not x.requires_grad:
            return [Finding("no-gradient", "the output does not depend on z in the graph", hint)]
        # Random weights: the plain sum of a softmax output, say, is constant.
        weight = torch.randn(x.shape, generator=generator(0, "check/weight")).to(x)
        (grad,) = torch.autograd.grad((x * weight).sum(), z, allow_unused=True)
    except RuntimeError as error:
        return [Finding("no-gradient", f"the backward pass failed: {error}", hint)]
    if grad is None or not bool(grad.any()):
        return [Finding("no-gradient", "the gradient with respect to z is zero", hint)]
    if not bool(torch.isfinite(grad).all()):
        return [Finding("no-gradient", "the gradient with respect to z is not finite", "Look for log or sqrt at 0.")]
    return []


def _encoder(decoder: "Decoder", x: Tensor) -> list[Finding]:
    if not decoder.has_encoder:
        return []
    means, error = _attempt(lambda: decoder.code_means(x))
    if error is not None:
        return [
            Finding("encoder", f"encoding {tuple(x.shape)} failed: {error!r}", "Pass encode=function.", serious=False)
        ]
    if tuple(means.shape) != (len(x), decoder.latent_dim):
        seen = f"the encoder gives {tuple(means.shape)}, expected {(len(x), decoder.latent_dim)}"
        return [Finding("encoder", seen, "Pass encode=function.", serious=False)]
    return []


def _attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        with torch.no_grad():
            return call(), None
    except Exception as error:  # whatever a foreign encoder raises is the finding
        return None, error


def rounding(dtype: torch.dtype) -> float:
    """The largest relative difference that rounding alone explains.

    Args:
        dtype: of what is compared.
    Returns:
        0 of whole numbers.
    """
    return ROUNDING.get(dtype, 0.0)


def relative_gap(x: Tensor, y: Tensor) -> float:
    """The largest difference, as a share of 1 + the largest value.

    Args:
        x: any shape.
        y: to compare; infinite where it has another shape.
    Returns:
        Not negative.
    """
    if x.shape != y.shape:
        return float("inf")
    difference = torch.nan_to_num((x - y).double()).abs().max()
    return float(difference / (1 + torch.nan_to_num(x.double()).abs().max()))


def _tensor(x: Tensor | list[Any]) -> Tensor:
    assert isinstance(x, Tensor)
    return x
