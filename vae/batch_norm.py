"""Batch-norm over the global batch of several processes; with one process torch's own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lso.vae.processes import mean_over_batch, shared


class BatchNorm2d(nn.BatchNorm2d):
    """Torch's batch-norm, whose statistics in a step are those of the batches of all processes.

        mean = c + E[x - c],  var = E[(x - c)^2] - E[x - c]^2,  E over the global batch, c the running mean,

    so that one all-reduce a pass does, forward and backward, and a mean far from zero costs no digits.
    """

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Normalize.

        Args:
            x: ``(batch, channels, height, width)``; in training one value a channel has no variance, and is normalized
                by the running statistics, which stay.
        Returns:
            The same shape.
        """
        part = shared() if self.training else None
        values = x.numel() // self.num_features
        if part is not None:
            values = values * part.size // part.mine
        if values == 1 and self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if part is not None:
            return self._over_all(x, values)
        normalized: Tensor = super().forward(x)
        return normalized

    def _over_all(self, x: Tensor, values: int) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        about = self.running_mean.clone()  # kept for the backward pass, whatever becomes of the running one
        shifted = x - about[:, None, None]
        moments = torch.stack([shifted.mean((0, 2, 3)), shifted.square().mean((0, 2, 3))])
        mean, square = mean_over_batch(moments)
        var = (square - mean.square()).clamp(min=0)
        if self.track_running_stats:
            self._move(about + mean.detach(), var.detach() * (values / (values - 1)))
        scale = self.weight * (var + self.eps).rsqrt()
        normalized: Tensor = (shifted - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(x.dtype)

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)
