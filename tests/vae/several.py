"""What one process and several do alike: steps in double, and trainings. ``python -m tests.vae.several OUT`` is one of
several, started with the environment that torchrun sets."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lso.vae import distributed
from lso.vae.config.protocol import Protocol
from lso.vae.config.training import TrainConfig
from lso.vae.errors import LsoError
from lso.vae.launch import process_info
from lso.vae.runs import Run
from lso.vae.training.loop import Limits, resume_training, train_model
from lso.vae.training.step import BOTH, Group, StepInputs, draw_noise, fresh_state, step
from tests.vae.small import Stop, batch_for, config, data_for, digits, example, kind_of, small_model

SIZES = (13, 2, 1)  # of the batches: uneven shares, one datum each, fewer data than processes


class Case(NamedTuple):
    """Some steps of a method and architecture.

    Args:
        name: of the method.
        arch: of the networks.
        groups: that step, one after the other.
        scope: of the clip.
    """

    name: str
    arch: str
    groups: tuple[tuple[Group, ...], ...] = (BOTH,)
    scope: Any = "joint"


IN_TURN: tuple[tuple[Group, ...], ...] = (("encoder",), ("decoder",))
CASES = [
    Case("ne-vae-se", "mlp"),
    Case("ne-vae-lp:c=0,reconstruction=hard", "mlp"),
    Case("iwae", "mlp"),
    Case("free-bits:floor=0.3,over=batch", "mlp"),
    Case("vae", "mlp", IN_TURN),
    Case("vae", "mlp", IN_TURN, "stepped"),
    Case("sa-vae:steps=3,clip=0.1,clip_over=batch,products=differences", "mlp"),
    Case("svi:steps=3", "mlp"),
    Case("ne-vae-se", "conv"),
    Case("ne-vae-se", "lstm"),
    Case("iwae:samples=2", "kim2018-text"),  # with dropout
    Case("vae", "transformer"),
    Case("ne-vae-se", "kim2018"),
    Case("skip-vae", "he2019-small"),
    Case("iwae:samples=2", "he2019-small", IN_TURN),
    Case("sa-vae:steps=1", "he2019-small"),
    Case("sa-vae:steps=1,products=differences", "he2019-small"),
]


def stepped(case: Case) -> dict[str, Tensor]:
    """Weights and running statistics after three steps in double, and what the steps told."""
    method, image = example(case.name), kind_of(case.arch) == "image"
    state = fresh_state(small_model(method, case.arch).double(), method, Protocol(clip=0.5, clip_scope=case.scope))
    told, cpu = [], torch.device("cpu")
    for at, size in enumerate(SIZES):
        x = batch_for(case.arch, 13)[:size]
        noise = draw_noise(method, state.model, tuple(x.shape), binarize=image, seed=0, step=at, device=cpu)
        knobs = StepInputs(torch.tensor(0.5), torch.tensor(0.01))
        info = step(
            state,
            x.double() if image else x,
            tree_map_only(Tensor, Tensor.double, noise),
            knobs,
            case.groups[at % len(case.groups)],
        )
        told.append(torch.stack(info))
    return {**state.model.state_dict(), "told": torch.stack(told)}


def trainings() -> dict[str, TrainConfig]:
    """Their last batch is smaller than two processes; by gradient descent, as Adam divides rounding by rounding."""
    plain: dict[str, Any] = {"batch_size": 33, "optimizer": "sgd", "learning_rate": 0.1}
    return {
        "vae": config("vae", epochs=4, patience=1, **plain),
        "aggressive": config("aggressive:window=2,cap=7", **plain),
        "lstm": config("ne-vae-se", arch="lstm", lengths="near", **plain),
        "kim2018": config("vae", arch="kim2018", epochs=1, **plain),
    }


class Told(Stop):
    """Does something once a number of steps is done, in one process."""

    def __init__(self, rank: int, after: int, what: Callable[[], str]) -> None:
        super().__init__(after)
        self.active, self.what = process_info().rank == rank, what

    def stop(self) -> str | None:
        return self.what() if self.active and self.done >= self.after else None


def fails() -> str:
    """What a process may do to the others."""
    raise MemoryError


def main(out: Path) -> None:
    """Everything, in one of several processes; each writes what it found as ``RANK.pt``."""
    torch.set_num_threads(1)
    plain = trainings()["vae"]
    with distributed.process_group("cpu"):
        found: dict[str, Any] = {"steps": [stepped(case) for case in CASES]}
        for name, chosen in trainings().items():
            train_model(chosen, data_for(chosen), out / name)
        train_model(plain, digits(), out / "begun", callback=Told(1, 6, lambda: "interrupted"))
        resume_training(Run(out / "cut"), digits())
        found["held"] = refused(lambda: resume_training(Run(out / "held"), digits()))
        own = replace(plain, seed=process_info().rank)
        wild = replace(plain, protocol=replace(plain.protocol, learning_rate=1e30, clip=0.0))
        found["diverged"] = refused(lambda: train_model(wild, digits(), out / "diverged"))
        found["different"] = refused(lambda: train_model(own, digits(), out / "different"))
    train_model(plain, digits(), out / "again", limits=Limits(steps=1))
    found["lost"] = refused(lambda: train_model(plain, digits(), out / "lost", callback=Told(1, 6, fails)))
    found["parted"] = refused(lambda: train_model(plain, digits(), out / "parted"))
    torch.save(found, out / f"{process_info().rank}.pt")


def refused(call: Callable[[], Any]) -> str:
    """The error that came."""
    try:
        call()
    except (LsoError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
