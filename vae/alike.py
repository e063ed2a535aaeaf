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
        Equal values for trainings that may go together; None for one that goes alone: sequences, as the batches of two
        seeds differ in length; aggressive updates, as each model decides on its own inner steps; inference by gradient
        steps; and compiled steps.
    """
    method = config.method
    if (
        config.kind == "sequence"
        or config.protocol.compiled
        or method.inference != Amortized()
        or method.updates != Joint()
    ):
        return None
    protocol = replace(config.protocol, learning_rate=1.0, encoder_learning_rate=0.0)
    axes = (method.objective, method.penalty, method.skip, method.latents)
    return (axes, config.architecture, protocol, config.data)


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
