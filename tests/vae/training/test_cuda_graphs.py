"""Recorded steps: the trajectory of steps taken alone, checked before they are trusted, given up where they fail."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from lso.vae.config.protocol import Protocol
from lso.vae.training.cuda_graphs import MAX_RECORDINGS, WARM, Record, Replayed, Run, cuda_graphs
from lso.vae.training.step import (
    BOTH,
    Group,
    State,
    StepInputs,
    StepMetrics,
    draw_noise,
    fresh_optimizers,
    fresh_state,
    step,
)
from tests.vae.small import batch_for, example, small_model

PROTOCOL = Protocol(clip=1.0)
ENCODER: tuple[Group, ...] = ("encoder",)
KINDS: list[tuple[int, tuple[Group, ...]]] = [(16, BOTH), (7, BOTH), (16, ENCODER), (16, BOTH), (16, BOTH)] * 4


class Recorder:
    """Stands for a GPU's: what it recorded reads what lies in its own inputs when it is called."""

    def __init__(self) -> None:
        self.made = self.called = 0

    def __call__(self, run: Run) -> Run:
        self.made += 1

        def again() -> StepMetrics:
            self.called += 1
            return run()

        return again


def tells_another_loss(run: Run) -> Run:
    return lambda: run()._replace(kl=torch.tensor(7.0))


def leaves(*moved: str) -> Record:
    """A recording whose replay reports what is right, and leaves some of what a step changes as it was."""

    def record(run: Run) -> Run:
        def again() -> StepMetrics:
            before = current[0]._copy_changed()
            info = run()
            for name in moved:
                for value, old in zip(current[0]._changed_tensors()[name], before[name], strict=True):
                    value.copy_(old)
            return info

        return again

    return record


current: list[Replayed] = []  # of the trajectory under way


def refuses(run: Run) -> Run:
    run()  # as far as it came
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def trajectory(
    make: Callable[[], Record] | None, name: str = "ne-vae-se", arch: str = "mlp", device: str = "cpu"
) -> tuple[Replayed, list[Tensor], State]:
    """Steps of several kinds, with fresh optimizers half way."""
    chosen = example(name)
    state = fresh_state(small_model(chosen, arch).to(device), chosen, PROTOCOL)
    replayed = Replayed(state, make)
    current[:], found = [replayed], []
    for at, (count, groups) in enumerate(KINDS):
        if at == len(KINDS) // 2:
            state.optimizers = fresh_optimizers(state.model, PROTOCOL)
        x = batch_for(arch, 20)[at % 4 : at % 4 + count].to(device)
        noise = draw_noise(chosen, state.model, tuple(x.shape), binarize=True, seed=0, step=at, device=x.device)
        knobs = StepInputs(torch.tensor(0.1 * at, device=device), torch.tensor(1e-3 / (at + 1), device=device))
        found.append(torch.stack(replayed(x, noise, knobs, groups)))
    return replayed, found, state


@cache
def plain(name: str, arch: str) -> tuple[list[Tensor], State]:
    """The trajectory of steps taken alone."""
    return trajectory(None, name, arch)[1:]


def assert_same(one: State, other: State) -> None:
    ours, others = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(ours[name], others[name]) for name in ours)


@pytest.mark.parametrize(("name", "arch"), [("ne-vae-se", "he2019-small"), ("sa-vae:steps=2", "mlp")])
def test_recorded_steps_follow_the_trajectory_of_steps_taken_alone(name: str, arch: str) -> None:
    wanted, alone = plain(name, arch)
    recorder = Recorder()
    replayed, found, state = trajectory(lambda: recorder, name, arch)
    assert replayed.sentence == ""
    # Each half: 12 steps of 16 data and both halves, of which WARM come first; 2 kinds of 2 steps are never recorded.
    assert recorder.made == 2 and recorder.called == 2 * (6 - WARM)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert_same(state, alone)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (refuses, "operation not permitted when stream is capturing"),
        (tells_another_loss, "differed"),
        (leaves("weights"), "differed"),
        (leaves("moments"), "differed"),
        (leaves("statistics"), "differed"),
    ],
)
def test_a_recording_that_fails_or_differs_is_given_up_without_a_trace(record: Record, why: str) -> None:
    wanted, alone = plain("ne-vae-se", "he2019-small")
    replayed, found, state = trajectory(lambda: record, arch="he2019-small")
    assert why in replayed.sentence and "\n" not in replayed.sentence
    assert replayed.recorder is None
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert_same(state, alone)


def test_there_are_no_more_recordings_than_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso.vae.training.cuda_graphs.MAX_RECORDINGS", 1)
    monkeypatch.setattr("lso.vae.training.cuda_graphs.WARM", 1)
    recorder = Recorder()
    trajectory(lambda: recorder)
    assert MAX_RECORDINGS > 1 and recorder.made == 2, "one for each set of optimizers"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["vae", "ne-vae-se", "aggressive", "sa-vae"])
def test_cuda_graphs_follow_the_trajectory_of_steps_taken_alone(name: str) -> None:
    _, plain, _ = trajectory(None, name, "he2019-small", "cuda")
    replayed, found, _ = trajectory(cuda_graphs, name, "he2019-small", "cuda")
    assert replayed.sentence == ""
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_on_a_cpu_steps_are_steps() -> None:
    chosen = example("vae")
    one, other = (fresh_state(small_model(chosen, "mlp"), chosen, PROTOCOL) for _ in range(2))
    x = batch_for("mlp", 16)
    noise = draw_noise(chosen, one.model, tuple(x.shape), binarize=True, seed=0, step=0, device=x.device)
    knobs = StepInputs(torch.tensor(1.0), torch.tensor(1e-3))
    ours, theirs = Replayed(one, None)(x, noise, knobs), step(other, x, noise, knobs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert_same(one, other)
