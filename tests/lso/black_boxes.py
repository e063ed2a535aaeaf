"""Searches for tests: known functions of codes, told and asked."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lso.black_box.ask_tell import BlackBox, make_optimizer
from lso.space import LatentSpace

Score = Callable[[Tensor], Tensor]


def bowl(z: Tensor) -> Tensor:
    """Maximum 0 at (1, ..., 1)."""
    return -(z - 1).square().sum(-1)


def half_feasible(z: Tensor) -> Tensor:
    """The bowl where the last coordinate is positive; NaN elsewhere."""
    return torch.where(z[..., -1] > 0, bowl(z), torch.nan)


def told(name: str, space: LatentSpace, points: int, score: Score = bowl, seed: int = 0, **options: Any) -> BlackBox:
    """An optimizer that has been told of prior draws it had not asked for."""
    box = make_optimizer(name, space, seed=seed, **options)
    z = space.clip(space.sample(points, generator=torch.Generator().manual_seed(seed)))
    box.tell(z, score(z))
    return box


def searched(name: str, space: LatentSpace, asks: int, n: int = 1, score: Score = bowl, **options: Any) -> BlackBox:
    """An optimizer after some asks, each told."""
    box = make_optimizer(name, space, **options)
    for _ in range(asks):
        z = box.ask(n)
        box.tell(z, score(z))
    return box
