"""The networks of the straightforward way: masked convolutions of full kernels, and statistics that are sensible."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.config.architectures import architecture
from lso.vae.models.layers import MaskedConv2d
from lso.vae.models.vae import VAE, build


class FullKernel(nn.Module):
    """A masked convolution as published: the whole kernel times its mask, at every call.

    Args:
        masked: ours, whose weight it shares.
    """

    def __init__(self, masked: MaskedConv2d) -> None:
        super().__init__()
        self.weight, self.kernel = masked.weight, masked.kernel
        mask = torch.ones_like(masked.weight)
        mask[:, : masked.causal, masked.kernel // 2 + 1 :] = 0
        mask[:, : masked.causal, : masked.kernel // 2 + 1] = masked.mask
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor, opened: Tensor | None = None) -> Tensor:
        """Convolve, keeping the size."""
        wide = x if opened is None else torch.cat([x, opened], 1)
        return F.conv2d(wide, self.weight * self.mask, padding=self.kernel // 2)


def full_kernels(model: VAE) -> VAE:
    """A copy of a model, channels outermost, whose masked convolutions are of full kernels."""
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MaskedConv2d):
                setattr(parent, name, FullKernel(child))
    return model


def warmed(name: str, shape: tuple[int, ...], device: torch.device, **sizes: Any) -> VAE:
    """A model of random weights whose running statistics are those of a few passes in training mode; in eval mode."""
    model = build(architecture(name, **sizes), False, shape)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(10):
            x = (torch.rand(10, *shape, generator=draws) < 0.2).float()
            model.decode(model.encode(x).mean + torch.randn(10, model.latent_dim, generator=draws), x)
    return model.eval().to(device)
