"""Causal convolution: the full kernel is stored, the part that may be seen is computed."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedConv2d(nn.Module):
    """A convolution that sees, in raster order, what comes before a pixel, and what is open anywhere in its window.

    The stored weight is the full kernel, as in the published code, so that counts and initialization are theirs. Only
    the rows up to the centre are computed; taps that are never seen have a gradient of exactly 0 and so stay out of
    gradient norms, in which the published code counts them. No bias, unless a norm was folded into it.

    Args:
        causal: input channels that are seen causally.
        out: output channels.
        kernel: odd side of the window.
        centre: whether a causal channel is seen at the pixel itself (type B) or not (type A).
        open_channels: further input channels, seen in the whole window.
    Source: van den Oord et al. (2016), arXiv:1601.06759; normal initialization of variance 2 / (kernel^2 out) over all
        taps: He et al. (2019), authors' code.
    """

    mask: Tensor

    def __init__(self, causal: int, out: int, kernel: int, *, centre: bool, open_channels: int = 0) -> None:
        super().__init__()
        self.causal, self.kernel = causal, kernel
        self.weight = nn.Parameter(torch.empty(out, causal + open_channels, kernel, kernel))
        self.bias: nn.Parameter | None = None
        nn.init.normal_(self.weight, std=math.sqrt(2 / (kernel**2 * out)))
        mask = torch.ones(kernel // 2 + 1, kernel)
        mask[-1, kernel // 2 + centre :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def live(self) -> Float[Tensor, "out causal rows kernel"]:
        """The taps on causal channels, rows up to the centre, unseen ones 0.

        Returns:
            ``(out, causal, kernel // 2 + 1, kernel)``.
        """
        return self.weight[:, : self.causal, : self.kernel // 2 + 1] * self.mask

    def forward(
        self,
        x: Float[Tensor, "batch causal height width"],
        opened: Float[Tensor, "batch open height width"] | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """Convolve, keeping the size.

        Args:
            x: ``(batch, causal, height, width)``.
            opened: ``(batch, open_channels, height, width)`` where there are some.
        Returns:
            ``(batch, out, height, width)``.
        """
        half = self.kernel // 2
        seen = F.conv2d(F.pad(x, (half, half, half, 0)), self.live(), self.bias)
        return seen if opened is None else seen + self.over(opened)

    def over(self, opened: Float[Tensor, "batch open height width"]) -> Float[Tensor, "batch out height width"]:
        """What the open channels add.

        Args:
            opened: ``(batch, open_channels, height, width)``.
        Returns:
            ``(batch, out, height, width)``.
        """
        return F.conv2d(opened, self.weight[:, self.causal :], padding=self.kernel // 2)
