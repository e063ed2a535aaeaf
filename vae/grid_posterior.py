"""The mean of a model's true posterior where z is scalar, by a grid (He et al. 2019, arXiv:1901.05534, sec. 3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lso.vae.data import Data, passes, take, to_unit
from lso.vae.errors import UsageError
from lso.vae.gaussian import prior_log_prob
from lso.vae.model import VAE
from lso.vae.passing import evaluating
from lso.vae.values import require

ROWS = 50  # data whose grids are held together
CODES = 250  # codes in one pass on a CPU, so that what they make fits its cache; a GPU takes many more


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Points at which the posterior is evaluated, both ends among them.

    Args:
        low: smallest.
        high: largest.
        stride: between two; 0.01 is the paper's, 0.1 the default of the authors' code.
    Raises:
        UsageError: if there are fewer than two points.
    """

    low: float = -20.0
    high: float = 20.0
    stride: float = 0.01

    def __post_init__(self) -> None:
        require(self.stride > 0, "stride > 0", self.stride, "0.01 is the paper's.")
        require(
            self.high - self.low >= self.stride, "a grid of two points or more", (self.low, self.high), "-20 to 20."
        )

    def points(self) -> Float[Tensor, " point"]:
        """The points.

        Returns:
            ``(count,)`` in double.
        """
        count = math.floor((self.high - self.low) / self.stride + 1e-9) + 1
        return self.low + self.stride * torch.arange(count, dtype=torch.float64)


@torch.no_grad()
def posterior_mean(
    model: VAE,
    x: Data,
    grid: Grid = Grid(),
    *,
    codes: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Float[Tensor, " n"]:
    """Means of the true posteriors p(z|x) of data under a model with scalar z.

        E[z|x] = sum_g z_g w_g,  w_g = exp(log p(x|z_g) + log p(z_g) - logsumexp over the grid).

    The model is in eval mode (no dropout), an autoregressive decoder is forced on x. Right as long as the posterior is
    inside the grid and not much narrower than its stride. Memory is bounded: a pass decodes ``codes`` codes.

    Args:
        model: with one latent, of images or sequences; left in the mode it was found in.
        x: ``(n, ...)`` images, or a corpus.
        grid: where to evaluate.
        codes: in one pass; None is 250 on a CPU, 20,000 on a GPU.
        watch: called with (codes decoded, codes to decode); what it raises ends the work.
    Returns:
        ``(n,)`` in double, on the model's device.
    Raises:
        UsageError: if z is not scalar, or a number is out of range.
    Source: He et al. (2019), sec. 3 and authors' code. Deviations: the code leaves the grid's last point out, and has
        dropout on at the ends of epochs.
    """
    if model.latent_dim != 1:
        raise UsageError(f"a grid needs one latent, the model has {model.latent_dim}", "Train with --latent-dim 1.")
    weight = next(model.parameters())
    size = codes or (CODES * 80 if weight.is_cuda else CODES)
    require(size >= 1, "codes >= 1", size, "They are decoded in one pass.")
    points, parts, order, done = grid.points().to(weight.device), [], [], 0
    with evaluating(model):
        for rows in passes(x, min(ROWS, size)):
            data = to_unit(take(x, rows).to(weight.device))
            data = data.to(weight.dtype) if data.is_floating_point() else data
            joint = []
            for part in torch.split(points, max(1, size // len(data))):
                joint.append(_log_joint(model, data, part))
                done += joint[-1].numel()
                if watch is not None:
                    watch(done, len(x) * len(points))
            parts.append(torch.softmax(torch.cat(joint, 1), 1) @ points)
            order.append(torch.arange(len(x))[rows])
    return torch.cat(parts)[torch.cat(order).argsort().to(points.device)]


def _log_joint(model: VAE, x: Tensor, points: Tensor) -> Float[Tensor, "batch point"]:
    """``(batch, point)`` log p(x|z) + log p(z) in double, every datum at every point."""
    z = points.repeat(len(x))[:, None]
    each = x.repeat_interleave(len(points), 0)
    likelihood = model.decode(z.to(next(model.parameters()).dtype), each).log_prob(each)
    return (likelihood.double() + prior_log_prob(z)).reshape(len(x), len(points))
