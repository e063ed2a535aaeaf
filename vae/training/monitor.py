"""The number that is watched in training: the epoch that has least of it is the best one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lso.vae.config.components import ImportanceWeighted
from lso.vae.config.methods import Method
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Data, passes
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.metrics.passes import draw_normals, eval_mode, pass_size, to_model_input
from lso.vae.models.vae import VAE
from lso.vae.objectives.elbo import counted_kl, evaluate, samples
from lso.vae.objectives.reencoding import penalty_of
from lso.vae.utils.random import generator


def monitored_value(
    config: TrainConfig, model: VAE, x: Data, q: DiagonalGaussian, values: Mapping[str, float | int]
) -> float | None:
    """What the best epoch has least of, on the validation split, as `Protocol.monitor` has it.

    Args:
        config: of the training.
        model: the VAE; left in the mode it was found in.
        x: the split.
        q: ``(n, latent)`` its posteriors.
        values: its row, of `lso.vae.metrics.evaluation.validate`.
    Returns:
        Nats a datum; None where the last epoch is kept, whatever it has.
    """
    rule = config.protocol.monitor
    if rule == "last":
        return None
    if rule == "elbo":
        return float(values["neg_elbo"])
    if rule == "objective":
        return float(values["reconstruction"] + config.method.schedule.end * values["kl"])
    return full_loss(config.method, model, x, q, float(values["reconstruction"]), config.seed)


@torch.no_grad()
def full_loss(method: Method, model: VAE, x: Data, q: DiagonalGaussian, reconstruction: float, seed: int) -> float:
    """What a method minimizes, at its last KL weight and with its penalty, as a mean over a split.

    Without penalty and importance weights it follows from numbers that are there. Else the split is decoded once more
    for each sample, and with a penalty encoded once more. Free bits over a batch take the split as the batch.

    Args:
        method: the point on the axes.
        model: the VAE; left in the mode it was found in.
        x: the split.
        q: ``(n, latent)`` its posteriors.
        reconstruction: of `lso.vae.metrics.evaluation.validate` at this seed, whose codes these are.
        seed: of all draws; the same seed at every epoch makes epochs comparable.
    Returns:
        Nats a datum, with a squared re-encoding error that is dimensionless.
    """
    objective = method.objective
    weighted = isinstance(objective, ImportanceWeighted)
    parts = _sums(method, model, x, q, seed) / len(x) if weighted or method.penalty else torch.zeros(2)
    bound, penalty = parts.tolist()
    if not isinstance(objective, ImportanceWeighted):
        bound = reconstruction + method.schedule.end * counted_kl(objective, q.kl().double()).mean().item()
    return float(bound + penalty)


def _sums(method: Method, model: VAE, x: Data, q: DiagonalGaussian, seed: int) -> Tensor:
    """Objective and penalty, summed over the data."""
    count, penalty = samples(method.objective), method.penalty
    names = ["posterior", *(f"watched/{i}" for i in range(1, count))]  # the first code is that of the row
    first = torch.stack([draw_normals(model, x, seed, name) for name in names])  # (K, n, latent)
    second = draw_normals(model, x, seed, "reencoding")
    stream = generator(seed, "metrics/watched/shown")
    hard = penalty is not None and penalty.reconstruction == "hard"
    shown = torch.rand((len(x), *x.shape[1:]), generator=stream) if hard else None
    weight = q.mean.new_tensor(method.schedule.end)
    total = torch.zeros(2, dtype=torch.float64, device=q.mean.device)
    with eval_mode(model):
        for rows in passes(x, max(1, pass_size(model) // count)):
            data = to_model_input(model, x, rows)
            terms = evaluate(method.objective, model, data, q[rows], first[:, rows], weight)
            total[0] += terms.loss.double().sum()
            if penalty:
                drawn = None if shown is None else shown[rows][:, : data.shape[1]].to(data.device)  # as long as these
                cost = penalty_of(penalty, model, terms.z, terms.likelihood, second[rows], drawn)
                total[1] += cost.double().sum()
    return total
