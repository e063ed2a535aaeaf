"""What the decoder can do against what the targets ask for: does it vary enough, and was each target reproduced?"""

import torch
from jaxtyping import Float
from torch import Tensor


def reaction(targets: Tensor | None, decoded: Tensor, scale: float) -> float | None:
    """How much the decoder varies over the prior, as a share of what the targets ask for.

        RMS difference of two decoded draws / (sqrt(2) x RMS difference of the targets from the mean decode)

    Args:
        targets: ``(T, *event)`` or None.
        decoded: ``(n, *event)`` decoded prior draws.
        scale: RMS difference of two decoded draws.
    Returns:
        0 where the decoder ignores its code; None without targets.
    """
    if targets is None or targets.shape[1:] != decoded.shape[1:]:
        return None
    asked = float((targets.double().cpu() - decoded.mean(0)).square().mean().sqrt())
    return scale / (2**0.5 * asked) if asked > 0 else None


def explained(targets: Tensor | None, decoded: Tensor, prior: Tensor) -> Float[Tensor, " target"] | None:
    """Share of each target that a result reproduces, against the answer that knows nothing, the mean decode.

        1 - |x - target|^2 / |m - target|^2,  x the decoded result, m the mean of decoded prior draws

    Args:
        targets: ``(T, *event)`` or None.
        decoded: ``(T, *event)`` decoded results.
        prior: ``(n, *event)`` decoded prior draws.
    Returns:
        ``(T,)``, at most 1; 0 or less where the mean does as well. None without targets.
    """
    if targets is None or targets.shape != decoded.shape or targets.shape[1:] != prior.shape[1:]:
        return None
    wanted, got, mean = (x.detach().double().cpu() for x in (targets, decoded, prior.mean(0)))
    missed, asked = ((x - wanted).square().flatten(1).sum(1) for x in (got, mean))
    return 1 - missed / torch.where(asked > 0, asked, 1.0)
