"""Which epoch's weights a training keeps, and the words that say so. Torch-free."""

from collections.abc import Mapping
from typing import Any

from lso.vae.config.components import FreeBits, ImportanceWeighted
from lso.vae.config.methods import Method
from lso.vae.config.training import TrainConfig
from lso.vae.objectives.kl_schedules import warmup_steps

# Keys of metrics.jsonl that run.json repeats for the epoch that was kept and for the last one.
EPOCH_KEYS = ("epoch", "watched", "eligible", "neg_elbo", "kl", "mi", "mi_mixed", "mi_split", "active_units")


def is_eligible(config: TrainConfig, epoch: int, step: int, steps_per_epoch: int) -> bool:
    """Whether an epoch can be the best: not before `Protocol.monitor_from`, nor, where the loss is monitored, in the KL
    ramp. ``step`` is the number of outer steps at its end.
    """
    ramp = warmup_steps(config.method.schedule, steps_per_epoch) if config.protocol.monitor == "loss" else 0
    return config.protocol.monitor == "last" or (epoch >= config.protocol.monitor_from and step >= ramp)


def summarize_epochs(config: TrainConfig, best: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of run.json on the epoch that was kept, by which rule, and on the last one."""
    kept, latest = ({key: row[key] for key in EPOCH_KEYS if key in row} for row in (best, last))
    return {"kept": {"by": describe_selection(config, best), **kept}, "last": latest}


def describe_selection(config: TrainConfig, row: Mapping[str, Any]) -> str:
    """Which epoch's weights are kept and by what rule, from their row of metrics.jsonl: for example ``kept epoch 17, of
    the least validation -ELBO (24.31)``, or ``kept the latest epoch, 3, ...`` where none could be the best yet.
    """
    method, rule = config.method, config.protocol.monitor
    if rule == "last":
        return f"kept the last epoch, {row['epoch']}, as asked for"
    if not row.get("eligible", True):
        when = "before the KL ramp has ended" if rule == "loss" and row["epoch"] > 0 else "untrained"
        return f"kept the latest epoch, {row['epoch']}, {when}"
    value = row.get("watched")  # rows of older folders lack it; by the rules of then it follows from other keys
    if value is None:
        value = row["neg_elbo"] if rule == "elbo" else row["reconstruction"] + method.schedule.end * row["kl"]
    quantity = {"elbo": "-ELBO", "objective": f"reconstruction + {method.schedule.end:g} KL"}
    name = quantity.get(rule) or _describe_loss(method)
    return f"kept epoch {row['epoch']}, of the least validation {name} ({value:z.2f})"


def _describe_loss(method: Method) -> str:
    """The loss that a method minimizes, in words."""
    objective, weight = method.objective, method.schedule.end
    if isinstance(objective, ImportanceWeighted):
        text = f"bound of {objective.samples} importance-weighted samples" + f" at KL weight {weight:g}" * (weight != 1)
    else:
        text = "-ELBO" if weight == 1 else f"reconstruction + {weight:g} KL"
        text += f" with {objective.floor:g} free nats a dimension" if isinstance(objective, FreeBits) else ""
    return text if method.penalty is None else f"{text} + {method.penalty.label}"
