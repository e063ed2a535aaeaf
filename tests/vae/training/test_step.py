"""The one step: noise, knobs, groups, the joint clip, and that nothing inside reads the host."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lso.vae.config.components import Reencoding
from lso.vae.config.methods import METHODS
from lso.vae.config.protocol import Protocol
from lso.vae.objectives.reencoding import penalize
from lso.vae.training.step import State, StepInputs, StepNoise, draw_noise, fresh_state, step
from lso.vae.utils.random import generator
from tests.vae.small import PAIRS, batch_for, example, kind_of, quick, small_model

CPU = torch.device("cpu")
READS = ("_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "masked_select", "unique")


everywhere = pytest.mark.parametrize(
    ("name", "arch"), [(name, arch) for name, arch in PAIRS if arch in ("mlp", "lstm", "transformer")]
)


def state(name: str = "vae", arch: str = "mlp", *, clip: float = 0.0, device: str = "cpu") -> State:
    chosen = quick(name)
    return fresh_state(small_model(chosen, arch).to(device), chosen, Protocol(clip=clip))


def batch(n: int = 16) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=generator(0, "test"))


def noise(
    name: str = "vae", arch: str = "mlp", *, seed: int = 0, at: int = 0, binarize: bool = True, device: str = "cpu"
) -> StepNoise:
    chosen, where, shape = quick(name), torch.device(device), tuple(batch_for(arch, 16).shape)
    binarize = binarize and kind_of(arch) == "image"
    return draw_noise(chosen, small_model(chosen, arch), shape, binarize=binarize, seed=seed, step=at, device=where)


def knobs(w: float = 0.5, rate: float = 1e-3, device: str = "cpu") -> StepInputs:
    return StepInputs(torch.tensor(w, device=device), torch.tensor(rate, device=device))


def flat(module: torch.nn.Module, gradient: bool = False) -> Tensor:
    parts = [p.grad if gradient else p.detach() for p in module.parameters()]
    return torch.cat([part.flatten() for part in parts if part is not None]).clone()


# --- noise ------------------------------------------------------------------------------------------------------------


def drawn(name: str, arch: str, *, seed: int, at: int) -> list[Tensor | None]:
    """A step's noise, the dropout's uniforms one by one."""
    found = noise(name, arch, seed=seed, at=at)
    return [*found.drawn.values(), found.binarize, *found.dropout]


@everywhere
def test_noise_is_a_function_of_seed_purpose_and_step_alone(name: str, arch: str) -> None:
    torch.manual_seed(1)
    one = drawn(name, arch, seed=3, at=7)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = drawn(name, arch, seed=3, at=7)
    assert torch.equal(before, torch.get_rng_state())
    others = (drawn(name, arch, seed=4, at=7), drawn(name, arch, seed=3, at=8))
    for a, b, other, later in zip(one, two, *others, strict=True):
        if a is None or b is None or other is None or later is None:
            assert a is b is other is later
        else:
            assert torch.equal(a, b)
            assert not a.numel() or not (torch.equal(a, other) or torch.equal(a, later))


def test_streams_do_not_depend_on_each_other() -> None:
    """Binarization on or off, penalty or none: the posterior noise of a step stays the same."""
    base = noise("vae", binarize=False)
    assert base.binarize is None and base.drawn.keys() == {"posterior"}
    for other in (noise("vae"), noise("ne-vae-se"), noise("ne-vae-se", binarize=False)):
        assert torch.equal(base.drawn["posterior"], other.drawn["posterior"])
    both = noise("ne-vae-se").drawn
    assert not torch.equal(both["posterior"], both["reencode"])


@pytest.mark.parametrize("name", METHODS)
def test_a_stream_serves_one_purpose(name: str) -> None:
    """Two parts that named one stream would be handed the same numbers."""
    streams = [spec.stream for spec in example(name).noise(3)]
    assert streams[0] == "posterior" and len({*streams, "binarize", "dropout"}) == len(streams) + 2


@everywhere
def test_step_draws_no_randomness_of_its_own(name: str, arch: str) -> None:
    made = state(name, arch)
    given, before = noise(name, arch), torch.get_rng_state()
    step(made, batch_for(arch, 16), given, knobs())
    assert torch.equal(before, torch.get_rng_state())


# --- what the loss is made of -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0])
def test_loss_is_reconstruction_weighted_kl_and_penalty(w: float) -> None:
    for name in ("vae", "ne-vae-se", "ne-vae-lp", "skip-vae"):
        info = step(state(name), batch(), noise(name), knobs(w))
        torch.testing.assert_close(info.loss, info.reconstruction + w * info.kl + info.penalty)
        assert (info.penalty != 0) == ("penalty" in METHODS[name].parts)


@pytest.mark.parametrize("name", ["ne-vae-se", "ne-vae-lp"])
def test_penalty_reencodes_the_soft_reconstruction_of_the_sampled_code(name: str) -> None:
    made, drawn = state(name), noise(name)
    assert drawn.binarize is not None and isinstance(made.method.penalty, Reencoding)
    x = (drawn.binarize < batch()).float()
    z = made.model.encode(x).sample(drawn.drawn["posterior"][0])
    again, second = made.model.encode(made.model.reconstruct(z)), drawn.drawn.get("reencode")
    expected = penalize(made.method.penalty, z, again, None if second is None else second[0]).mean()
    torch.testing.assert_close(step(made, batch(), drawn, knobs()).penalty, expected)


def test_pixels_are_binarized_by_the_noise_and_bytes_are_over_255() -> None:
    drawn = noise()
    grey = (batch() * 255).to(torch.uint8)
    assert drawn.binarize is not None
    binary = (drawn.binarize < grey / 255).float()
    expected = step(state(), binary, drawn._replace(binarize=None), knobs())
    assert all(torch.equal(a, b) for a, b in zip(step(state(), grey, drawn, knobs()), expected, strict=True))


# --- knobs, groups, clip ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1e-4, 1e-2])
def test_learning_rate_is_the_knob_not_the_protocol(rate: float) -> None:
    """Adam's first step moves each weight by rate * g / (|g| + eps): by the rate itself for all but tiny gradients."""
    made = state()
    before = flat(made.model)
    step(made, batch(), noise(), knobs(rate=rate))
    assert (flat(made.model) - before).abs().max().item() == pytest.approx(rate, rel=1e-3, abs=1e-12)


def test_encoder_moves_by_its_own_rate() -> None:
    chosen = example("vae")
    made = fresh_state(small_model(chosen), chosen, Protocol(learning_rate=1e-3, encoder_learning_rate=4e-3, clip=0.0))
    before = copy.deepcopy(made.model)
    step(made, batch(), noise(), knobs(rate=5e-4))  # after a decay by half
    for name, rate in (("encoder", 2e-3), ("decoder", 5e-4)):
        moved = flat(getattr(made.model, name)) - flat(getattr(before, name))
        assert moved.abs().max().item() == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("stepped", "still"), [("encoder", "decoder"), ("decoder", "encoder")])
def test_a_group_that_does_not_step_is_left_untouched(stepped: Any, still: Any) -> None:
    made = state("ne-vae-se")
    before = copy.deepcopy(made.model)
    step(made, batch(), noise("ne-vae-se"), knobs(), (stepped,))
    halves = dict(made.model.named_children())
    assert torch.equal(flat(halves[still]), flat(dict(before.named_children())[still]))
    assert not torch.equal(flat(halves[stepped]), flat(dict(before.named_children())[stepped]))
    assert not made.optimizers[still].state and made.optimizers[stepped].state
    assert flat(halves[still], gradient=True).any()  # computed all the same, for the joint norm


def test_clip_is_joint_over_both_halves() -> None:
    free, clipped = state(), state(clip=0.01)
    norms = [step(made, batch(), noise(), knobs(), ()).gradient_norm for made in (free, clipped)]
    raw, cut = flat(free.model, gradient=True), flat(clipped.model, gradient=True)
    torch.testing.assert_close(norms[0], raw.norm())
    torch.testing.assert_close(norms[0], norms[1])  # reported before the clip
    torch.testing.assert_close(cut, raw * (0.01 / raw.norm()), rtol=1e-3, atol=1e-9)


def test_small_gradients_are_not_clipped() -> None:
    free, clipped = state(), state(clip=1e6)
    for made in (free, clipped):
        step(made, batch(), noise(), knobs(), ())
    assert torch.equal(flat(free.model, gradient=True), flat(clipped.model, gradient=True))


def test_gradients_do_not_carry_over_to_the_next_step() -> None:
    once, twice = state(), state()
    step(twice, batch(), noise(at=5), knobs(), ())
    for made in (once, twice):
        step(made, batch(), noise(), knobs())
    assert torch.equal(flat(once.model), flat(twice.model))


@pytest.mark.parametrize("name", ["sa-vae:steps=3", "sa-vae:steps=3,products=differences"])
def test_refinement_moves_no_running_statistics_there_and_back(name: str) -> None:
    """A step counts as one batch in every batch-norm of the decoder, whatever the passes of the refinement."""
    chosen = example(name)
    made = fresh_state(small_model(chosen, "he2019-small", width=4), chosen, Protocol())
    step(made, batch(), noise(name), knobs())
    norms = [m for m in made.model.decoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) > 30 and all(m.num_batches_tracked == 1 for m in norms)


# --- the host ---------------------------------------------------------------------------------------------------------


class NoHostRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails on any operation that would wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        assert name not in READS, f"host read: {func}"
        if name == "_to_copy" and isinstance(args[0], Tensor):
            assert (kwargs or {}).get("device") in (None, args[0].device), f"copy between devices: {func}"
        return func(*args, **(kwargs or {}))


def test_the_guard_sees_a_host_read() -> None:
    with NoHostRead(), pytest.raises(AssertionError, match="host read"):  # type: ignore[no-untyped-call]
        torch.ones(()).item()


@everywhere
def test_step_reads_nothing_from_the_device(name: str, arch: str) -> None:
    made, x, drawn, knob = state(name, arch, clip=1.0), batch_for(arch, 16), noise(name, arch), knobs()
    with NoHostRead():  # type: ignore[no-untyped-call]
        for _ in range(2):
            step(made, x, drawn, knob)


@pytest.mark.gpu
@everywhere
def test_step_never_waits_for_the_gpu(name: str, arch: str) -> None:
    made, x, drawn, knob = (
        state(name, arch, clip=1.0, device="cuda"),
        batch_for(arch, 16).cuda(),
        noise(name, arch, device="cuda"),
        knobs(device="cuda"),
    )
    step(made, x, drawn, knob)
    torch.cuda.set_sync_debug_mode("error")
    try:
        info = step(made, x, drawn, knob)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(info.loss.item())
