"""Where searches start: for each target a row of codes."""

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
    """Starting codes of every target.

    Args:
        kind: a row of `STARTS`, a list of n of them, or the user's own codes: ``(d,)`` or ``(n, d)`` for all targets
            alike, or ``(T, n, d)``.
        space: prior and known codes.
        decoder: its encoder serves ``mean`` and ``sample``.
        targets: ``(T, *event)``; None for an objective without targets (T = 1).
        n: starts for each target.
        generator: CPU generator; None is torch's global one.
    Returns:
        ``(T, n, d)``, double for the kinds, the user's own dtype for the user's own codes. Random kinds draw anew for
        every target.
    Raises:
        UsageError: for an unknown kind, or one that the decoder or space cannot serve.
        ShapeError: if the user's codes do not fit.
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
    """Names of the starts, for records and reports.

    Args:
        kind: as for `make_starts`.
        n: starts for each target.
    Returns:
        n names, such as ``["mean", "prior 1", "prior 2"]``; numbered where a kind comes more than once.
    """
    kinds = ["own"] * n if isinstance(kind, Tensor) else [kind] * n if isinstance(kind, str) else list(kind)
    many, seen = Counter(kinds), Counter[str]()
    found = []
    for name in kinds:
        seen[name] += 1
        found.append(f"{name} {seen[name]}" if many[name] > 1 else name)
    return found


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
    wanted = [name for name in kinds if name in ("mean", "sample")]
    if not wanted:
        return None
    if targets is None:
        raise UsageError(
            f"start {wanted[0]!r} encodes the target, and there is none", "Start from prior, codes or zero."
        )
    with torch.no_grad():
        code = decoder.encode(targets)
    if code is None:
        raise UsageError(
            f"start {wanted[0]!r} needs an encoder", "Pass encode=... to lso.Decoder, or start from prior."
        )
    if "sample" in wanted and not isinstance(code, DiagonalGaussian):
        raise UsageError("start 'sample' needs the encoder's variance, which it does not give", "Start from mean.")
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
