"""Which trainings may run in lockstep, as one batched model, and where that is faster. Torch-free."""

from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any

from lso.vae.config.architectures import ARCHITECTURES
from lso.vae.config.methods import Method
from lso.vae.config.training import Protocol, TrainConfig

MOST = 16  # trainings in lockstep: more were not faster, and each holds its own data and best weights
# What each member of a lockstep has for itself. All else is taken from the first one, so that every other field, one
# that is added later too, has to be equal. A method's name and parameters say nothing that its axes do not.
OWN: Mapping[type, frozenset[str]] = {
    TrainConfig: frozenset({"seed"}),
    Method: frozenset({"schedule", "name", "params"}),
    Protocol: frozenset({"learning_rate", "encoder_learning_rate"}),
}


def batch_key(config: TrainConfig) -> Hashable | None:
    """What trainings in lockstep have in common: all but the seed, the learning rates and the KL schedule.

    Args:
        config: a training.
    Returns:
        Equal values for trainings that may go together; None for one that goes alone, see `reason_not_batchable`.
    """
    return None if reason_not_batchable(config) else _common(config)


def _common(part: Any) -> Hashable:
    """A part of a configuration as nested values, without what is a member's own."""
    own = next((OWN[base] for base in type(part).__mro__ if base in OWN), None)
    if own is None:
        return part  # type: ignore[no-any-return]
    return tuple((field.name, _common(getattr(part, field.name))) for field in fields(part) if field.name not in own)


def reason_not_batchable(config: TrainConfig) -> str:
    """Why a training cannot go in lockstep with any other."""
    if config.kind == "sequence":
        return "the batches of two seeds differ in length"
    if config.protocol.compiled:
        return "compiled steps are of one model"
    return config.method.alone


def max_batched_runs(config: TrainConfig, count: int) -> int:
    """Up to which size of data so many trainings are faster in lockstep than one after another, on a CPU.

    Args:
        config: one of them.
        count: how many.
    Returns:
        Numbers of a datum, by measurement at the usual widths; 0 where they are slower at any size.
    """
    spec = ARCHITECTURES[config.architecture.name]
    pays = 0 < spec.batched_from <= count and config.architecture.width <= spec.width
    return spec.batched_size if pays else 0
