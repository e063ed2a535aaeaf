"""Which trainings may run in lockstep, as one batched model, and where that is faster. Torch-free."""

from collections.abc import Hashable
from dataclasses import replace

from lso.vae.architectures import ARCHITECTURES
from lso.vae.axes import Amortized, Joint
from lso.vae.config import TrainConfig

MOST = 16  # trainings in lockstep: more were not faster, and each holds its own data and best weights
# From how many models on, and up to how many pixels, it is faster on a CPU, by `benchmarks/sweep_together.py`: where
# networks are small. The grouped convolutions of a PixelCNN take 1.6 times as long as one model after another.
PAYS = {"mlp": (8, 8 * 8), "conv": (4, 16 * 16)}


def kind(config: TrainConfig) -> Hashable | None:
    """What trainings in lockstep have in common: all but the seed, the learning rates and the KL schedule.

    Args:
        config: a training.
    Returns:
        Equal values for trainings that may go together; None for one that goes alone, see `why_alone`.
    """
    if why_alone(config):
        return None
    method = config.method
    protocol = replace(config.protocol, learning_rate=1.0, encoder_learning_rate=0.0)
    axes = (method.objective, method.penalty, method.skip, method.latents)
    return (axes, config.architecture, protocol, config.data)


def why_alone(config: TrainConfig) -> str:
    """Why a training cannot go in lockstep with any other.

    Args:
        config: the training.
    Returns:
        Half a sentence; empty where it can.
    """
    if config.kind == "sequence":
        return "the batches of two seeds differ in length"
    if config.protocol.compiled:
        return "compiled steps are of one model"
    if config.method.inference != Amortized():
        return "inference takes gradient steps"
    if config.method.updates != Joint():
        return "each model decides on its own inner steps"
    return ""


def pays_up_to(config: TrainConfig, count: int) -> int:
    """Up to which size of data so many trainings are faster in lockstep than one after another, on a CPU.

    Args:
        config: one of them.
        count: how many.
    Returns:
        Numbers of a datum, by measurement at the usual widths; 0 where they are slower at any size.
    """
    least, pixels = PAYS.get(config.architecture.name, (MOST + 1, 0))
    usual = ARCHITECTURES[config.architecture.name].width
    return pixels if count >= least and config.architecture.width <= usual else 0
