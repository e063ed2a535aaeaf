"""Which latent dimensions a decoder uses, measured on prior draws: needs no data, so it serves any model."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from lso.decoders.decoder import Decoder
from lso.vae.errors import UsageError

# Shares of the most used dimension's root-mean-square effect. Below a tenth (a hundredth of the squared effect) a
# dimension is weak; below 1e-5 the effect cannot be told from rounding in single precision.
WEAK_SHARE = 0.1
DEAD_SHARE = 1e-5
JACOBIAN_DRAWS = 64  # more prior draws do not change which dimensions count as active


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """The effect of each latent dimension on the decoded data, over prior draws.

    Args:
        redraw: ``(d,)`` root mean square distance between decoded data when only z_i is redrawn from the prior.
        jacobian: ``(d,)`` root mean square of the Jacobian's column norms |dx / dz_i|; None where it cannot be
            differentiated.
        correlation: ``(d,)`` correlation of z_i with the encoder's mean of the decoded datum; None without an encoder.
        draws: prior draws used.
    """

    redraw: Float[Tensor, " latent"]
    jacobian: Float[Tensor, " latent"] | None
    correlation: Float[Tensor, " latent"] | None
    draws: int

    @property
    def share(self) -> Float[Tensor, " latent"]:
        """``(d,)`` effect of each dimension relative to the most used one, in [0, 1]."""
        return self.redraw / self.redraw.max().clamp_min(torch.finfo(self.redraw.dtype).tiny)

    @property
    def dead(self) -> Bool[Tensor, " latent"]:
        """``(d,)`` dimensions with less than 1e-5 of the most used one's effect."""
        return self.share < DEAD_SHARE

    @property
    def weak(self) -> Bool[Tensor, " latent"]:
        """``(d,)`` dimensions that are not dead, with less than a tenth of the most used one's effect."""
        return ~self.dead & (self.share < WEAK_SHARE)

    @property
    def active(self) -> Bool[Tensor, " latent"]:
        """``(d,)`` dimensions with at least a tenth of the most used one's effect."""
        return self.share >= WEAK_SHARE


def probe(decoder: Decoder, n: int = 256, generator: Generator | None = None) -> Probe:
    """Measure how much each latent dimension changes the decoded data, on prior draws.

    Args:
        decoder: any that decodes to tensors.
        n: prior draws, at least 2.
        generator: CPU generator; None is torch's global one.
    Returns:
        The effects, in double precision on the CPU.
    Raises:
        UsageError: if the decoder makes objects, which have no distance.
    """
    z, other = (torch.randn(max(n, 2), decoder.latent_dim, generator=generator, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        x = _decode_tensor(decoder, z)
        redraw = torch.stack([_redraw_effect(decoder, x, z, other, i) for i in range(decoder.latent_dim)])
        means = decoder.code_means(x)
    jacobian = jacobian_norms(decoder, z[:JACOBIAN_DRAWS]) if decoder.differentiable else None
    return Probe(
        redraw=redraw,
        jacobian=None if jacobian is None else jacobian.square().mean(0).sqrt(),
        correlation=None if means is None else correlations(z, means.cpu().double()),
        draws=len(z),
    )


def correlations(a: Float[Tensor, "n latent"], b: Float[Tensor, "n latent"]) -> Float[Tensor, " latent"]:
    """Pearson correlation of each column with its counterpart; 0 where one is constant."""
    if len(a) < 2:
        return torch.zeros_like(a[0])
    from scipy.stats import pearsonr  # late: scipy.stats takes a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant columns, which are 0 here
        found = torch.from_numpy(pearsonr(a.numpy(), b.numpy(), axis=0).statistic)
    return found.nan_to_num(0.0)


def jacobian_norms(decoder: Decoder, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n latent"]:
    """Column norms |dx / dz_i| of the decoder's Jacobian J at each code: ``(n, d)``, double, on the CPU.

    Computed by automatic differentiation, so that a dimension without effect has a norm of exactly 0; by central
    differences where an operation of the decoder cannot be differentiated twice.
    """
    z = z.detach().to(device=decoder.device, dtype=decoder.dtype)

    def decode(code: Tensor) -> Tensor:
        return _decode_tensor(decoder, code)

    try:
        columns = list(_double_backward(decode, z))
    except (RuntimeError, NotImplementedError):  # autograd's errors where J^T u is not differentiable in u
        columns = [_central_difference(decode, z, i) for i in range(decoder.latent_dim)]
    return torch.stack([column.detach().reshape(len(z), -1).double().norm(dim=1).cpu() for column in columns], 1)


def _double_backward(decode: Callable[[Tensor], Tensor], z: Tensor) -> Iterator[Tensor]:
    # The column J e_i is the gradient of (J^T u)_i with respect to u: one backward pass gives J^T u, one more each
    # column. Forward mode would give them directly, but first spends seconds on compiling decompositions.
    with torch.enable_grad():
        z = z.clone().requires_grad_()
        x = decode(z)
        u = torch.zeros_like(x, requires_grad=True)
        (pulled,) = torch.autograd.grad(x, z, u, create_graph=True)  # J^T u, linear in u
        for i in range(z.shape[1]):
            (column,) = torch.autograd.grad(pulled[:, i].sum(), u, retain_graph=True)
            yield column


def _central_difference(decode: Callable[[Tensor], Tensor], z: Tensor, index: int) -> Tensor:
    step = torch.zeros_like(z)
    step[:, index] = torch.finfo(z.dtype).eps ** (1 / 3)
    with torch.no_grad():
        change: Tensor = decode(z + step) - decode(z - step)
    return change / (2 * step[0, index])


def _redraw_effect(decoder: Decoder, x: Tensor, z: Tensor, other: Tensor, index: int) -> Tensor:
    moved = z.clone()
    moved[:, index] = other[:, index]
    square = (_decode_tensor(decoder, moved).double() - x.double()).square().reshape(len(x), -1).sum(1)
    return square.mean().sqrt().cpu()


def _decode_tensor(decoder: Decoder, z: Tensor) -> Tensor:
    x = decoder.decode(z)
    if not isinstance(x, Tensor):
        raise UsageError(
            "the decoder makes objects, and probing needs distances between decoded data",
            "Probe a decoder that returns tensors, e.g. the one that the objects are made from.",
        )
    return x
