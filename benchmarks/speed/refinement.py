"""A semi-amortized step of ten inner steps in units of a vanilla step; the target is a most, see `sa_vae_step`."""

from collections.abc import Iterator

import torch
from sa_vae_step import NETWORKS, measure
from speed.pairs import Row, Times, row


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's lines; processor times on a CPU."""
    for network in NETWORKS[:1] if quick else NETWORKS:
        for found in measure(network, 2, 3 if quick else 5, device):
            vanilla, refined = zip(*found["times"], strict=True)
            errors = [f"{found[key]:.2%}" for key in found if key.startswith("error")]
            yield row(
                f"semi-amortized step of {network}, batch 50, {found['products']}",
                "ten inner steps",
                "a vanilla step",
                Times(plain=refined, ours=vanilla),
                equal=f"double backward, {found['check']:.0e}" if "check" in found else " / ".join(errors),
                scaled="two inner steps timed",
                target=found["target"],
                note=f"at most; {found['sa_vae_mb']:.0f} MB against {found['vanilla_mb']:.0f}",
            )
