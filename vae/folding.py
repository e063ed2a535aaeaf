"""Batch-norms folded into the convolutions before them: in eval mode both are one affine map."""

import copy
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from lso.vae.masked import MaskedConv2d


@runtime_checkable
class Foldable(Protocol):
    """A network that knows its pairs of convolution and norm."""

    def folded(self) -> nn.Module:
        """The same network in eval mode, its norms folded; a copy, to be used and not trained."""
        ...


def folded(network: nn.Module) -> nn.Module:
    """A network as it is fastest where only its answers are wanted.

    Args:
        network: in eval mode.
    Returns:
        A copy with folded norms where it has some and knows them, else itself.
    """
    return network.folded() if isinstance(network, Foldable) else network


T = TypeVar("T", bound=nn.Module)


def twin_of(network: T) -> T:
    """Modules of their own over the same weights: a deep copy would take longer than a small image.

    Args:
        network: any.
    Returns:
        A copy in eval mode, whose parameters may be replaced, not changed.
    """
    twin = copy.copy(network)
    twin._parameters, twin._buffers = dict(network._parameters), dict(network._buffers)
    twin._modules = {name: child and twin_of(child) for name, child in network._modules.items()}
    twin.training = False
    return twin


@torch.no_grad()
def fold(convolution: nn.Module, norm: nn.Module) -> nn.Identity:
    """Give a convolution the scale and shift of the norm after it, which takes its running statistics.

        s (w x - mean) + b = (s w) x + (b - s mean),  s = weight / sqrt(variance + eps)

    Args:
        convolution: of a `twin_of`, without a bias; its parameters are replaced.
        norm: over its outputs.
    Returns:
        What stands in place of the norm.
    """
    assert isinstance(convolution, nn.Conv2d | MaskedConv2d) and convolution.bias is None
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(norm.bias - scale * norm.running_mean, requires_grad=False)
    return nn.Identity()
