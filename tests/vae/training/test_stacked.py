"""S models stepped as one against each stepped alone, in double precision."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lso.vae.config.methods import Method
from lso.vae.config.protocol import Precision, Protocol
from lso.vae.models.vae import build
from lso.vae.training.batched import stack, step_together
from lso.vae.training.step import State, StepInputs, StepNoise, draw_noise, fresh_state, step
from lso.vae.utils.random import generator
from tests.vae.small import example, small_networks

MODELS, BATCH = 3, 6


def _state(
    method: Method,
    arch: str,
    protocol: Protocol,
    seed: int,
    likelihood: str | None = None,
    dtype: torch.dtype = torch.float64,
) -> State:
    sizes = small_networks(method, arch, 4, likelihood, width=16 if arch == "mlp" else 4)
    return fresh_state(build(sizes, method.skip, (1, 8, 8), seed).to(dtype), method, protocol)


def _inputs(state: State, seed: int, step: int) -> tuple[Tensor, StepNoise, StepInputs]:
    x = torch.rand(BATCH, 1, 8, 8, generator=generator(seed, "x", step), dtype=torch.float64)
    drawn = draw_noise(
        state.method, state.model, (BATCH, 1, 8, 8), binarize=True, seed=seed, step=step, device=torch.device("cpu")
    )
    noise = tree_map_only(Tensor, Tensor.double, drawn)
    return x, noise, StepInputs(torch.tensor(0.2 + 0.3 * seed), torch.tensor((1 + seed) * 1e-2))


def _single(x: Tensor, noise: StepNoise, knobs: StepInputs) -> tuple[Tensor, StepNoise, StepInputs]:
    return x.float(), tree_map_only(Tensor, Tensor.float, noise), knobs


@pytest.mark.parametrize(
    ("name", "arch", "likelihood", "options"),
    [
        ("vae", "mlp", "gaussian", {}),
        ("ne-vae-se+skip-vae:weight=2", "mlp", None, {"clip": 0.5}),
        ("ne-vae-lp:c=-1,reconstruction=hard", "conv", None, {"optimizer": "sgd", "encoder_learning_rate": 0.02}),
        ("free-bits:over=batch", "conv", "logistic", {"clip": 0.0}),
        ("iwae:samples=3", "mlp", None, {}),
        ("vae", "he2019-small", None, {}),  # batch-norm
        ("pixelcnn", "he2019-small", None, {}),  # without an encoder
        ("skip-vae", "kim2018", None, {}),
    ],
)
def test_models_step_together_as_alone(name: str, arch: str, likelihood: str | None, options: dict[str, float]) -> None:
    """Rates and KL weights are each model's own; after four steps weights and statistics agree to rounding.

    Adam divides by the root of its second moment, which turns rounding into more where a gradient is near zero: hence
    1e-7 of the weights, and 1e-10 of the losses.
    """
    method, protocol = example(name), Protocol(**{"batch_size": BATCH, **options})  # type: ignore[arg-type]
    alone, together = ([_state(method, arch, protocol, seed, likelihood) for seed in range(MODELS)] for _ in range(2))
    stacked = stack(together)
    for count in range(4):
        given = [_inputs(state, seed, count) for seed, state in enumerate(alone)]
        wanted = [step(state, *own) for state, own in zip(alone, given, strict=True)]
        found = step_together(stacked, *zip(*given, strict=True))
        for info, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(torch.stack(info), torch.stack(expected), rtol=1e-10, atol=1e-10)
    for one, other in zip(together, alone, strict=True):
        values = one.model.state_dict()
        for key, value in other.model.state_dict().items():
            torch.testing.assert_close(values[key], value, rtol=1e-7, atol=1e-7, msg=key)


@pytest.mark.parametrize("arch", ["mlp", "conv"])
def test_layers_in_bfloat16_stay_so_together(arch: str) -> None:
    """Both round layers to 8 bits, in sums of another order: within 1 % of each other, and not as near to float32."""
    method = example("vae")
    state = _state(method, arch, Protocol(), 0)
    given = [_single(*_inputs(state, seed, 0)) for seed in range(MODELS)]

    def fresh(precision: Precision) -> list[State]:
        protocol = Protocol(precision=precision)
        return [_state(method, arch, protocol, seed, dtype=torch.float32) for seed in range(MODELS)]

    def losses(precision: Precision) -> Tensor:
        return torch.stack([info.loss for info in step_together(stack(fresh(precision)), *zip(*given, strict=True))])

    wanted = torch.stack([step(state, *own).loss for state, own in zip(fresh("bfloat16"), given, strict=True)])
    torch.testing.assert_close(losses("bfloat16"), wanted, rtol=1e-2, atol=0.0)
    assert not torch.allclose(losses("float32"), losses("bfloat16"), rtol=1e-6, atol=0.0)


def test_a_model_that_is_not_finite_leaves_the_others_as_they_are() -> None:
    method, protocol = example("vae"), Protocol()
    alone, together = ([_state(method, "mlp", protocol, seed) for seed in range(MODELS)] for _ in range(2))
    stacked = stack(together)
    given = [_inputs(state, seed, 0) for seed, state in enumerate(alone)]
    given[1][0].fill_(torch.nan)
    poisoned = [(x, noise._replace(binarize=None), knobs) for x, noise, knobs in given]
    found = step_together(stacked, *zip(*poisoned, strict=True))
    assert [bool(torch.isfinite(info.gradient_norm)) for info in found] == [True, False, True]
    for i in (0, 2):
        step(alone[i], *poisoned[i])
        for one, other in zip(together[i].model.parameters(), alone[i].model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
