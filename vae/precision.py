"""Reduced precision of a training step: layers in bfloat16, weights, sums and losses in single precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from lso.vae.config import Precision


def layers_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products and convolutions inside are computed in this precision (`torch.autocast`).

    Args:
        precision: ``"float32"`` changes nothing.
        device: where they are computed.
    Returns:
        The context.
    """
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def widened(x: Tensor) -> Tensor:
    """What leaves a network, in at least single precision, as logarithms and sums over pixels go on from it.

    Args:
        x: of any floating dtype.
    Returns:
        ``x`` itself, or its values in float32.
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
