"""Which trainings can run in lockstep as one batched model, and when that is faster. Does not import torch."""

from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any

from lso.vae.config.methods import Method
from lso.vae.config.protocol import Protocol
from lso.vae.config.training import TrainConfig
from lso.vae.utils.user_module import is_user_module

MOST = 16  # trainings in one lockstep: more were not faster, and each keeps its own data and best weights in memory
# The fields in which trainings in lockstep may differ. All others are read from the first training only, so they have
# to be equal, including fields added later. A method's name and parameters are implied by its other fields.
MEMBER_FIELDS: Mapping[type, frozenset[str]] = {
    TrainConfig: frozenset({"seed"}),
    Method: frozenset({"schedule", "name", "params"}),
    Protocol: frozenset({"learning_rate", "encoder_learning_rate"}),
}


def batch_key(config: TrainConfig) -> Hashable | None:
    """Return a key that is equal for trainings that can run in lockstep, or None for one that must run alone.

    The key holds everything but the seed, the learning rates and the KL schedule; `reason_not_batchable` explains None.
    """
    return None if reason_not_batchable(config) else _common(config)


def _common(part: Any) -> Hashable:
    """Return a part of a configuration as nested tuples, without the fields in which members may differ."""
    own = next((MEMBER_FIELDS[base] for base in type(part).__mro__ if base in MEMBER_FIELDS), None)
    if own is None:
        return part  # type: ignore[no-any-return]
    return tuple((field.name, _common(getattr(part, field.name))) for field in fields(part) if field.name not in own)


def reason_not_batchable(config: TrainConfig) -> str:
    """Say why a training cannot run in lockstep with any other; empty if it can."""
    if is_user_module(config.architecture.name):
        return "a module of one's own is trained alone"
    if config.kind == "sequence":
        return "batches of sequences differ in length between seeds"
    if config.protocol.compiled:
        return "a compiled step trains a single model"
    return config.method.reason_not_batchable


def max_batched_runs(config: TrainConfig, count: int) -> int:
    """Return the largest datum, in numbers, at which ``count`` trainings are faster in lockstep than in turn on a CPU.

    Measured for each architecture at its usual width; 0 where lockstep is slower at any size.
    """
    spec = config.architecture.spec
    pays = 0 < spec.batched_from <= count and config.architecture.width <= spec.width
    return spec.batched_size if pays else 0
