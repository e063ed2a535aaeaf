"""Random streams as a pure function of (seed, purpose, counters), which makes a resumed run bit-identical.

No generator state is carried along or stored. A stream is named by its purpose and its position in the run, so that a
resumed run, a replayed step and another process draw the same numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Generator, Tensor


def mix_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed: the first bits of blake2b over the run's seed, a purpose (``"posterior"``) and counters, such as
    the outer and the inner step.
    """
    text = "/".join((str(seed), purpose, *map(str, counters)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> Generator:
    """A new generator for the stream of a seed, purpose and counters; CPU and GPU draw different numbers from it."""
    return Generator(device).manual_seed(mix_seed(seed, purpose, *counters))


@contextmanager
def seed_globally(seed: int | None, device: torch.device) -> Iterator[None]:
    """A context in which torch's global generators of the CPU and a device begin at a seed; None changes nothing.

    Afterwards they are as they were before.
    """
    if seed is None:
        yield
        return
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def draw(
    kind: Literal["normal", "uniform"], size: tuple[int, ...], stream: Generator, dtype: torch.dtype | None = None
) -> Tensor:
    """Draw standard normal numbers, or uniforms in [0, 1), of a shape from a stream, on the stream's device."""
    make = torch.randn if kind == "normal" else torch.rand
    return make(size, generator=stream, device=stream.device, dtype=dtype)
