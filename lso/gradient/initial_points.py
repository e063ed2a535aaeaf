"""Initial points of gradient searches: several codes for each target."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lso.space import LatentSpace
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import ShapeError, UsageError, unknown_name
from lso.vae.protocols import Posterior

if TYPE_CHECKING:
    from lso.decoders.decoder import Decoder

STARTS = {
    "prior": "draws from the prior",
    "codes": "codes of known data, drawn at random",
    "mean": "the encoder's mean of the target",
    "sample": "draws from the encoder's posterior of the target",
    "zero": "the origin",
}


def make_starts(
    kind: str | Sequence[str] | Tensor,
    space: LatentSpace,
    decoder: "Decoder",
    targets: Tensor | None,
    n: int,
    generator: Generator | None = None,
) -> Float[Tensor, "target n latent"]:
    """The initial codes of every target: ``(T, n, d)`` for n starts of T targets (T = 1 without targets).

    ``kind`` is a row of `STARTS` or a list of n of them, which give double precision and draw anew for every target; or
    the user's own codes ``(d,)``, ``(n, d)`` or ``(T, n, d)``, which keep their dtype. ``generator`` is on the CPU;
    None is torch's global one.
    """
    count = 1 if targets is None else len(targets)
    if isinstance(kind, Tensor):
        return _expand_user_starts(kind, count, n, space.dim)
    kinds = [kind] * n if isinstance(kind, str) else list(kind)
    if len(kinds) != n:
        raise ShapeError(f"expected {n} starts, got a list of {len(kinds)}", "Name one kind for each start.")
    code = _encode_targets(kinds, decoder, targets)
    return torch.stack([_draw_starts(name, space, code, count, generator) for name in kinds], 1)


def name_starts(kind: str | Sequence[str] | Tensor, n: int) -> list[str]:
    """The names of n starts for records and reports, such as ``["mean", "prior 1", "prior 2"]``."""
    kinds = ["own"] * n if isinstance(kind, Tensor) else [kind] * n if isinstance(kind, str) else list(kind)
    totals, counts = Counter(kinds), Counter[str]()
    names = []
    for name in kinds:
        counts[name] += 1
        names.append(f"{name} {counts[name]}" if totals[name] > 1 else name)
    return names


def _expand_user_starts(codes: Tensor, count: int, n: int, dim: int) -> Tensor:
    if codes.ndim <= 3 and codes.ndim >= 1 and codes.shape[-1] == dim and codes.is_floating_point():
        try:
            return codes.detach().expand(count, n, dim).clone()
        except RuntimeError:
            pass
    raise ShapeError(
        f"expected starts ({dim},), ({n}, {dim}) or ({count}, {n}, {dim}), got {tuple(codes.shape)}",
        "The axes are targets, starts, latent dimensions.",
    )


def _encode_targets(kinds: Sequence[str], decoder: "Decoder", targets: Tensor | None) -> Posterior | Tensor | None:
    encoded = [name for name in kinds if name in ("mean", "sample")]
    if not encoded:
        return None
    if targets is None:
        raise UsageError(
            f"start {encoded[0]!r} encodes the target, and there is no target", "Start from prior, codes or zero."
        )
    with torch.no_grad():
        code = decoder.encode(targets)
    if code is None:
        raise UsageError(
            f"start {encoded[0]!r} needs an encoder", "Pass encode=... to lso.Decoder, or start from prior."
        )
    if "sample" in encoded and not isinstance(code, DiagonalGaussian):
        raise UsageError("start 'sample' needs the encoder's variance, and the encoder gives none", "Start from mean.")
    return code


def _draw_starts(
    name: str, space: LatentSpace, code: Posterior | Tensor | None, count: int, generator: Generator | None
) -> Tensor:
    if name == "zero":
        return torch.zeros(count, space.dim, dtype=torch.float64)
    if name in ("prior", "codes"):
        return space.sample(count, name, generator)
    mean = code if code is None or isinstance(code, Tensor) else code.mean
    if name == "mean" and mean is not None:
        return mean.cpu().double()
    if name == "sample" and isinstance(code, DiagonalGaussian):
        noise = torch.randn(count, space.dim, generator=generator)
        return code.sample(noise.to(code.mean)).cpu().double()
    raise unknown_name("start", name, STARTS)
