"""The settings of weighted retraining; flags of `lso optimize` are made from them. Torch-free."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lso.optimizers import merge_options
from lso.tasks.search.options import BlackBoxConfig
from lso.vae.utils.settings import check_fields, documented, same_setting, setting

PUBLISHED_K = 1e-3
RETRAINING = "Black-box search with retraining of the model"  # heading in the help of the command line


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingConfig:
    """Settings of weighted retraining."""

    optimizer: str = same_setting(BlackBoxConfig, "optimizer")
    options: Mapping[str, Any] = setting(dict, "Options of the optimizer.")
    budget: int = same_setting(BlackBoxConfig, "budget", default=500)
    every: int = setting(
        50,
        "Continue the training of the model before the search and after every N new objects, on the training data and "
        "all objects found, the best drawn most often (weighted retraining, Tripp et al. 2020).",
        heading=RETRAINING,
        flag="--retrain-every",
        implied=True,
        least=1,
        remedy="50 is published; the budget or more retrains once.",
    )
    k: float = setting(
        PUBLISHED_K,
        "k of the weights 1 / (k n + rank): the smaller, the more the best weigh; inf: equal weights.",
        heading=RETRAINING,
        flag="--retrain-k",
        metavar="K",
        above=0,
        remedy=f"{PUBLISHED_K:g} is published; inf weighs all data alike.",
    )
    epochs: float = setting(
        1.0,
        "Epochs of each retraining, over all data known by then; may be a fraction.",
        heading=RETRAINING,
        flag="--retrain-epochs",
        metavar="X",
        above=0,
        below=math.inf,
        remedy="1 is published; a part of one will do.",
    )
    first_epochs: float = setting(
        0.0,
        "Epochs of the first retraining, which has the most to learn; 0: as --retrain-epochs.",
        heading=RETRAINING,
        flag="--retrain-first-epochs",
        metavar="X",
        least=0,
        below=math.inf,
        remedy="0 is as many as later.",
    )
    data: int = setting(
        5000,
        "Number of training data to retrain on; 0: all. Each is scored once, outside the budget.",
        heading=RETRAINING,
        flag="--retrain-data",
        least=0,
        remedy="5000 is published; 0 takes all training data.",
    )
    known: int = same_setting(
        BlackBoxConfig, "known", default=100, remedy="0 tells the optimizer what was found alone."
    )
    batch: int = same_setting(BlackBoxConfig, "batch", default=1)
    learning_rate: float = setting(0.0, "Learning rate of retraining; 0 takes that of the first training.")
    max_calls: int | None = same_setting(BlackBoxConfig, "max_calls")
    bounds: float | str = same_setting(BlackBoxConfig, "bounds")
    seed: int = setting(0, "Seed of everything random.")

    def __post_init__(self) -> None:
        name, options = merge_options(self.optimizer, self.options)
        object.__setattr__(self, "optimizer", name)
        object.__setattr__(self, "options", options)
        check_fields(self)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingSession:
    """How weighted retraining calls the score, which may differ when it is resumed."""

    workers: int = same_setting(BlackBoxConfig, "workers")
    timeout: float | None = same_setting(BlackBoxConfig, "timeout")
    chunk: int = same_setting(BlackBoxConfig, "chunk")
    max_failures: int = same_setting(BlackBoxConfig, "max_failures")

    def __post_init__(self) -> None:
        check_fields(self)
