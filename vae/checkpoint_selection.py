"""Which epoch's weights a training keeps, and how that is told. Torch-free."""

from collections.abc import Mapping
from typing import Any

from lso.vae.config.components import FreeBits, ImportanceWeighted
from lso.vae.config.methods import Method
from lso.vae.config.training import TrainConfig
from lso.vae.objectives.kl_schedules import warmup_steps

# What run.json tells of the epoch that was kept, and of the last one.
TOLD = ("epoch", "watched", "eligible", "neg_elbo", "kl", "mi", "mi_mixed", "mi_split", "active_units")


def is_eligible(config: TrainConfig, epoch: int, step: int, steps_per_epoch: int) -> bool:
    """Whether an epoch can be the best, or is the latest of those that cannot.

    Args:
        config: of the training.
        epoch: its number.
        step: outer steps done at its end.
        steps_per_epoch: of the run.
    Returns:
        False before `Protocol.monitor_from`, and where the loss is watched before the end of the KL ramp.
    """
    ramp = warmup_steps(config.method.schedule, steps_per_epoch) if config.protocol.monitor == "loss" else 0
    return config.protocol.monitor == "last" or (epoch >= config.protocol.monitor_from and step >= ramp)


def kept_and_last_epochs(config: TrainConfig, best: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Which epoch was kept, by what, and what the last one had: for run.json."""
    kept, latest = ({key: row[key] for key in TOLD if key in row} for row in (best, last))
    return {"kept": {"by": describe_selection(config, best), **kept}, "last": latest}


def describe_selection(config: TrainConfig, row: Mapping[str, Any]) -> str:
    """Which epoch's weights are kept and by what rule, in words.

    Args:
        config: of the training.
        row: of metrics.jsonl, that of the weights.
    Returns:
        Such as ``kept epoch 17, of the least validation -ELBO (24.31)``, or ``kept the latest epoch`` where none could
        be the best yet.
    """
    method, rule = config.method, config.protocol.monitor
    if rule == "last":
        return f"kept the last epoch, {row['epoch']}, as asked for"
    if not row.get("eligible", True):
        when = "before the KL ramp has ended" if rule == "loss" and row["epoch"] > 0 else "untrained"
        return f"kept the latest epoch, {row['epoch']}, {when}"
    value = row.get("watched")  # rows of older folders do not say, and by their rules it follows from the others
    if value is None:
        value = row["neg_elbo"] if rule == "elbo" else row["reconstruction"] + method.schedule.end * row["kl"]
    what = {"elbo": "-ELBO", "objective": f"reconstruction + {method.schedule.end:g} KL"}
    return f"kept epoch {row['epoch']}, of the least validation {what.get(rule) or _loss(method)} ({value:z.2f})"


def _loss(method: Method) -> str:
    """A method's full loss in words."""
    objective, weight = method.objective, method.schedule.end
    if isinstance(objective, ImportanceWeighted):
        told = f"bound of {objective.samples} importance-weighted samples" + f" at KL weight {weight:g}" * (weight != 1)
    else:
        told = "-ELBO" if weight == 1 else f"reconstruction + {weight:g} KL"
        told += f" with {objective.floor:g} free nats a dimension" if isinstance(objective, FreeBits) else ""
    return told + " + re-encoding penalty" * (method.penalty is not None)
