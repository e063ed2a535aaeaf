"""The tables of gradient and black-box optimizers; torch-free, since the command line and the docs read them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lso.vae.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """A row of the table of gradient optimizers."""

    summary: str  # one line for lists
    torch_name: str = ""  # class in `torch.optim`; empty where the optimizer is not torch's
    learning_rate: float | None = None  # default; None where the optimizer has none
    options: Mapping[str, Any] = field(default_factory=dict)  # further defaults for the class
    descend: str = ""  # "module:function" of an optimizer that is not torch's, see `lso.gradient.lbfgs.descend`
    option_names: tuple[str, ...] = ()  # options of such a function


GRADIENT_OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    # 0.05: codes are of order 1, so that a coordinate crosses the bulk of the prior in some tens of steps. Dead
    # coordinates drift by about as much in each step, which is why reports separate distances by active and dead ones.
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
    "lbfgs": OptimizerSpec(
        summary="BoTorch's batched L-BFGS-B, in double precision on the host",
        descend="lso.gradient.lbfgs:descend",
        option_names=("maxcor", "maxls"),
    ),
}

# Optimizers of torch and other packages that couple the rows of a batch, or cannot run here: name in lower case -> why.
COUPLING_OPTIMIZERS: Mapping[str, str] = {
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


# What may be wrong with a search, where another optimizer may do better.
Symptom = Literal["flat surrogate", "overconfident surrogate", "stands still"]
DEFAULT_DESIGN_SIZE = 10  # points of the initial design, before a surrogate is fitted


def fixed_design_size(dim: int) -> int:
    """The size of an initial design that does not depend on the dimension."""
    return DEFAULT_DESIGN_SIZE


def trust_region_design_size(dim: int) -> int:
    """The size of a trust region's initial design: 2 points a dimension as in Eriksson et al. (2019), at most 64."""
    return min(2 * dim, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBoxSpec:
    """A row of the table of black-box optimizers."""

    summary: str  # one line for lists
    build: str  # "module:function", (space, **options) -> Proposal, see `lso.black_box.ask_tell`
    source: str = ""  # paper
    extra: str = ""  # extra of the installation that it needs, as in lso[cma]
    label: str  # name in sentences
    control: bool = False  # whether it does not learn from values, so that others are compared with it
    surrogate_free: bool = False  # whether it fits no model of the values
    # Dimensions of the chart -> distinct valid objects of the initial design, where a search has no option for it. The
    # first proposals of an optimizer without a design are judged as if they were one.
    design_size: Callable[[int], int] = fixed_design_size
    recommended_for: tuple[Symptom, ...] = ()  # symptoms of other searches for which reports recommend it


BLACK_BOX_OPTIMIZERS: Mapping[str, BlackBoxSpec] = {
    "random": BlackBoxSpec(
        summary="draws from the prior, the control",
        build="lso.black_box.algorithms.random:build_random",
        label="random search",
        control=True,
        surrogate_free=True,
    ),
    "cmaes": BlackBoxSpec(
        summary="CMA-ES: a Gaussian that adapts its mean, shape and size to ranks",
        build="lso.black_box.algorithms.cmaes:build_cmaes",
        source="Hansen 2016, arXiv:1604.00772",
        extra="cma",
        label="CMA-ES",
        surrogate_free=True,
        recommended_for=("flat surrogate",),
    ),
    "gp": BlackBoxSpec(
        summary="Gaussian process with the dimension-scaled prior, qLogNEI",
        build="lso.black_box.algorithms.gp:build_gp",
        source="Hvarfner, Hellsten, Nardi (2024), arXiv:2402.02229; Ament et al. (2023), arXiv:2310.20708",
        label="the Gaussian process",
    ),
    "turbo": BlackBoxSpec(
        summary="a Gaussian process inside one trust region around the best typical point, with restarts",
        build="lso.black_box.algorithms.turbo:build_turbo",
        source="Eriksson, Pearce, Gardner, Turner, Poloczek (2019), arXiv:1910.01739",
        label="TuRBO",
        design_size=trust_region_design_size,
        recommended_for=("overconfident surrogate", "stands still"),
    ),
    "saas": BlackBoxSpec(
        summary="as gp, with an ensemble that looks for few relevant dimensions",
        build="lso.black_box.algorithms.gp:build_saas",
        source="Eriksson, Jankowiak (2021), arXiv:2103.00349",
        label="SAASBO",
        recommended_for=("overconfident surrogate",),
    ),
    "thompson": BlackBoxSpec(
        summary="Thompson sampling over a pool, for large batches",
        build="lso.black_box.algorithms.thompson:build_thompson",
        source="Thompson (1933), Biometrika 25; Kandasamy et al. (2018), AISTATS",
        label="Thompson sampling",
    ),
}


def black_box_spec(name: str) -> BlackBoxSpec:
    """The row of an optimizer; for a user's own optimizer a default row: it learns by a model of the values."""
    return BLACK_BOX_OPTIMIZERS.get(name) or BlackBoxSpec(summary="", build="", label=name)


def recommended_optimizers(symptom: Symptom) -> str:
    """The names of the optimizers recommended for a symptom, as in "saas or turbo"."""
    return " or ".join(sorted(name for name, row in BLACK_BOX_OPTIMIZERS.items() if symptom in row.recommended_for))


def control_labels() -> str:
    """The labels of the control optimizers, for sentences."""
    return " and ".join(row.label for row in BLACK_BOX_OPTIMIZERS.values() if row.control)


def parse_optimizer(text: str) -> tuple[str, dict[str, Any]]:
    """Parse ``name:key=value,key=value``, such as ``gp:guard=ball,initial=20``, to the name and its options.

    Values are numbers, true, false, none or text.
    """
    name, _, rest = text.strip().partition(":")
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"cannot read {item!r} in optimizer {text!r}", "Write name:key=value,key=value.")
        options[key.strip()] = _parse_value(value.strip())
    return name, options


def merge_options(text: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """An optimizer's name and all its options: those written after its name (`parse_optimizer`), and others."""
    name, written = parse_optimizer(text)
    if twice := sorted(written.keys() & options.keys()):
        raise UsageError(
            f"{', '.join(twice)} is given twice, in {text!r} and as an option of its own", "Give each option once."
        )
    return name, {**written, **options}


def _parse_value(text: str) -> Any:
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
