"""How far proposals stray from the prior's shell, against the weight of the soft guard.

Command (one core, `OMP_NUM_THREADS=1`): `python benchmarks/guard_weight.py`; 5 minutes.

20 dimensions, a box of +-3, proposals of `gp` (8 an ask) after 10 or 100 prior draws of three scores: a bowl whose top
lies on the shell, one that saturates (as a classifier's probability does), one that grows without end. The guard's
weight is given as the factor of the log density; the default, 5 over the root of the evaluations, is 1.6, 0.5 and 0.16
after 10, 100 and 1,000. Prior draws have norms of 2.9 to 6.1 (1 % to 99 %), the corner of the box 13.4.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lso.black_box.ask_tell import make_optimizer
from lso.space import LatentSpace

DIM, ASKED = 20, 8
DIRECTION = torch.randn(DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
DIRECTION /= DIRECTION.norm()

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "bowl": lambda z: -(z - DIRECTION * DIM**0.5).square().sum(-1),
    "saturating": lambda z: torch.sigmoid(2 * (z @ DIRECTION - 2)),
    "growing": lambda z: z @ DIRECTION,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    space = LatentSpace(DIM)
    print("| score | told | factor | typical | norms | score |\n| --- | --- | --- | --- | --- | --- |")
    for name, score in SCORES.items():
        for told in (10, 100):
            for factor in (None, 0.01, 0.1, 1.0):
                options: dict[str, Any] = {"guard": None} if factor is None else {"guard_weight": factor * told**0.5}
                box = make_optimizer("gp", space, restarts=4, raw_samples=256, **options)
                known = space.clip(space.sample(told, generator=torch.Generator().manual_seed(1)))
                box.tell(known, score(known))
                z = box.ask(ASKED)
                norms = z.norm(dim=1)
                print(
                    f"| {name} | {told} | {factor} | {float(space.typical(z).double().mean()):.2f} | "
                    f"{float(norms.min()):.1f}-{float(norms.max()):.1f} | {float(score(z).mean()):.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
