"""Small searches with known accounts, and ways to run and kill them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.black_box.ask_tell import BlackBox, History
from lso.black_box.loop import optimize
from lso.black_box.result import SearchResult
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.vae.utils.random import generator
from tests.lso import scorers


def spoken(digits: int = 2) -> Callable[[Tensor], list[str]]:
    """Decodes to the coordinates in words; few digits make duplicates."""

    def decode(z: Tensor) -> list[str]:
        return [" ".join(f"{round(value, digits) + 0.0:.{digits}f}" for value in row) for row in z.tolist()]

    return decode


def objects(
    score: Callable[..., Any] = scorers.first, digits: int = 2, dim: int = 2, **options: Any
) -> LatentObjective:
    decoder = Decoder(spoken(digits), latent_dim=dim, differentiable=False)
    return LatentObjective(decoder, score, **{"on": "objects", "maximize": True, **options})


def bowl(x: Tensor) -> Tensor:
    """Largest, 0, at 0.5."""
    found: Tensor = -((x - 0.5) ** 2).sum(-1)
    return found


def tensors(score: Callable[..., Any] = bowl, dim: int = 3, **options: Any) -> LatentObjective:
    weight = torch.linspace(-1, 1, dim * 4, dtype=torch.float64).reshape(dim, 4)
    return LatentObjective(
        Decoder(lambda z: torch.sin(z @ weight), latent_dim=dim), score, **{"maximize": True} | options
    )


def climb(history: History, n: int, seed: int) -> Float[Tensor, "n latent"]:
    """Draws around the mean of the better half: depends on all that was told, on its order, and on what is pending."""
    noise = torch.randn(n, history.space.dim, generator=generator(seed, "climb"), dtype=torch.float64)
    centre = torch.zeros(history.space.dim, dtype=torch.float64)
    if bool(history.feasible.any()):
        gain = torch.where(history.feasible, history.gain, -torch.inf)
        weight = torch.linspace(1, 2, len(gain), dtype=torch.float64)
        keep = gain >= gain[history.feasible].median()
        centre = (history.z * weight[:, None])[keep].sum(0) / weight[keep].sum()
    if len(history.pending):
        centre = centre + 0.01 * history.pending.sum(0)
    return history.space.clip(centre + noise)


def climber(objective: LatentObjective, seed: int = 0) -> BlackBox:
    return BlackBox("climb", objective.space, climb, seed=seed, maximize=objective.maximize)


def run(objective: LatentObjective, budget: int = 20, **options: Any) -> SearchResult:
    return optimize(objective, options.pop("optimizer", "random"), budget, **options)


def rows(result: SearchResult) -> list[tuple[Any, ...]]:
    """All that must be the same of two searches: clocks left out, NaN as None."""
    return [
        (r.call, r.ask, tuple(r.z), r.decoded_hash, r.value if r.valid else None, r.duplicate_of, r.outcome)
        for r in result.records
    ]


def lines(folder: Path) -> list[bytes]:
    return (folder / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
