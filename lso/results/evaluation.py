"""Makes the record of each element of a gradient search: its code, what that decodes to, and the value."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.objectives.function_names import ADDRESS
from lso.objectives.latent_objective import LatentObjective
from lso.objectives.scores import as_objects
from lso.results.result import Evaluation
from lso.vae.errors import UsageError

CHUNK = 256  # ends decoded at once, to bound memory


def evaluations(
    objective: LatentObjective,
    z: Float[Tensor, "target start latent"],
    value: Float[Tensor, "target start"],
    steps: list[int],
    stopped: list[str],
    seconds: list[float],
) -> tuple[Evaluation, ...]:
    """Decode every end once and make one `Evaluation` for each element, targets first."""
    starts, flat = z.shape[1], z.reshape(-1, z.shape[-1])
    targets = torch.arange(len(flat)) // starts
    chunks = zip(torch.split(flat, CHUNK), torch.split(targets, CHUNK), strict=True)
    found = [end for chunk, rows in chunks for end in decode_codes(objective.take(rows), chunk)]
    percentile = objective.space.norm_percentile(flat).tolist()
    codes, values = flat.tolist(), value.flatten().tolist()
    valid = torch.isfinite(value).flatten().tolist()
    first: dict[str, int] = {}
    return tuple(
        Evaluation(
            target=i // starts,
            start=i % starts,
            z=codes[i],
            decoded_hash=end.decoded_hash,
            value=values[i],
            valid=valid[i],
            duplicate_of=None if first.setdefault(end.decoded_hash, i) == i else first[end.decoded_hash],
            norm_percentile=percentile[i],
            reencoding_error=end.reencoding_error,
            steps=steps[i],
            stopped=stopped[i],
            seconds=seconds[i],
            decoded=end.text,
        )
        for i, end in enumerate(found)
    )


def reencoding_errors(
    objective: LatentObjective, z: Float[Tensor, "n latent"], x: Tensor
) -> Float[Tensor, " n"] | None:
    """Mean over dimensions of (z - encoder mean of the decoded datum)^2; None without an encoder."""
    means = objective.decoder.code_means(x)
    return None if means is None else ((z - means.to(z)) ** 2).mean(-1)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedCode:
    """What one code decodes to.

    Args:
        item: the datum as a score takes it: a tensor, or an array, string or other object.
        decoded_hash: see `Evaluation`.
        reencoding_error: see `Evaluation`.
        text: the datum, where it is a string.
    """

    item: Any
    decoded_hash: str
    reencoding_error: float | None
    text: str | None


@torch.no_grad()
def decode_codes(objective: LatentObjective, z: Float[Tensor, "n latent"]) -> list[DecodedCode]:
    """Decode codes ``(n, d)`` once, with hashes and re-encoding errors; several targets are one for each code."""
    sequence_decoder = objective.decoder if objective.decoder.vocabulary is not None else None
    x = (
        objective.decode(z.clone()) if sequence_decoder is None else sequence_decoder.tokens(z)
    )  # cloned: a decoder may work in place
    if not isinstance(x, Tensor):
        return [DecodedCode(item, content_hash(item), None, item if isinstance(item, str) else None) for item in x]
    means = reencoding_errors(objective, z, x)
    errors = [None] * len(z) if means is None else means.tolist()
    rounded = (x.double().round(decimals=objective.decimals) + 0.0).cpu().numpy()  # + 0.0: minus zero is zero
    hashes = [content_hash(row) for row in rounded]
    if sequence_decoder is not None:
        texts = sequence_decoder.texts(x)
        return [DecodedCode(*row) for row in zip(texts, hashes, errors, texts, strict=True)]
    items = as_objects(x) if objective.on == "objects" else list(x)
    return [DecodedCode(*row, None) for row in zip(items, hashes, errors, strict=True)]


def content_hash(item: Any) -> str:
    """Hash of a datum by which equal data are recognized."""
    if hasattr(item, "tobytes"):
        return hashlib.sha256(item.tobytes()).hexdigest()[:16]
    if not isinstance(item, str) and repr_without_address(item) != repr(item):
        raise UsageError(
            f"objects of type {type(item).__name__} cannot be told apart: their repr contains a memory address",
            "Give the class a __repr__ of what it holds (a dataclass has one), or decode to strings or arrays.",
        )
    return hashlib.sha256(repr(item).encode()).hexdigest()[:16]


def repr_without_address(item: Any) -> str:
    """The ``repr`` of an object without memory addresses, which differ from process to process."""
    return ADDRESS.sub("", repr(item))
