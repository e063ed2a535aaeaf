"""Steps of S models one after another against one step of the batched model, as `lso sweep` takes them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from speed.pairs import Row, pairs, row, sync_of
from torch import Tensor

from lso.tasks.training.plan import plan
from lso.vae.config.training import TrainConfig
from lso.vae.models.vae import build
from lso.vae.training.batched import stack, step_together
from lso.vae.training.cuda_graphs import WARM, Replayed, cuda_graphs
from lso.vae.training.step import State, StepInputs, StepMetrics, StepNoise, draw_noise, fresh_state

MODELS, SIDE, EACH = 8, 8, 20  # steps of a pair, so that milliseconds are more than the clock's noise
CHECKED = WARM + 2  # first steps checked equal: on a GPU the last of them is replayed
Steps = Callable[[int], list[StepMetrics]]  # the number of a step -> what each model says of it


class Ways(NamedTuple):
    """Two ways to take the same steps.

    Args:
        alone: one model after another.
        joint: all together.
        equal: how the first steps were found equal.
        note: why steps alone are not replayed on a GPU, or empty.
    """

    alone: Steps
    joint: Steps
    equal: str
    note: str


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's lines."""
    for arch in ("conv",) if quick else ("mlp", "conv", "he2019-small"):
        ways = two_ways(arch, "vae", MODELS, pixels(SIDE, device))
        numbers = range(1, 1 + (2 if arch == "he2019-small" else EACH))
        yield row(
            f"{len(numbers)} training steps of {MODELS} models, {arch}, 8x8 images",
            "one model after another" + (", CUDA graphs" if device.type == "cuda" else ""),
            "one batched model",
            pairs(repeated(ways.alone, numbers), repeated(ways.joint, numbers), 3 if quick else 5, sync_of(device)),
            equal=ways.equal,
            note=ways.note,
        )


def repeated(steps: Steps, numbers: range) -> Callable[[], object]:
    """What takes the steps of such numbers."""
    return lambda: [steps(number) for number in numbers]


def pixels(side: int, device: torch.device) -> Tensor:
    """Random images, as many as any batch takes."""
    return torch.rand(256, 1, side, side, generator=torch.Generator().manual_seed(0)).to(device)


def two_ways(arch: str, method: str, count: int, images: Tensor) -> Ways:
    """Steps of fresh models of seeds 0, 1, ... alone and together."""
    config = plan({"architecture": {"name": arch}, "method": method})
    apart, joint = _states(config, count, images), _states(config, count, images)
    own = [Replayed(state, cuda_graphs if images.is_cuda else None) for state in apart]
    stacked = stack(joint)

    def alone(number: int) -> list[StepMetrics]:
        return [one(*_given(one.state, config, seed, number, images)) for seed, one in enumerate(own)]

    def together(number: int) -> list[StepMetrics]:
        parts = [_given(one, config, seed, number, images) for seed, one in enumerate(joint)]
        return step_together(stacked, *zip(*parts, strict=True))

    found, wanted = (torch.stack([_values(steps(number)) for number in range(CHECKED)]) for steps in (together, alone))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    difference = float(((found - wanted).abs() / wanted.abs().clamp(min=1.0)).max())
    note = "; ".join(dict.fromkeys(one.sentence for one in own if one.sentence))
    return Ways(alone, together, f"losses and norms of {CHECKED} first steps to {difference:.0e}", note)


def _values(infos: list[StepMetrics]) -> Tensor:
    """``(models, values)``; a copy, as a replayed step writes over what it gave."""
    return torch.stack([torch.stack(info) for info in infos])


def _states(config: TrainConfig, count: int, images: Tensor) -> list[State]:
    models = [build(config.architecture, config.method.skip, tuple(images.shape[1:]), seed) for seed in range(count)]
    return [fresh_state(model.to(images.device), config.method, config.protocol) for model in models]


def _given(
    state: State, config: TrainConfig, seed: int, number: int, images: Tensor
) -> tuple[Tensor, StepNoise, StepInputs]:
    x = images[: config.protocol.batch_size]
    drawn = draw_noise(
        config.method, state.model, tuple(x.shape), binarize=True, seed=seed, step=number, device=x.device
    )
    return x, drawn, StepInputs(torch.ones((), device=x.device), torch.full((), 1e-3, device=x.device))
