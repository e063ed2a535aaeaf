"""The settings of searches; the flags of `lso optimize` are made from them. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lso.objectives.failures import MAX_FAILURES
from lso.optimizers import GRADIENT_OPTIMIZERS, merge_options
from lso.vae.errors import unknown_name
from lso.vae.utils.settings import check_fields, documented, same_setting, setting
from lso.vae.utils.validation import require

DEFAULT_START = ("mean", "prior")
SURROGATES = ("latent", "decoded")
# Headings in the help of the command line.
GOAL, GRADIENT, BLACK_BOX, LIMITS = "Model and goal", "Gradient search", "Black-box search", "Limits and resuming"


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Settings of a search by gradient."""

    optimizer: str = setting(
        "adam", "Row of `lso.optimizers.GRADIENT_OPTIMIZERS`, or the name of an elementwise torch optimizer."
    )
    starts: int = setting(
        8,
        "Number of starts for each target.",
        heading=GRADIENT,
        least=1,
        remedy="4 to 16 show whether the start matters.",
    )
    start: Sequence[str] = setting(
        DEFAULT_START,
        "Kinds of start in turn, the last for all others: mean or sample (of the target's posterior), prior, codes "
        "(of training data) or zero (the origin).",
        heading=GRADIENT,
        metavar="A,B",
    )
    loss: str = setting(
        "nll",
        "Loss between a target and its reconstruction: nll (the model's likelihood, nats; the only one for text), sse "
        "(squared error) or bce (nats).",
        heading=GRADIENT,
        metavar="NAME",
    )
    prior_weight: float = setting(
        1.0,
        "Weight of the prior term |z|^2/2 in the value. 1 with nll: the most probable code. 0: reconstruction alone; "
        "codes may leave the region of the prior. Default: 1 for gradient searches for targets, else 0.",
        heading=GOAL,
        metavar="W",
        implied=True,
    )
    lr: float | None = setting(
        None, "Learning rate. Default: that of the optimizer.", heading=GRADIENT, metavar="X", implied=True
    )
    tol: float = setting(
        1e-3,
        "Stop a search once its loss changes by X or less a step, averaged over 20 steps.",
        heading=LIMITS,
        metavar="X",
        least=0,
        remedy="0 stops where the loss is exactly unchanged.",
    )
    max_steps: int = setting(1000, "Number of gradient steps at most.", heading=LIMITS, least=1)
    context: str = setting(
        "target",
        "What an autoregressive decoder is conditioned on: target (as in training), own (its own draw, for images) or "
        "blank.",
        heading=GRADIENT,
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        from lso.gradient.initial_points import STARTS  # these import torch
        from lso.objectives.losses import LOSSES
        from lso.objectives.targets import CONTEXTS

        check_fields(self)
        fits = len(self.start) <= self.starts or tuple(self.start) == DEFAULT_START
        require(len(self.start) > 0 and fits, "at most as many kinds as starts", self.start, "Raise --starts.")
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)
        if self.context not in CONTEXTS:
            raise unknown_name("context", self.context, CONTEXTS)
        for kind in self.start:
            if kind not in STARTS:
                raise unknown_name("start", kind, STARTS)

    def kinds(self) -> list[str]:
        """The kind of each start.

        Returns:
            ``starts`` rows of the table of starts, the last kind repeated.
        """
        return [*self.start, *[self.start[-1]] * (self.starts - len(self.start))][: self.starts]


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSession:
    """What a search by gradient takes beside its settings."""

    control: str = setting(
        "lbfgs",
        f"Second optimizer, run from the same starts for comparison: {', '.join(GRADIENT_OPTIMIZERS)} or none.",
        heading=GRADIENT,
        metavar="NAME",
    )
    limit: int | None = setting(
        None,
        "Search for the first N targets only.",
        heading=LIMITS,
        least=1,
        remedy="Leave it out to search for all targets.",
    )

    def __post_init__(self) -> None:
        check_fields(self)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBoxConfig:
    """Settings of a black-box search."""

    optimizer: str = setting(
        "turbo", "Row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`; options in its name become `options`."
    )
    options: Mapping[str, Any] = setting(dict, "Options of the optimizer.")
    budget: int = setting(
        100,
        "Number of different valid objects to score. Default: 100 (lso.weighted_retraining in Python: 500, as "
        "published).",
        heading=BLACK_BOX,
        implied=True,
        changeable=True,
        least=1,
        remedy="It counts unique valid decoded objects.",
    )
    batch: int = setting(
        4,
        "Number of codes proposed at a time (lso.optimize and lso.weighted_retraining in Python: 1).",
        heading=BLACK_BOX,
        least=1,
    )
    workers: int = setting(
        0,
        "Number of processes that compute the score; 0: it is computed in this one.",
        heading=BLACK_BOX,
        changeable=True,
        least=0,
        remedy="0 scores in this process.",
    )
    timeout: float | None = setting(
        None,
        "Time for the score of one object, e.g. 30s, after which it is killed.",
        unit="seconds",
        heading=BLACK_BOX,
        metavar="TIME",
        changeable=True,
    )
    chunk: int = setting(
        1,
        "Objects that a --workers process scores in one call; the timeout of a call is N times --timeout.",
        heading=BLACK_BOX,
        changeable=True,
        least=1,
    )
    max_calls: int | None = setting(
        None,
        "Number of calls at most, duplicates and invalid objects included; with --retrain-every, in each round. "
        "Default: ten times the budget.",
        heading=BLACK_BOX,
        implied=True,
        changeable=True,
    )
    max_failures: int = setting(
        MAX_FAILURES,
        "Stop if the score has given no value yet and fails in the same way on N objects in a row: it is taken to be "
        "broken. Objects that it calls invalid (None) do not count as failures.",
        heading=BLACK_BOX,
        changeable=True,
        least=1,
    )
    known: int = setting(
        0,
        "Number of data with known values that the optimizer starts with, if the task has such. Default: 0; with "
        "--retrain-every 100.",
        heading=BLACK_BOX,
        implied=True,
        least=0,
        remedy="0 tells the optimizer nothing beforehand.",
    )
    surrogate: str = setting(
        "latent",
        "What the surrogate model predicts from: latent (codes) or decoded (features of the decoded objects).",
        heading=BLACK_BOX,
        metavar="NAME",
    )
    chart: str = setting(
        "box",
        "Coordinates of the search: box (codes), cdf (quantiles of the prior) or active (active dimensions only).",
        heading=BLACK_BOX,
        metavar="NAME",
    )
    asynchronous: bool = setting(
        False, "Propose a new code as soon as a call is done, not when the whole batch is.", heading=BLACK_BOX
    )
    bounds: float | str = setting(3.0, "Half-width of the box to search, or ``codes``, see `LatentSpace`.")
    prior_weight: float = same_setting(SearchConfig, "prior_weight", default=0.0)
    loss: str = same_setting(SearchConfig, "loss", default="sse")

    def __post_init__(self) -> None:
        name, options = merge_options(self.optimizer, self.options)
        object.__setattr__(self, "optimizer", name)
        object.__setattr__(self, "options", options)
        check_fields(self)
        require(
            self.surrogate in SURROGATES,
            f"a surrogate of {', '.join(SURROGATES)}",
            self.surrogate,
            "latent: a model of codes; decoded: of features of what they decode to.",
        )


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBoxSession:
    """What a black-box search takes beside its settings."""

    seeds: int = setting(
        1,
        "Number of searches with different initial designs, which the report compares.",
        heading=BLACK_BOX,
        least=1,
        remedy="3 to 10 show whether the initial design matters.",
    )
    limit: int | None = same_setting(GradientSession, "limit")

    def __post_init__(self) -> None:
        check_fields(self)
