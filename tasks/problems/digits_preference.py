"""The task `digits-preference`: find images that a classifier, trained here on the digits, takes for a chosen digit.

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
from lso.tasks.datasets.image_dataset import split_images
from lso.tasks.goals import Goal
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import Split
from lso.vae.runs import Run
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require

DEFAULT_DIGIT = 3
HIDDEN_WIDTH, TRAINING_STEPS, LEARNING_RATE, WEIGHT_DECAY = 64, 200, 1e-2, 1e-3


@dataclass(frozen=True, slots=True)
class Preference:
    """The probability that an image is a chosen digit, to be maximized.

    Args:
        digit: 0 to 9.
    Raises:
        UsageError: for another number.
    """

    digit: int = DEFAULT_DIGIT

    def __post_init__(self) -> None:
        require(0 <= self.digit <= 9, "a digit of 0 to 9", self.digit, "3 is the default.")

    def __call__(self, images: Float[Tensor, "batch 1 8 8"]) -> Float[Tensor, " batch"]:
        """Probabilities of the digit, differentiable, for images of grey values in [0, 1]."""
        network = train_classifier().to(images.device)
        logits: Tensor = network(images.float())
        return logits.softmax(1)[:, self.digit].to(images.dtype)


@cache
def train_classifier() -> nn.Module:
    """Train a network of one hidden layer on the training digits: always the same one, once for each process."""
    x, labels = _digits("train")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN_WIDTH), nn.ReLU(), nn.Linear(HIDDEN_WIDTH, 10))
    stream = generator(0, "digits-preference")
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -1 / 8, 1 / 8, generator=stream)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    with torch.enable_grad():
        for _ in range(TRAINING_STEPS):  # each on all data
            optimizer.zero_grad()
            loss: Tensor = cross_entropy(network(x), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval().requires_grad_(False)


def accuracy(split: Split) -> float:
    """The classifier's accuracy on a split."""
    x, labels = _digits(split)
    return float((train_classifier()(x).argmax(1) == labels).double().mean())


def _digits(split: Split) -> tuple[Tensor, Tensor]:
    """Grey images and labels, split as the task ``digits`` is."""
    raw = split_images(load(DataConfig()))
    return raw.splits[split], raw.labels[split]


def goal(run: Run, digit: int = DEFAULT_DIGIT) -> Goal:
    """The goal of decoding to a digit. It has no initial data, as a training image would already be the answer."""
    return Goal(
        name=f"digits-preference:{digit}",
        score=Preference(digit),
        maximize=True,
        on="tensors",
        best=1.0,
        summary=f"probability of a {digit}; the classifier is right on {accuracy('test'):z.1%} of the test digits",
    )


GOALS = {str(digit): partial(goal, digit=digit) for digit in range(10)}
