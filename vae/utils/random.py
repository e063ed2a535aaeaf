"""Randomness as a pure function of (seed, purpose, counters): the base of bit-identical resume.

No generator state is carried along or stored. A stream is named by what it is for and where in the run it is used, so
that a resumed run, a replayed step and another process draw the same numbers.
"""

import hashlib
from typing import Literal

import torch
from torch import Generator, Tensor


def mix_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed from a base seed, a purpose and counters.

    Args:
        seed: the run's seed.
        purpose: what the stream is for, e.g. ``"posterior"``.
        counters: position of the draw, e.g. outer and inner step.
    Returns:
        The first 63 bits of blake2b over the written-out arguments.
    """
    text = "/".join((str(seed), purpose, *map(str, counters)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> Generator:
    """A fresh generator for one stream.

    Args:
        seed: the run's seed.
        purpose: what the stream is for.
        counters: position of the draw.
        device: where the numbers are drawn; CPU and GPU streams differ.
    Returns:
        The seeded generator.
    """
    return Generator(device).manual_seed(mix_seed(seed, purpose, *counters))


def draw(
    kind: Literal["normal", "uniform"], size: tuple[int, ...], stream: Generator, dtype: torch.dtype | None = None
) -> Tensor:
    """Random numbers of a declared kind.

    Args:
        kind: standard normal, or uniform in [0, 1).
        size: shape.
        stream: where they come from, and whose device they are drawn on.
        dtype: None is torch's default.
    Returns:
        Numbers of that shape.
    """
    make = torch.randn if kind == "normal" else torch.rand
    return make(size, generator=stream, device=stream.device, dtype=dtype)
