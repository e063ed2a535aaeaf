"""A semi-amortized step of ten inner steps in units of a vanilla step; the target is a most, see `sa_vae_step`."""

from collections.abc import Iterator
from typing import Any

import torch
from sa_vae_step import measure
from speed.pairs import Row, Times, row

from lso.vae.distributed import use_threads

NETWORKS = ("he2019-small", "he2019", "kim2018")
WRONG = 0.01  # of the gradients of a whole step, at most, where products are differences


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's lines."""
    clock = "processor seconds of one thread" if device.type == "cpu" else "wall seconds"
    for network in NETWORKS[: 1 if quick else None]:
        with use_threads(1):
            measured = measure(network, 2, 3 if quick else 5, device)
        for found in measured:
            vanilla, refined = zip(*found["times"], strict=True)
            equal, products = same(found)
            memory = f"{found['sa_vae_mb']:.0f} MB against {found['vanilla_mb']:.0f}"
            yield row(
                f"semi-amortized step of {network}, batch 50, {found['products']}",
                "ten inner steps",
                "a vanilla step",
                Times(plain=refined, ours=vanilla),
                equal=equal,
                scaled="two inner steps timed",
                target=found["target"],
                note="; ".join(part for part in (clock, memory, products) if part),
                at_most=True,
            )


def same(found: dict[str, Any]) -> tuple[str, str]:
    """How gradients were found equal, and for differences the errors of one product; `measure` asserts exact ones."""
    if "check" in found:
        return f"double backward in double precision, {found['check']:.0e}", ""
    whole, product = (
        [found[f"error_{part}"] for part in parts] for parts in (("encoder", "decoder"), ("posterior", "weights"))
    )
    assert max(whole) <= WRONG, whole
    told = [" / ".join(f"{error:.2%}" for error in errors) for errors in (whole, product)]
    return (
        f"gradients of a whole step to {told[0]} (encoder / decoder)",
        f"a product to {told[1]} (posterior / weights)",
    )
