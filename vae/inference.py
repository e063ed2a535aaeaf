"""How q(z|x) is found: the only door to the encoder for objectives and metrics."""

from functools import singledispatch

from jaxtyping import Float
from torch import Tensor

from lso.vae.axes import Amortized, Inference
from lso.vae.gaussian import DiagonalGaussian
from lso.vae.model import VAE


@singledispatch
def infer(inference: Inference, model: VAE, x: Tensor, noise: Tensor | None, w: Tensor | float) -> DiagonalGaussian:
    """The posterior of a batch under a value of the inference axis.

    Args:
        inference: a value of the axis.
        model: the VAE.
        x: ``(batch, channels, height, width)`` in [0, 1].
        noise: what a sampling inference draws with; None for an amortized one.
        w: KL weight of the step.
    Returns:
        q(z|x), differentiable in the model's parameters.
    """
    raise TypeError(f"no inference for {type(inference).__name__}")


@infer.register
def _(
    inference: Amortized,
    model: VAE,
    x: Float[Tensor, "batch channels height width"],
    noise: Tensor | None,
    w: Tensor | float,
) -> DiagonalGaussian:
    return model.encode(x)
