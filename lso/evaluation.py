"""From the ends of a search to one `Evaluation` for each element."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.objective import LatentObjective
from lso.result import Evaluation

CHUNK = 256  # ends decoded at once
DECIMALS = 4  # to which two decoded data must agree to count as one


def evaluations(
    objective: LatentObjective,
    z: Float[Tensor, "target start latent"],
    value: Float[Tensor, "target start"],
    steps: list[int],
    stopped: list[str],
    seconds: list[float],
) -> tuple[Evaluation, ...]:
    """Decode every end once and write down what there is to know of it.

    Args:
        objective: what was searched over.
        z: ``(T, S, d)`` ends.
        value: ``(T, S)`` the user's own values there.
        steps: T * S steps.
        stopped: T * S reasons.
        seconds: T * S seconds.
    Returns:
        T * S records, targets first.
    """
    starts, flat = z.shape[1], z.reshape(-1, z.shape[-1])
    with torch.no_grad():
        targets = torch.arange(len(flat)) // starts
        chunks = zip(torch.split(flat, CHUNK), torch.split(targets, CHUNK), strict=True)
        ends = [end for chunk, rows in chunks for end in _ends(objective.take(rows), chunk)]
    percentile = objective.space.norm_percentile(flat).tolist()
    codes, values = flat.tolist(), value.flatten().tolist()
    valid = torch.isfinite(value).flatten().tolist()
    first: dict[str, int] = {}
    return tuple(
        Evaluation(
            target=i // starts,
            start=i % starts,
            z=codes[i],
            decoded_hash=digest,
            value=values[i],
            valid=valid[i],
            duplicate_of=None if first.setdefault(digest, i) == i else first[digest],
            norm_percentile=percentile[i],
            reencoding_error=error,
            steps=steps[i],
            stopped=stopped[i],
            seconds=seconds[i],
            decoded=text,
        )
        for i, (digest, error, text) in enumerate(ends)
    )


def reencoding_errors(
    objective: LatentObjective, z: Float[Tensor, "n latent"], x: Tensor
) -> Float[Tensor, " n"] | None:
    """Mean over dimensions of (z - encoder mean of the decoded datum)^2.

    Args:
        objective: holds the decoder.
        z: ``(n, d)`` codes.
        x: ``(n, *event)`` what they decode to.
    Returns:
        ``(n,)``, or None without an encoder.
    """
    means = objective.decoder.code_means(x)
    return None if means is None else ((z - means.to(z)) ** 2).mean(-1)


End = tuple[str, float | None, str | None]  # hash, re-encoding error, text


def _ends(objective: LatentObjective, z: Tensor) -> Iterator[End]:
    speaker = objective.decoder if objective.decoder.vocabulary is not None else None
    x = objective.decode(z) if speaker is None else speaker.tokens(z)
    if not isinstance(x, Tensor):
        yield from ((_digest(item), None, item if isinstance(item, str) else None) for item in x)
        return
    errors = reencoding_errors(objective, z, x)
    rounded = (x.double().round(decimals=DECIMALS) + 0.0).cpu().numpy()  # + 0.0: minus zero is zero
    nothing: list[Any] = [None] * len(z)
    texts = nothing if speaker is None else speaker.texts(x)
    yield from zip(map(_digest, rounded), nothing if errors is None else errors.tolist(), texts, strict=True)


def _digest(item: Any) -> str:
    data = item.tobytes() if hasattr(item, "tobytes") else repr(item).encode()
    return hashlib.sha256(data).hexdigest()[:16]
