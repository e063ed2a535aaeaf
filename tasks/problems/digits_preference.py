"""Digit preference: decode to what a classifier, trained here on the embedded digits, takes for a chosen digit.

After BoTorch's tutorial on a VAE of MNIST. It is too easy to rank optimizers by, and differentiable, so that gradient
and black-box search can be compared.
"""

from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lso.tasks.datasets.digits import load
from lso.tasks.datasets.image_dataset import divide
from lso.tasks.goals import Goal
from lso.vae.config.training import DataConfig
from lso.vae.data.dataset import Split
from lso.vae.runs import Run
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require

CHOSEN = 3
WIDTH, STEPS, RATE, DECAY = 64, 200, 1e-2, 1e-3


@dataclass(frozen=True, slots=True)
class Preference:
    """The probability that an image is a chosen digit, to be maximized.

    Args:
        digit: 0 to 9.
    Raises:
        UsageError: for another number.
    """

    digit: int = CHOSEN

    def __post_init__(self) -> None:
        require(0 <= self.digit <= 9, "a digit of 0 to 9", self.digit, "3 is the default.")

    def __call__(self, images: Float[Tensor, "batch 1 8 8"]) -> Float[Tensor, " batch"]:
        """Its value, through which gradients flow.

        Args:
            images: ``(n, 1, 8, 8)`` grey values in [0, 1].
        Returns:
            ``(n,)`` in [0, 1], in the dtype and on the device of the images.
        """
        network = classifier().to(images.device)
        logits: Tensor = network(images.float())
        return logits.softmax(1)[:, self.digit].to(images.dtype)


@cache
def classifier() -> nn.Module:
    """A network of one hidden layer, trained on the training digits; always the same, and kept for the process."""
    x, labels = _digits("train")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    stream = generator(0, "digits-preference")
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -1 / 8, 1 / 8, generator=stream)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)
    with torch.enable_grad():
        for _ in range(STEPS):  # of all data at once
            optimizer.zero_grad()
            loss: Tensor = cross_entropy(network(x), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval().requires_grad_(False)


def accuracy(split: Split) -> float:
    """The classifier's share of right answers."""
    x, labels = _digits(split)
    return float((classifier()(x).argmax(1) == labels).double().mean())


def _digits(split: Split) -> tuple[Tensor, Tensor]:
    """Grey images and labels, split as the task ``digits`` is."""
    raw = divide(load(DataConfig()))
    return raw.splits[split], raw.labels[split]


def goal(run: Run, digit: int = CHOSEN) -> Goal:
    """What digits are searched for. Nothing is known beforehand: a training image would be the answer."""
    return Goal(
        name=f"digits-preference:{digit}",
        score=Preference(digit),
        maximize=True,
        on="tensors",
        best=1.0,
        summary=f"probability of a {digit}; the classifier is right on {accuracy('test'):z.1%} of the test digits",
    )


GOALS = {str(digit): partial(goal, digit=digit) for digit in range(10)}
