"""The tables of optimizers, gradient and black-box: torch-free, read by the command line and the docs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lso.vae.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """A row of the table.

    Args:
        summary: one line for lists.
        torch_name: class in `torch.optim`; empty where the optimizer is not torch's.
        learning_rate: default step size; None where there is none to choose.
        options: further defaults for the class.
    """

    summary: str
    torch_name: str = ""
    learning_rate: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


GRADIENT_OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    # 0.05: codes are of order 1, so a coordinate crosses the prior's bulk in some tens of steps. Dead coordinates drift
    # by about as much a step, which is why reports split distances into active and dead dimensions.
    "adam": OptimizerSpec(
        summary="Adam, each element on its own (Kingma & Ba 2015)", torch_name="Adam", learning_rate=0.05
    ),
    # 0.01: stable up to a curvature of 2 (1 + 0.9) / 0.01 = 380 along any direction; a summed squared error over images
    # of 8x8 to 28x28 stays below.
    "sgd": OptimizerSpec(
        summary="gradient descent with momentum 0.9; leaves dead dimensions where they start",
        torch_name="SGD",
        learning_rate=0.01,
        options={"momentum": 0.9},
    ),
    "lbfgs": OptimizerSpec(summary="BoTorch's batched L-BFGS-B, in double precision on the host"),
}

# Optimizers that mix the rows of a batch, or cannot run here: name in lower case -> why.
COUPLING: Mapping[str, str] = {
    "lbfgs": "its curvature and line search are over the whole batch",
    "muon": "it orthogonalizes the whole batch as one matrix",
    "adafactor": "its second moments are factored over rows and its update is clipped by a norm over the batch",
    "shampoo": "its preconditioner mixes rows",
    "soap": "its preconditioner mixes rows",
    "kfac": "its preconditioner mixes rows",
    "lamb": "its trust ratio is a norm over the batch",
    "lars": "its trust ratio is a norm over the batch",
    "novograd": "its second moment is a norm over the batch",
    "adam_mini": "its second moment is a mean over a block of rows",
    "prodigy": "its step size is estimated from the whole batch",
    "sparseadam": "it takes sparse gradients only",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBoxSpec:
    """A row of the table of black-box optimizers.

    Args:
        summary: one line for lists.
        build: ``"module:function"``, ``(space, **options) -> Proposal`` (see `lso.black_box.ask_tell`).
        source: paper.
        extra: extra of the installation that it needs; empty for none.
    """

    summary: str
    build: str
    source: str = ""
    extra: str = ""


BLACK_BOX_OPTIMIZERS: Mapping[str, BlackBoxSpec] = {
    "random": BlackBoxSpec(
        summary="draws from the prior, the control", build="lso.black_box.algorithms.random:build_random"
    ),
    "cmaes": BlackBoxSpec(
        summary="CMA-ES: a Gaussian that adapts its mean, shape and size to ranks",
        build="lso.black_box.algorithms.cmaes:build_cmaes",
        source="Hansen 2016, arXiv:1604.00772",
        extra="cma",
    ),
    "gp": BlackBoxSpec(
        summary="Gaussian process with the dimension-scaled prior, qLogNEI",
        build="lso.black_box.algorithms.gp:build_gp",
        source="Hvarfner, Hellsten, Nardi (2024), arXiv:2402.02229; Ament et al. (2023), arXiv:2310.20708",
    ),
    "turbo": BlackBoxSpec(
        summary="a Gaussian process inside one trust region around the best typical point, with restarts",
        build="lso.black_box.algorithms.turbo:build_turbo",
        source="Eriksson, Pearce, Gardner, Turner, Poloczek (2019), arXiv:1910.01739",
    ),
    "saas": BlackBoxSpec(
        summary="as gp, with an ensemble that looks for few relevant dimensions",
        build="lso.black_box.algorithms.gp:build_saas",
        source="Eriksson, Jankowiak (2021), arXiv:2103.00349",
    ),
    "thompson": BlackBoxSpec(
        summary="Thompson sampling over a pool, for large batches",
        build="lso.black_box.algorithms.thompson:build_thompson",
        source="Thompson (1933), Biometrika 25; Kandasamy et al. (2018), AISTATS",
    ),
}


def parse_optimizer(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name:key=value,key=value``.

    Args:
        text: e.g. ``"gp:guard=ball,initial=20"``.
    Returns:
        The name and its options: numbers, true, false, none or text.
    Raises:
        UsageError: if it cannot be read.
    """
    name, _, rest = text.strip().partition(":")
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"cannot read {item!r} in optimizer {text!r}", "Write name:key=value,key=value.")
        options[key.strip()] = _plain(value.strip())
    return name, options


def with_options(text: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """An optimizer's name and all its options: those in its name, as `parse_optimizer` reads them, and others."""
    name, found = parse_optimizer(text)
    if twice := sorted(found.keys() & options.keys()):
        raise UsageError(f"{', '.join(twice)} is given twice, in {text!r} and beside it", "Give it once.")
    return name, {**found, **options}


def _plain(text: str) -> Any:
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
