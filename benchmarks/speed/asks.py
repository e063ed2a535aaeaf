"""Time of an ask of `gp` against the same steps in bare BoTorch."""

from collections.abc import Iterator

import torch
from ask_time import bare, told
from speed.pairs import Row, pairs, row

from lso.vae.utils.random import mix_seed

SIZES = (
    (20, 6),
    (100, 6),
    (100, 32),
)  # points, dimensions; of more points our fits are cut, see `lso.black_box.bayesopt.surrogates.MAX_ITERATIONS`
TARGET = 1 / 1.2


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's lines; on the CPU whatever the device, where the process is fitted."""
    count = 3 if quick else 5
    for points, dim in SIZES[:1] if quick else SIZES:
        boxes = [told("gp", points, dim, guard=None) for _ in range(count + 2)]  # each asked once
        history, seed = boxes[0].history(), mix_seed(0, "ask", 0)
        difference = float((boxes.pop().ask() - bare(history, seed)).abs().max())
        assert difference < 1e-6, difference
        times = pairs(lambda h=history, s=seed: bare(h, s), lambda left=boxes: left.pop().ask(), count)  # type: ignore[misc]
        yield row(
            f"ask of gp, {points} points, {dim} dimensions",
            "bare BoTorch, same starts",
            "gp, guard off",
            times,
            equal=f"the same point, to {difference:.0e}",
            target=TARGET,
            note="ours may take 1.2 times as long",
        )
